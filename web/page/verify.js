// The page that verifies: it has the worker do the tasks of each device, and goes on with another worker where one comes to a bad end.
import { Client, inWords } from "./client.js";
import { $, offline, save, state, trouble } from "./common.js";

/** After so long without a word a worker hangs. */
const SILENCE = 300_000;
/** Workers of a device that may end badly before the rest of its tasks is given up. */
const MOST_CRASHES = 8;

const client = new Client();
let running = null;
let devices = [];
let made = null;
let summarized = 0;

/** The browser and its system, without versions that say who it is. */
function browser() {
  const brands = navigator.userAgentData?.brands?.filter(({ brand }) => !/not.?a.?brand/i.test(brand)) ?? [];
  const brand = brands.find(({ brand }) => brand !== "Chromium") ?? brands[0];
  const system = navigator.userAgentData?.platform || navigator.platform || "unknown system";
  const known = /(Firefox|Edg|OPR|Chrome|Version)\/(\d+)/.exec(navigator.userAgent);
  const name = brand ? `${brand.brand} ${brand.version}` : known ? `${known[1] === "Version" ? "Safari" : known[1]} ${known[2]}` : "a browser";
  return `${name} on ${system}`;
}

/** Does the tasks of one device. */
async function one(device, { only, quick }) {
  const began = performance.now();
  let [next, crashes] = [0, 0];
  for (;;) {
    let [total, ended, heard] = [device.total ?? 0, false, performance.now()];
    const listen = ({ detail }) => {
      heard = performance.now();
      device.seconds = (heard - began) / 1000;
      device.told.push(detail);
      if (detail.tasks) device.total = total = detail.tasks.tasks;
      if (detail.begun) {
        next = detail.begun.task + 1;
        shown(device, detail.begun.name, next - 1, total);
      }
      if (detail.checked) device.passed += detail.checked.outcome.passed ? 1 : 0;
      if (detail === "end" || "end" in Object(detail)) ended = true;
    };
    client.addEventListener("verify", listen);
    const watch = setInterval(() => {
      if (performance.now() - heard > SILENCE) client.restart(`no word for ${SILENCE / 1000} s: it hangs`);
    }, 1000);
    let why = "";
    try {
      await client.call("verify", { cpu: device.cpu, from: next, only, quick });
    } catch (error) {
      why = inWords(error);
      if (!running) return;
      // What crashed cannot be called again.
      if (error.kind !== "stopped") client.restart(why);
    } finally {
      clearInterval(watch);
      client.removeEventListener("verify", listen);
      device.seconds = (performance.now() - began) / 1000;
    }
    if (!why || ended) return void (device.ended = true);
    if (next === 0) {
      device.told.push({ closed: why });
      return void (device.ended = true);
    }
    device.told.push({ crash: why });
    if (next >= total) return void (device.ended = true);
    if (++crashes === MOST_CRASHES) return;
  }
}

function shown(device, name, done, total) {
  const before = devices.slice(0, -1).reduce((sum, { total = 0 }) => sum + total, 0);
  $("done").max = Math.max(before + total, 1);
  $("done").value = before + done;
  $("now").textContent = `${device.name}: ${done} of ${total}, ${name}`;
  if (Math.floor(done / 50) !== Math.floor((done - 1) / 50)) state(`${device.name}: ${done} of ${total} checks.`);
  // Making the report takes longer than a small check.
  if (performance.now() - summarized > 5000) {
    summarized = performance.now();
    summarize(false).catch(trouble);
  }
}

