// The sliders of styles, which sum to one, and the stations of a path over the piece.
import { $ } from "./common.js";

/** One or more mixtures, one after the other over the piece. */
export class Mixture {
  #changed;
  #styles = [];
  /** A list of stations; each is a list of `[name, part]`. */
  #stations = [[]];
  #station = 0;

  constructor(changed) {
    this.#changed = changed;
    $("station-add").onclick = () => {
      this.#stations.push(this.#stations.at(-1).map((entry) => [...entry]));
      this.#station = this.#stations.length - 1;
      this.#show();
      this.#changed();
    };
    $("station-remove").onclick = () => {
      this.#stations.pop();
      this.#station = this.#stations.length - 1;
      this.#show();
      this.#changed();
      $("station-add").focus();
    };
    // A button, since keyboards move through a list one by one.
    $("composer-add").onclick = () => {
      const name = $("composer").value;
      if (!name) return;
      const entries = this.#stations[this.#station];
      if (!entries.some(([other]) => other === name)) {
        entries.push([name, 0]);
        this.#set(entries.length - 1, 1 / 3);
      }
      this.#show();
      this.#changed();
      $("mixture").querySelector(`[data-name="${CSS.escape(name)}"] input`)?.focus();
    };
  }

  get genres() {
    return [...new Set(this.#styles.map(([genre]) => genre))];
  }

  /** Shows the styles of a model: genre and composer of each. */
  show(styles) {
    this.#styles = styles;
    this.#stations = [this.genres.map((genre, i) => [genre, i === this.genres.length - 1 ? 1 : 0])];
    this.#station = 0;
    const groups = this.genres.map((genre) => {
      const group = document.createElement("optgroup");
      group.label = genre;
      for (const [of, name] of styles) if (of === genre) group.append(new Option(name, this.#named(of, name)));
      return group;
    });
    $("composer").replaceChildren(...groups);
    this.#show();
  }

  /** A composer of a name that others have too is spelt with its genre. */
  #named(genre, name) {
    const alone = this.#styles.filter(([, other]) => other === name).length === 1 && !this.genres.includes(name);
    return alone ? name : `${genre}/${name}`;
  }

  /** Takes over an expression that the program has read already. */
  read(expression) {
    const stations = expression.split("->").map((mixture) => {
      const entries = this.genres.map((genre) => [genre, 0]);
      for (const part of mixture.split(",")) {
        const [name, weight = "1"] = part.split(":").map((text) => text.trim());
        const entry = entries.find(([other]) => other.toLowerCase() === name.toLowerCase());
        if (entry) entry[1] += Number(weight);
        else entries.push([name, Number(weight)]);
      }
      const sum = entries.reduce((sum, [, weight]) => sum + weight, 0);
      return entries.map(([name, weight]) => [name, weight / sum]);
    });
    this.#stations = stations;
    this.#station = 0;
    this.#show();
  }

  /** As `deepj generate --style` reads it. */
  expression() {
    const of = (entries) => {
      const weighty = entries.filter(([, part]) => part >= 0.005);
      if (weighty.length === 1) return weighty[0][0];
      return weighty.map(([name, part]) => `${name}:${Number(part.toFixed(2))}`).join(",");
    };
    return this.#stations.map(of).filter((text) => text).join(" -> ");
  }

  /** Gives one entry a part, and the others what is left, in their proportions. */
  #set(place, part) {
    const entries = this.#stations[this.#station];
    const others = entries.filter((_, i) => i !== place);
    const sum = others.reduce((sum, [, other]) => sum + other, 0);
    if (!others.length) part = 1;
    entries[place][1] = part;
    for (const entry of others) entry[1] = sum > 0 ? (entry[1] / sum) * (1 - part) : (1 - part) / others.length;
  }

  #show() {
    const many = this.#stations.length > 1;
    $("station-remove").hidden = !many;
    $("station-add").disabled = this.#stations.length >= 6 || this.#styles.length === 0;
    const places = this.#stations.map((_, i) => {
      const label = document.createElement("label");
      label.className = "check";
      const input = Object.assign(document.createElement("input"), { type: "radio", name: "station", checked: i === this.#station });
      input.onchange = () => {
        this.#station = i;
        this.#show();
        $("stations").querySelectorAll("input")[i].focus();
      };
      const last = this.#stations.length - 1;
      const words = !many ? "the whole piece" : i === 0 ? "at the beginning" : i === last ? "at the end" : `at ${Math.round((100 * i) / last)} %`;
      label.append(input, words);
      return label;
    });
    $("stations").replaceChildren(...places);
    const rows = this.#stations[this.#station].map(([name], place) => this.#row(name, place));
    $("mixture").replaceChildren(...rows);
    if (!this.#styles.length) $("mixture").textContent = "These weights know no styles.";
    $("composer").disabled = $("composer-add").disabled = !this.#styles.length;
    this.#values();
  }

  #row(name, place) {
    const row = document.createElement("div");
    row.className = "slider";
    row.dataset.name = name;
    const id = `part-${place}`;
    const label = Object.assign(document.createElement("label"), { htmlFor: id, textContent: name });
    const input = Object.assign(document.createElement("input"), { id, type: "range", min: "0", max: "100" });
    input.oninput = () => {
      this.#set(place, Number(input.value) / 100);
      this.#values();
      this.#changed();
    };
    const output = document.createElement("output");
    output.htmlFor = id;
    row.append(label, input, output);
    if (!this.genres.includes(name)) {
      const remove = Object.assign(document.createElement("button"), { type: "button", textContent: "✕" });
      remove.setAttribute("aria-label", `Remove ${name}`);
      remove.onclick = () => {
        this.#set(place, 0);
        this.#stations[this.#station].splice(place, 1);
        this.#show();
        this.#changed();
        $("composer").focus();
      };
      row.append(remove);
    }
    return row;
  }

  #values() {
    const entries = this.#stations[this.#station];
    for (const [i, row] of [...$("mixture").children].entries()) {
      if (!entries[i]) continue;
      const [name, part] = entries[i];
      const percent = Math.round(100 * part);
      const input = row.querySelector("input");
      if (Math.round(Number(input.value)) !== percent) input.value = String(percent);
      input.setAttribute("aria-valuetext", `${percent} % ${name}`);
      row.querySelector("output").value = `${percent} %`;
    }
  }
}
