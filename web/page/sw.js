// Keeps the site for when there is no network: all of it, as it was built.
const VERSION = "__VERSION__";
const FILES = ["__FILES__"];
const NAME = `deepj-${VERSION}`;

self.addEventListener("install", (event) => {
  const fill = async () => {
    const cache = await caches.open(NAME);
    await cache.addAll(FILES.map((file) => new Request(`./${file}`, { cache: "no-cache" })));
  };
  event.waitUntil(fill());
});

self.addEventListener("activate", (event) => {
  const tidy = async () => {
    const names = await caches.keys();
    const old = names.filter((name) => name.startsWith("deepj-") && name !== NAME);
    await Promise.all(old.map((name) => caches.delete(name)));
    await self.clients.claim();
  };
  event.waitUntil(tidy());
});

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || url.origin !== location.origin) return;
  const answer = async () => {
    const cache = await caches.open(NAME);
    const page = url.pathname.endsWith("/") ? new URL("./index.html", url).href : url.origin + url.pathname;
    const kept = await cache.match(page);
    // Pages are looked for anew where there is a network, so that a new build is seen; all else has a name by its content.
    if (event.request.mode !== "navigate") return kept ?? fetch(event.request);
    try {
      const fresh = await fetch(event.request);
      return fresh.ok ? fresh : (kept ?? fresh);
    } catch (error) {
      if (kept) return kept;
      throw error;
    }
  };
  event.respondWith(answer());
});