/** Makes the report of what is known so far, and shows it. */
async function summarize(complete) {
  const notes = [];
  if ($("only").value) notes.push(`only checks whose name contains \`${$("only").value}\` were to be run`);
  if ($("extent").value === "quick") notes.push("only the largest case of each kernel was to be run");
  const told = devices.map(({ capabilities, told, seconds, ended }) => ({ capabilities, told, seconds, ended }));
  const answer = JSON.parse(await client.call("report", { devices: told, browser: browser(), complete, notes }));
  made = answer;
  const report = JSON.parse(answer.report);
  const rows = [];
  for (const [i, device] of report.devices.entries()) {
    const name = devices[i].name;
    for (const row of device.checks) {
      const share = row.worst.share;
      const near = row.passed ? (share === 0 ? "exact" : `${Math.max(100 * share, 0.01).toFixed(share < 0.1 ? 2 : 0)} %`) : "";
      rows.push([name, row.name, `${row.passed} of ${row.cases}`, near, row.passed < row.cases]);
    }
  }
  $("table").tBodies[0].replaceChildren(
    ...rows.map(([...cells]) => {
      const bad = cells.pop();
      const line = document.createElement("tr");
      line.append(...cells.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
      if (bad) line.className = "bad";
      return line;
    }),
  );
  $("summary").textContent = answer.devices.map(([text]) => text).join("\n");
  for (const id of ["download", "copy", "issue"]) $(id).disabled = false;
  return answer;
}

function verdict(answer) {
  const lines = answer.devices.map(([, defects], i) => {
    const line = document.createElement("p");
    const name = devices[i].name;
    line.className = defects.length ? "bad" : "good";
    line.textContent = defects.length ? `${name}: ${defects.length === 1 ? "1 failure" : `${defects.length} failures`}. ${defects[0]}` : `${name}: all is as it must be.`;
    return line;
  });
  $("verdict").replaceChildren(...lines);
}

async function start() {
  trouble(null);
  running = { only: $("only").value.trim(), quick: $("extent").value === "quick" };
  devices = [];
  delete document.documentElement.dataset.verified;
  $("verdict").replaceChildren();
  $("table").tBodies[0].replaceChildren();
  $("summary").textContent = $("now").textContent = "";
  $("done").value = 0;
  for (const id of ["download", "copy", "issue", "start"]) $(id).disabled = true;
  $("issue-link").hidden = true;
  $("stop").disabled = false;
  state("Verifying …");
  try {
    const wanted = [];
    if ($("with-cpu").checked) wanted.push({ cpu: true, name: "CPU", capabilities: null });
    if ($("with-gpu").checked) {
      try {
        const found = await client.call("device", { choice: "gpu" });
        wanted.push({ cpu: false, name: found.name, capabilities: found.capabilities });
      } catch (error) {
        trouble(error);
      }
    }
    if (!wanted.length) throw Object.assign(new Error("there is no device to verify"), { remedy: "choose the CPU" });
    for (const device of wanted) {
      devices.push(Object.assign(device, { told: [], seconds: 0, ended: false, passed: 0 }));
      if (!running) break;
      await one(device, running);
    }
    const whole = running !== null && !running.only && !running.quick && devices.every(({ ended }) => ended);
    const answer = await summarize(whole);
    verdict(answer);
    if (running) $("done").value = $("done").max;
    const bad = answer.devices.filter(([, defects]) => defects.length).length;
    state(running === null ? "Stopped; what was found is below." : bad ? "Not all is as it must be." : "All is as it must be.");
    document.documentElement.dataset.verified = bad ? "bad" : "good";
  } catch (error) {
    trouble(error);
    state("Verification ended early.");
    document.documentElement.dataset.verified = "failed";
  }
  running = null;
  $("start").disabled = false;
  $("stop").disabled = true;
}

$("start").onclick = start;
$("stop").onclick = () => {
  running = null;
  client.restart("it was stopped");
};
$("download").onclick = () => save("deepj-report.json", made.report, "application/json");
const copy = async (text, said) => {
  try {
    await navigator.clipboard.writeText(text);
    state(said);
  } catch {
    trouble("The browser does not let the page copy; download the report, or mark the summary and copy it.");
  }
};
/** Title and body of an issue. */
function issue() {
  const report = JSON.parse(made.report);
  const names = report.devices.filter(({ capabilities }) => capabilities).map(({ machine }) => machine.adapter);
  const title = `[device] ${names.join(", ") || "CPU"} in ${browser()}`;
  const failures = made.devices.flatMap(([, defects]) => defects).slice(0, 20);
  const wrong = failures.length ? `\n\nWhat is not as it must be:\n\n${failures.map((text) => `- ${text}`).join("\n")}` : "";
  return { title, body: `${$("summary").textContent}${wrong}\n\nThe report is attached (deepj-report.json).` };
}
$("copy").onclick = () => copy(made.report, "The report is copied.");
$("issue").onclick = () => {
  const { title, body } = issue();
  copy(`${title}\n\n${body}`, "A text for an issue is copied; attach the report to it.");
  const repository = document.querySelector('meta[name="repository"]')?.content;
  if (!repository) return;
  const query = new URLSearchParams({ title, body: body.slice(0, 5000) });
  $("issue-link").href = `${repository}/issues/new?${query}`;
  $("issue-link").hidden = false;
};

const query = new URLSearchParams(location.search);
if (query.has("only")) $("only").value = query.get("only");
if (["quick", "all"].includes(query.get("extent"))) $("extent").value = query.get("extent");
try {
  const { version } = await client.call("load");
  state(`Ready: deepj ${version}.`);
  $("start").disabled = false;
  if (!navigator.gpu) {
    $("with-gpu").checked = false;
    $("with-gpu").disabled = true;
    trouble("This browser has no WebGPU, so only the CPU can be verified. Chrome and Edge have it on most systems; Safari from version 26, Firefox on Windows and on Macs.");
  }
} catch (error) {
  trouble(error);
  state("The page cannot verify.");
}
await offline();
document.documentElement.dataset.ready = "1";
