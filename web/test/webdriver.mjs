// Firefox and WebKit as Debian has them, by WebDriver: Firefox's own protocol, Marionette, which needs no other program, and
// WebKitWebDriver's HTTP. Playwright 1.65 asks Firefox for what 153 has not, and takes only a WebKit of its own.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import net from "node:net";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { FOLDER } from "./browser.mjs";

const FIREFOX = process.env.FIREFOX ?? "/usr/bin/firefox-esr";
const WEBKIT = process.env.WEBKIT ?? "/usr/lib/x86_64-linux-gnu/webkit2gtk-4.1/MiniBrowser";
const DRIVER = "/usr/bin/WebKitWebDriver";
/** Their home, where downloads go. */
const ENV = { ...process.env, HOME: FOLDER };
/** Milliseconds that a browser may take to begin, a page to load and a script to run. */
const MOST = 300_000;

/** What is there of the two browsers. */
export const BROWSERS = {
  Firefox: existsSync(FIREFOX) ? firefox : null,
  WebKit: [WEBKIT, DRIVER, "/usr/bin/xvfb-run"].every(existsSync) ? webkit : null,
};

/** Asks again and again until there is an answer. */
async function patiently(ask) {
  for (const begun = Date.now(); ; await wait(200)) {
    try {
      return await ask();
    } catch (error) {
      if (Date.now() - begun > MOST) throw error;
    }
  }
}

/** Firefox; its commands are named as in Marionette. */
async function firefox(preferences) {
  const profile = mkdtempSync(join(FOLDER, "firefox-"));
  const lines = Object.entries({ "marionette.port": 0, ...preferences }).map((pair) => `user_pref(${pair.map((part) => JSON.stringify(part)).join(", ")});\n`);
  writeFileSync(join(profile, "user.js"), lines.join(""));
  const program = spawn(FIREFOX, ["--headless", "--marionette", "--no-remote", "--profile", profile], { stdio: "ignore", env: ENV });
  const port = await patiently(() => {
    const text = readFileSync(join(profile, "MarionetteActivePort"), "utf8");
    if (!text) throw new Error("Firefox has not begun");
    return Number(text);
  });
  const socket = await patiently(
    () => new Promise((resolve, reject) => {
      const tried = net.connect(port, "127.0.0.1", () => resolve(tried)).on("error", reject);
    }),
  );
  const asked = new Map();
  let bytes = Buffer.alloc(0);
  socket.on("data", (more) => {
    // Each message has its length in front: `length:json`.
    bytes = Buffer.concat([bytes, more]);
    for (let colon; (colon = bytes.indexOf(":")) > 0; ) {
      const end = colon + 1 + Number(bytes.subarray(0, colon));
      if (bytes.length < end) return;
      const message = JSON.parse(bytes.subarray(colon + 1, end));
      bytes = bytes.subarray(end);
      // The first says which protocol it is.
      if (!Array.isArray(message)) continue;
      const [, id, error, result] = message;
      const { resolve, reject } = asked.get(id);
      asked.delete(id);
      if (error) reject(new Error(`${error.error}: ${error.message}`));
      else resolve(result !== null && "value" in result ? result.value : result);
    }
  });
  let last = 0;
  const ask = (command, detail = {}) => {
    const text = JSON.stringify([0, ++last, command, detail]);
    socket.write(`${Buffer.byteLength(text)}:${text}`);
    return new Promise((resolve, reject) => asked.set(last, { resolve, reject }));
  };
  await ask("WebDriver:NewSession", { capabilities: { alwaysMatch: {} } });
  const ended = new Promise((resolve) => program.on("exit", resolve));
  return session(ask, async () => {
    await ask("Marionette:Quit", { flags: ["eForceQuit"] }).catch(() => {});
    await ended;
    socket.destroy();
  });
}

/** The paths of WebKit's commands. */
const PATHS = {
  "WebDriver:SetTimeouts": ["POST", "timeouts"],
  "WebDriver:Navigate": ["POST", "url"],
  "WebDriver:FindElement": ["POST", "element"],
  "WebDriver:ElementClick": ["POST", "element/ID/click"],
  "WebDriver:ElementSendKeys": ["POST", "element/ID/value"],
  "WebDriver:PerformActions": ["POST", "actions"],
  "WebDriver:ExecuteAsyncScript": ["POST", "execute/async"],
  "WebDriver:TakeScreenshot": ["GET", "screenshot"],
  "WebDriver:DeleteSession": ["DELETE", ""],
};

