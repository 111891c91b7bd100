// The piano roll: on a canvas, in the colours of `deepj roll --svg`, and as text.

/** Colours of the velocities 1 to 127, at equal distances (src/music/svg.rs). */
const COLOURS = [
  [244, 200, 150],
  [238, 128, 80],
  [200, 60, 104],
  [122, 34, 130],
  [40, 14, 84],
];

/** On a dark page the loudest are the lightest. */
const DARK = [
  [92, 62, 120],
  [150, 66, 140],
  [214, 84, 112],
  [242, 140, 92],
  [252, 214, 160],
];

function colour(velocity, dark) {
  const colours = dark ? DARK : COLOURS;
  const place = ((Math.min(Math.max(velocity, 1), 127) - 1) / 126) * (colours.length - 1);
  const from = Math.min(Math.floor(place), colours.length - 2);
  const part = place - from;
  const [r, g, b] = [0, 1, 2].map((i) => Math.round(colours[from][i] * (1 - part) + colours[from + 1][i] * part));
  return `rgb(${r} ${g} ${b})`;
}

const NAMES = ["C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B"];

/** A pitch in words: C4 is middle C. */
export function pitchName(pitch) {
  return NAMES[pitch % 12] + (Math.floor(pitch / 12) - 1);
}

const SIGNS = [[24, "very soft"], [56, "soft"], [80, "medium"], [104, "loud"], [128, "very loud"]];

/** How loud a velocity is, in words. */
export function loudness(velocity) {
  return SIGNS.find(([below]) => velocity < below)[1];
}

/** What was played so far, with times in seconds. */
export class Roll {
  notes = [];
  bars = [];
  end = 0;
  /** Octaves that are drawn: those of a usual piece, and what lies beyond. */
  lowest = 36;
  highest = 83;
  /** Seconds of the longest note. */
  #longest = 0;
  #open = new Map();

  /** Takes in a part. */
  add({ events, until, bars = [] }) {
    for (const [seconds, pitch, velocity] of events) {
      const open = this.#open.get(pitch);
      if (open) {
        open.end = seconds;
        this.#longest = Math.max(this.#longest, seconds - open.start);
        this.#open.delete(pitch);
      }
      if (velocity) {
        const note = { pitch, velocity, start: seconds, end: null, again: open !== undefined };
        this.notes.push(note);
        this.lowest = Math.min(this.lowest, pitch);
        this.highest = Math.max(this.highest, pitch);
        this.#open.set(pitch, note);
      }
    }
    this.bars.push(...bars);
    this.end = Math.max(this.end, until);
    for (const { start } of this.#open.values()) this.#longest = Math.max(this.#longest, this.end - start);
  }

  /** The notes that may sound between two times. They lie in the order of their beginnings. */
  *between(from, to) {
    let [first, beyond] = [0, this.notes.length];
    while (first < beyond) {
      const middle = (first + beyond) >> 1;
      if (this.notes[middle].start < from - this.#longest) first = middle + 1;
      else beyond = middle;
    }
    for (; first < this.notes.length && this.notes[first].start <= to; first++) yield this.notes[first];
  }

  /** The notes that begin in a bar, counted from 0. */
  ofBar(bar) {
    const [from, to] = [this.bars[bar], this.bars[bar + 1] ?? Infinity];
    return this.notes.filter(({ start }) => start >= from - 1e-6 && start < to - 1e-6);
  }

  /** A bar in words. */
  inWords(bar) {
    const notes = this.ofBar(bar);
    if (!notes.length) return "nothing begins";
    const mean = notes.reduce((sum, { velocity }) => sum + velocity, 0) / notes.length;
    const times = new Map();
    for (const { start, pitch } of notes) times.set(start, [...(times.get(start) ?? []), pitchName(pitch)]);
    const chords = [...times.entries()].sort(([a], [b]) => a - b).map(([, names]) => names.join("+"));
    return `${loudness(mean)}: ${chords.join(", ")}`;
  }
}

const LEFT = 34;
const VISIBLE = 12;

/** Draws a roll around the place that is heard. */
export function draw(canvas, roll, position, { still = false } = {}) {
  const scale = globalThis.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (!width || !height) return;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const context = canvas.getContext("2d");
  if (!context) return;
  context.setTransform(scale, 0, 0, scale, 0, 0);
  const style = getComputedStyle(canvas);
  const [paper, ink, line] = ["--paper", "--ink", "--line"].map((name) => style.getPropertyValue(name).trim());
  const dark = style.getPropertyValue("--dark").trim() === "1";
  context.fillStyle = paper;
  context.fillRect(0, 0, width, height);
  const lowest = Math.floor(roll.lowest / 12) * 12;
  const highest = Math.floor(roll.highest / 12) * 12 + 11;
  const rows = highest - lowest + 1;
  const row = height / rows;
  const perSecond = (width - LEFT) / VISIBLE;
  // Scrolling moves with the music; without motion a page is turned where it ends.
  const from = still ? Math.floor(position / VISIBLE) * VISIBLE : Math.max(0, position - VISIBLE / 3);
  const x = (seconds) => LEFT + (seconds - from) * perSecond;
  const y = (pitch) => (highest - pitch) * row;
  for (let pitch = lowest; pitch <= highest; pitch++) {
    if ([1, 3, 6, 8, 10].includes(pitch % 12)) {
      context.fillStyle = line;
      context.globalAlpha = 0.25;
      context.fillRect(LEFT, y(pitch), width - LEFT, row);
      context.globalAlpha = 1;
    }
    if (pitch % 12 === 0) {
      context.fillStyle = line;
      context.fillRect(LEFT, y(pitch) + row - 0.5, width - LEFT, 1);
      context.fillStyle = ink;
      context.font = "11px system-ui, sans-serif";
      context.fillText(pitchName(pitch), 4, y(pitch) + row - 1);
    }
  }
  context.save();
  context.beginPath();
  context.rect(LEFT, 0, width - LEFT, height);
  context.clip();
  roll.bars.forEach((bar, i) => {
    if (x(bar) < LEFT - 1 || x(bar) > width) return;
    context.fillStyle = line;
    context.fillRect(x(bar), 0, 1, height);
    context.fillStyle = ink;
    context.font = "10px system-ui, sans-serif";
    context.fillText(String(i + 1), x(bar) + 3, 10);
  });
  for (const { pitch, velocity, start, end, again } of roll.between(from, from + VISIBLE)) {
    const [left, right] = [x(start), x(end ?? roll.end)];
    if (right < LEFT || left > width) continue;
    context.fillStyle = colour(velocity, dark);
    context.fillRect(left + (again ? 1.5 : 0), y(pitch) + 0.5, Math.max(right - left - 1, 1.5), Math.max(row - 1, 2));
  }
  context.fillStyle = ink;
  context.fillRect(x(position), 0, 2, height);
  context.restore();
}
