// Serves web/dist on 127.0.0.1: `node web/serve.mjs [PORT]`. Any other server of files does as well.
import { createReadStream, statSync } from "node:fs";
import http from "node:http";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".wasm": "application/wasm",
  ".svg": "image/svg+xml",
  ".json": "application/json",
  ".webmanifest": "application/manifest+json",
  ".txt": "text/plain; charset=utf-8",
  ".mid": "audio/midi",
};
export const DIST = join(dirname(fileURLToPath(import.meta.url)), "dist");

/** Serves a folder on a port of its own choice unless one is given; resolves to the server. */
export function serve(folder = DIST, port = 0) {
  const server = http.createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, "http://localhost").pathname)).replace(/\/$/, "/index.html");
    const file = join(folder, path);
    let size;
    try {
      if (!file.startsWith(folder)) throw new Error("outside");
      size = statSync(file).size;
    } catch {
      response.writeHead(404).end("not found");
      return;
    }
    const headers = { "content-type": TYPES[extname(file)] ?? "application/octet-stream", "content-length": size };
    response.writeHead(200, { ...headers, "cache-control": "no-cache" });
    createReadStream(file).pipe(response);
  });
  return new Promise((resolve) => server.listen(port, "127.0.0.1", () => resolve(server)));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const server = await serve(DIST, Number(process.argv[2] ?? 8000));
  console.log(`http://127.0.0.1:${server.address().port}/`);
}