/** WebKit's MiniBrowser, on a screen that nobody sees. */
async function webkit() {
  const port = await new Promise((resolve) => {
    const free = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = free.address();
      free.close(() => resolve(port));
    });
  });
  const given = ["-a", "-s", "-screen 0 1400x1000x24", DRIVER, `--port=${port}`];
  const program = spawn("/usr/bin/xvfb-run", given, { stdio: "ignore", env: ENV, detached: true });
  const send = async (method, path, detail) => {
    const answer = await fetch(`http://127.0.0.1:${port}/session${path}`, { method, body: method === "POST" ? JSON.stringify(detail) : undefined });
    const { value } = await answer.json();
    if (!answer.ok) throw new Error(`${path}: ${value.error}: ${value.message}`);
    return value;
  };
  const options = { "webkitgtk:browserOptions": { binary: WEBKIT, args: ["--automation"] } };
  const { sessionId } = await patiently(() => send("POST", "", { capabilities: { alwaysMatch: options } }));
  const ask = (command, { id, ...detail } = {}) => {
    const [method, path] = PATHS[command];
    return send(method, `/${sessionId}/${path.replace("ID", id)}`.replace(/\/$/, ""), detail);
  };
  return session(ask, async () => {
    await ask("WebDriver:DeleteSession").catch(() => {});
    process.kill(-program.pid);
  });
}

/** What the tests do with a browser. */
async function session(ask, close) {
  await ask("WebDriver:SetTimeouts", { script: MOST, pageLoad: MOST, implicit: 0 });
  const element = async (selector) => Object.values(await ask("WebDriver:FindElement", { using: "css selector", value: selector }))[0];
  const browser = {
    close,
    /** Calls a function in the page; resolves to what it resolves to. */
    async run(call, ...args) {
      const script = `const given = [...arguments], done = given.pop();
        (async () => (${call})(...given))().then((value) => done({ value }), (error) => done({ error: String(error) }));`;
      const { value, error } = await ask("WebDriver:ExecuteAsyncScript", { script, args });
      if (error) throw new Error(error);
      return value;
    },
    text: (id) => browser.run((id) => document.getElementById(id).textContent, id),
    /** Waits until a function in the page returns what is true. */
    async until(call, ...args) {
      for (const begun = Date.now(); !(await browser.run(call, ...args)); await wait(200)) {
        if (Date.now() - begun > MOST) throw new Error(`waited for ${call} ${args}: ${await browser.text("state")} ${await browser.text("trouble")}`);
      }
    },
    /** Waits until an element says so. */
    said: (id, words) => browser.until((id, words) => document.getElementById(id).textContent.includes(words), id, words),
    async go(url) {
      await ask("WebDriver:Navigate", { url });
      await browser.ready();
    },
    /** As a visitor does; Marionette's own goes past the service worker. */
    async reload() {
      await browser.run(() => {
        delete document.documentElement.dataset.ready;
        setTimeout(() => location.reload());
      });
      await patiently(browser.ready);
    },
    /** Waits for a page, and keeps its errors and what it saves. */
    async ready() {
      await browser.until(() => document.documentElement.dataset.ready === "1");
      if (/^The page cannot/.test(await browser.text("state"))) throw new Error(await browser.text("trouble"));
      await browser.run(() => {
        const { createObjectURL } = URL;
        Object.assign(window, { saved: [], errors: [] });
        URL.createObjectURL = (blob) => {
          window.saved.push(blob);
          return createObjectURL.call(URL, blob);
        };
        addEventListener("error", ({ message }) => window.errors.push(message));
        addEventListener("unhandledrejection", ({ reason }) => window.errors.push(String(reason)));
      });
    },
    click: async (selector) => ask("WebDriver:ElementClick", { id: await element(selector) }),
    /** Types into an input, or gives it a file by its path. */
    type: async (selector, text) => ask("WebDriver:ElementSendKeys", { id: await element(selector), text }),
    /** Presses keys one after the other. */
    press: (...keys) =>
      ask("WebDriver:PerformActions", {
        actions: [{ type: "key", id: "keyboard", actions: keys.flatMap((value) => ["keyDown", "keyUp"].map((type) => ({ type, value }))) }],
      }),
    /** The bytes that a button has the browser save. */
    async download(selector) {
      const before = await browser.run(() => window.saved.length);
      await browser.click(selector);
      // The page tells that it makes the file, or why not; only a click that missed a button that moved tells nothing.
      if (!/file/.test(await browser.text("state"))) await browser.click(selector);
      await browser.until((before) => window.saved.length > before, before);
      const text = await browser.run(
        (before) =>
          new Promise((resolve) => {
            const reader = new FileReader();
            reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
            reader.readAsDataURL(window.saved[before]);
          }),
        before,
      );
      return Buffer.from(text, "base64");
    },
    async picture(path) {
      writeFileSync(path, Buffer.from(await ask("WebDriver:TakeScreenshot"), "base64"));
    },
  };
  return browser;
}
