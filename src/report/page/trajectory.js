// Pinned positions: the ranks of the final token, of the target and of watched tokens, layer by layer, side by side.

const MOST_PINS = 8;
const PIN_HINT = "Arrow keys move from cell to cell, with Ctrl by a screenful. Click a cell, or press Enter on it, to pin its position; again to unpin it.";
/** Of watched tokens, in their order. */
const DOTS = ["1 4", "1 4 1 9", "1 8", "3 5 1 5", "1 3 1 3 6 3"];

class Pins {
  /** `several`: positions of several windows can be pinned. `onchange` is called after every change. */
  constructor(records, several, onchange) {
    this.records = records;
    this.several = several;
    this.onchange = onchange;
    this.pins = [];  // {key, colour, lens, record}
    this.chips = el("ul", { class: "chips", "aria-label": "Pinned positions" });
    this.hint = el("p", { class: "note hint", text: PIN_HINT });
    this.figure = figure({
      name: "rank-trajectories", id: "trajectories", title: "Ranks at the pinned positions", wide: true,
      note: "Solid: the token that the model says in the end. Dashed: the token that follows in the text or answer, where that is another. Dotted: options and watched tokens. Rank 1 is the first guess.",
      draw: (width) => linesPlot(this.plot(), width), table: () => this.table(),
    });
    this.node = el("div", { class: "pinned" }, this.hint, this.chips, this.figure);
    this.figure.hidden = true;
    // Without any rank there is nothing to draw of a pinned position.
    this.possible = hasField("final_rank") || hasField("target_rank") || records.windows.some((window) => watchedNames(window).length > 0);
    this.hint.hidden = !this.possible;
  }
  key(lens, record) { return `${lens} ${record.window} ${record.position}`; }
  of(record) { return this.pins.filter((pin) => pin.record === record); }
  find(lens, record) { return this.pins.find((pin) => pin.key === this.key(lens, record)); }

  toggle(lens, record) {
    if (!this.possible) return;
    const pinned = this.find(lens, record), what = `position ${record.position}, ${visible(record.token.text)}`;
    if (pinned) {
      this.pins = this.pins.filter((pin) => pin !== pinned);
      announce(`Unpinned ${what}`);
    } else if (this.pins.length === MOST_PINS) {
      announce(`${MOST_PINS} positions are pinned. Unpin one first.`);
      this.hint.textContent = `${MOST_PINS} positions are pinned; unpin one to pin another.`;
      return;
    } else {
      const taken = new Set(this.pins.map((pin) => pin.colour));
      const colour = Array.from({ length: MOST_PINS }, (_, i) => i).find((i) => !taken.has(i));
      this.pins.push({ key: this.key(lens, record), colour, lens, record });
      announce(`Pinned ${what}`);
    }
    this.update();
  }
  prefix({ lens, record }) {
    const { lenses, windows } = this.records, { item, document, window } = windows[record.window];
    const short = (item) => withoutMiddle(plain(item), 24);
    const isShared = windows.some((other) => other.item !== item && other.item !== null && other.item !== undefined && short(other.item) === short(item));
    const place = item !== null && item !== undefined ? (isShared ? plain(item) : short(item)) : this.several ? `document ${document}` : null;
    const inside = windows.some((other) => other.window > 0) ? `window ${window}` : null;
    return [lenses.length > 1 ? plain(lenses[lens]) : null, place, inside, `${record.position} `].filter((part) => part !== null).join(" · ");
  }
  name(pin) {
    return `${this.prefix(pin)}${shortened(visible(pin.record.token.text), 14)}`;
  }
  update() {
    this.chips.replaceChildren(...this.pins.map((pin) => el("li", {},
      svg("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" }, svg("circle", { cx: 6, cy: 6, r: 5, class: "k" + pin.colour })),
      el("span", {}, this.prefix(pin), tokenSpan(pin.record.token.text), " → ", tokenSpan(pin.record.final.text)),
      el("button", { type: "button", text: "×", "aria-label": `Unpin position ${pin.record.position}`, onclick: () => this.toggle(pin.lens, pin.record) }))));
    if (this.pins.length < MOST_PINS) this.hint.textContent = PIN_HINT;
    this.figure.hidden = this.pins.length === 0;
    if (this.pins.length > 0) this.figure.update();
    this.onchange();
  }
  ranks(pin, which) {
    return Array.from({ length: this.records.rows }, (_, layer) => pin.record.at(pin.lens, layer)[which]);
  }
  /** [{name, ranks}] of the options and watched tokens of a pinned position. */
  watched({ lens, record }) {
    return watchedNames(this.records.windows[record.window])
      .map((name, w) => ({ name, ranks: Array.from({ length: this.records.rows }, (_, layer) => record.at(lens, layer).watched(w).rank) }));
  }
  plot() {
    const curve = (pin, what, dash, ranks) => ({
      key: JSON.stringify([pin.key, dash, what]), name: `${this.name(pin)} → ${shortened(what, 24)}`, style: "k" + pin.colour, dash, points: ranks.map((rank, row) => ({ x: layerOf(row), y: rank })),
    });
    const series = this.pins.flatMap((pin) => {
      const { target, final } = pin.record;
      return [hasField("final_rank") ? curve(pin, visible(final.text), null, this.ranks(pin, "finalRank")) : null,
        hasField("target_rank") && target && (target.id !== final.id || !hasField("final_rank")) ? curve(pin, `${visible(target.text)} (target)`, "5 4", this.ranks(pin, "targetRank")) : null,
        ...this.watched(pin).map(({ name, ranks }, w) => curve(pin, name, DOTS[w % DOTS.length], ranks))];
    }).filter(Boolean);
    return { label: "Ranks at the pinned positions", kind: "line", panels: [{ title: "", series }], x: { title: "layer", type: "number", whole: true }, y: { title: "rank", type: "log", least: 1 } };
  }
  table() {
    const rows = this.pins.flatMap((pin) => {
      const finals = this.ranks(pin, "finalRank"), targets = this.ranks(pin, "targetRank");
      return finals.map((rank, row) => ({
        lens: this.records.lenses[pin.lens], item: this.records.windows[pin.record.window].item ?? null, document: this.records.windows[pin.record.window].document, window: this.records.windows[pin.record.window].window, position: pin.record.position, token: pin.record.token.text, layer: layerOf(row),
        final: pin.record.final.text, ...(hasField("final_rank") ? { final_rank: rank } : {}), target: pin.record.target?.text ?? null, ...(hasField("target_rank") ? { target_rank: targets[row] } : {}),
        ...Object.fromEntries(this.watched(pin).map(({ name, ranks }) => [`rank of ${name}`, ranks[row]])),
      }));
    });
    return { columns: [...new Set(rows.flatMap(Object.keys))], tokens: ["token", "final", "target"], rows };
  }
}
