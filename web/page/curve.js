// Curves of losses, on a canvas and as a table.

/** Draws losses, pairs of update and loss, as curves: of updates thin, of validations thick. */
export function drawCurve(canvas, losses, validations) {
  const scale = globalThis.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  const context = canvas.getContext("2d");
  if (!width || !context) return;
  canvas.width = width * scale;
  canvas.height = height * scale;
  context.setTransform(scale, 0, 0, scale, 0, 0);
  const style = getComputedStyle(canvas);
  const [ink, line, accent] = ["--soft", "--line", "--accent"].map((name) => style.getPropertyValue(name).trim());
  context.font = "12px system-ui, sans-serif";
  context.fillStyle = ink;
  const all = [...losses, ...validations];
  if (!all.length) {
    context.fillText("The curve of the loss appears here.", 12, 24);
    return;
  }
  const [left, bottom, top] = [52, height - 28, 12];
  const steps = all.map(([step]) => step);
  const [low, high] = [Math.min(...all.map(([, loss]) => loss)), Math.max(...all.map(([, loss]) => loss))];
  const [first, last] = [Math.min(...steps), Math.max(...steps, Math.min(...steps) + 1)];
  const x = (step) => left + ((step - first) / (last - first)) * (width - left - 12);
  const y = (loss) => bottom - ((loss - low) / Math.max(high - low, 1e-9)) * (bottom - top);
  for (const part of [0, 0.5, 1]) {
    const loss = low + part * (high - low);
    context.fillStyle = line;
    context.fillRect(left, y(loss), width - left - 12, 1);
    context.fillStyle = ink;
    context.fillText(loss.toPrecision(3), 4, y(loss) + 4);
  }
  context.fillText(`update ${first}`, left, height - 8);
  const end = `${last}`;
  context.fillText(end, width - 14 - context.measureText(end).width, height - 8);
  context.strokeStyle = ink;
  context.lineWidth = 1;
  context.beginPath();
  losses.forEach(([step, loss], i) => (i ? context.lineTo(x(step), y(loss)) : context.moveTo(x(step), y(loss))));
  context.stroke();
  context.fillStyle = accent;
  context.strokeStyle = accent;
  context.lineWidth = 2;
  context.beginPath();
  validations.forEach(([step, loss], i) => (i ? context.lineTo(x(step), y(loss)) : context.moveTo(x(step), y(loss))));
  context.stroke();
  for (const [step, loss] of validations) {
    context.beginPath();
    context.arc(x(step), y(loss), 4, 0, 2 * Math.PI);
    context.fill();
  }
}

/** Writes losses into a table: of updates about fifty. */
export function tableOf(table, losses, validations) {
  const every = Math.max(1, Math.ceil(losses.length / 50));
  const rows = new Map();
  losses.forEach(([step, loss], i) => (i % every === 0 || i === losses.length - 1) && rows.set(step, [loss, null]));
  for (const [step, loss] of validations) rows.set(step, [rows.get(step)?.[0] ?? null, loss]);
  const cell = (text) => Object.assign(document.createElement("td"), { textContent: text });
  const shown = (loss) => (loss === null ? "" : loss.toFixed(4));
  const lines = [...rows.entries()].sort(([a], [b]) => a - b).map(([step, [loss, held]]) => {
    const line = document.createElement("tr");
    line.append(cell(String(step)), cell(shown(loss)), cell(shown(held)));
    return line;
  });
  table.tBodies[0].replaceChildren(...lines);
}
