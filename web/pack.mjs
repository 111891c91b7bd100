// Puts the site together: `node web/pack.mjs FOLDER`, where FOLDER has what wasm-bindgen made. Files get names by their content, so
// that browsers may keep them for ever; the pages and the service worker keep theirs.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

/** The most that the wasm module, and all that is downloaded for a piece, may have, compressed, in bytes. */
const WASM_MOST = 1_200_000;
const ALL_MOST = 5_000_000;

const web = dirname(fileURLToPath(import.meta.url));
const root = dirname(web);
const made = process.argv[2];
const dist = join(web, "dist");

/** All files by the names by which modules refer to them. */
const files = new Map();
const read = (name, path) => files.set(name, readFileSync(path));
for (const name of readdirSync(join(web, "page"))) read(name, join(web, "page", name));
for (const name of ["deepj_web.js", "deepj_web_bg.wasm"]) read(name, join(made, name));
read("weights.safetensors", join(root, "data/weights/deepj.safetensors"));
files.set(
  "licence.txt",
  Buffer.concat(["data/weights/LICENSE", "LICENSE-MIT", "LICENSE-APACHE"].map((name) => Buffer.concat([readFileSync(join(root, name)), Buffer.from("\n\n")]))),
);
for (const name of readdirSync(join(root, "docs/listen"))) {
  if (name.endsWith(".mid")) read(`pieces/${name}`, join(root, "docs/listen", name));
}

/** The paths of all MIDI files below a folder, in order. */
function midi(folder, below = "") {
  const entries = readdirSync(join(folder, below), { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
  return entries.flatMap((entry) => {
    const path = below ? `${below}/${entry.name}` : entry.name;
    return entry.isDirectory() ? midi(folder, path) : path.endsWith(".mid") ? [path] : [];
  });
}
const corpus = midi(join(root, "data")).map((path) => [path, readFileSync(join(root, "data", path))]);
const listedCorpus = JSON.stringify(corpus.map(([path, bytes]) => [path, bytes.length]));
files.set("corpus.bin", Buffer.concat([Buffer.from(`${listedCorpus}\n`), ...corpus.map(([, bytes]) => bytes)]));

const isText = (name) => [".js", ".css", ".html", ".webmanifest"].includes(extname(name));
const keepsItsName = (name) => name.endsWith(".html") || name === "sw.js";
const named = new Map();

/** The file's name in the site, once all that it refers to have theirs. */
function finished(name, above = []) {
  if (named.has(name)) return named.get(name);
  if (above.includes(name)) throw new Error(`modules import each other: ${[...above, name].join(" -> ")}`);
  let bytes = files.get(name);
  if (isText(name) && name !== "sw.js") {
    const text = bytes.toString("utf8").replace(/(["'(`])\.\/([\w./${}-]+)/g, (whole, quote, other) => {
      if (other.includes("${")) return whole;
      if (!files.has(other)) {
        // wasm-bindgen's own default, which is not used.
        if (!isText(name) || !name.endsWith(".js")) throw new Error(`${name} refers to ${other}, which is not there`);
        return whole;
      }
      return `${quote}./${keepsItsName(other) ? other : finished(other, [...above, name])}`;
    });
    bytes = Buffer.from(text);
    files.set(name, bytes);
  }
  const hash = createHash("sha256").update(bytes).digest("hex").slice(0, 10);
  const [folder, extension] = [dirname(name), extname(name)];
  const plain = `${basename(name, extension)}-${hash}${extension}`;
  named.set(name, keepsItsName(name) ? name : folder === "." ? plain : `${folder}/${plain}`);
  return named.get(name);
}

// Names that are put together while the page runs are written out before.
const compose = files.get("compose.js").toString("utf8");
const pieces = [...files.keys()].filter((name) => name.startsWith("pieces/"));
const listed = pieces.map((name) => `  "${basename(name, ".mid")}": new URL("./${name}", import.meta.url).href,`).join("\n");
const marked = /const PIECES = [^\n]*;\n/;
if (!marked.test(compose)) throw new Error("compose.js has no list of pieces");
files.set("compose.js", Buffer.from(compose.replace(marked, `const PIECES = {\n${listed}\n};\n`)));

// Where issues are opened, if the builder says so.
const repository = process.env.DEEPJ_REPOSITORY?.replace(/\/$/, "");
if (repository) {
  if (!/^https:\/\/[\w.\/-]+$/.test(repository)) throw new Error(`DEEPJ_REPOSITORY=${repository}: give an address that begins with https://`);
  const page = files.get("verify.html").toString("utf8");
  files.set("verify.html", Buffer.from(page.replace("</title>", `</title>\n    <meta name="repository" content="${repository}">`)));
}

for (const name of files.keys()) finished(name);
const all = [...named.values()].filter((name) => name !== "sw.js").sort();
const state = createHash("sha256").update(all.map((name) => name).join("\n"));
for (const [name, place] of named) if (keepsItsName(name) && name !== "sw.js") state.update(place).update(files.get(name));
const version = state.digest("hex").slice(0, 12);
const worker = files.get("sw.js").toString("utf8").replace("__VERSION__", version).replace('["__FILES__"]', JSON.stringify(all));
files.set("sw.js", Buffer.from(worker));

rmSync(dist, { recursive: true, force: true });
const sizes = {};
for (const [name, place] of named) {
  const [bytes, path] = [files.get(name), join(dist, place)];
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, bytes);
  sizes[place] = { bytes: bytes.length, gzip: gzipSync(bytes, { level: 9 }).length };
}
const of = (test) => Object.entries(sizes).filter(([name]) => test(name)).reduce((sum, [, { gzip }]) => sum + gzip, 0);
const report = {
  version,
  wasm_gzip: of((name) => name.endsWith(".wasm")),
  weights_gzip: of((name) => name.endsWith(".safetensors")),
  all_gzip: of(() => true),
  files: sizes,
};
writeFileSync(join(dist, "sizes.json"), `${JSON.stringify(report, null, 2)}\n`);
const line = (what, bytes, most) => `${what}: ${(bytes / 1e6).toFixed(3)} MB gzipped, at most ${(most / 1e6).toFixed(1)}`;
console.log(line("wasm", report.wasm_gzip, WASM_MOST));
console.log(line("all with weights", report.all_gzip, ALL_MOST));
if (report.wasm_gzip > WASM_MOST || report.all_gzip > ALL_MOST) {
  console.error("the site is larger than it may be: web/dist/sizes.json has what is in it");
  process.exit(1);
}
