// The service worker: it keeps the page's files, so that the page works without a network. `littlefoot export` writes
// their list and so a new version whenever one of them changes; a file that is not the listed one is not kept.

const FILES = {}; // name -> SHA-256, in hex
const VERSION = "";

// Other pages of this server have names of their own.
const PREFIX = `littlefoot ${self.registration.scope} `;
const CACHE = PREFIX + VERSION;

self.addEventListener("install", (event) => event.waitUntil(store()));
self.addEventListener("activate", (event) => event.waitUntil(removeOld()));
self.addEventListener("fetch", (event) => {
  const name = nameOf(event.request.url);
  if (event.request.method === "GET" && Object.hasOwn(FILES, name)) event.respondWith(answer(event.request, name));
});

async function store() {
  const cache = await caches.open(CACHE);
  await Promise.all(
    Object.entries(FILES).map(async ([name, expected]) => {
      const response = await fetch(name, { cache: "no-cache" });
      const digest = await crypto.subtle.digest("SHA-256", await response.clone().arrayBuffer());
      const found = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
      if (!response.ok || found !== expected) throw new Error(`${name} is not the file of this version`);
      await cache.put(name, response);
    }),
  );
}

async function removeOld() {
  const old = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== CACHE);
  await Promise.all(old.map((name) => caches.delete(name)));
}

async function answer(request, name) {
  const cache = await caches.open(CACHE);
  return (await cache.match(name)) ?? fetch(request);
}

function nameOf(address) {
  const { origin, pathname } = new URL(address);
  const scope = new URL(self.registration.scope);
  if (origin !== scope.origin || !pathname.startsWith(scope.pathname)) return "";
  return pathname.slice(scope.pathname.length) || "index.html";
}
