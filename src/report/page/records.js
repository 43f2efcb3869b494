// The heat map of layers × tokens: one window of the text through one lens.

const CELL = { width: 66, height: 22, labels: 44, head: 98, foot: 12 };
const MOST_CELLS = 4000;

/** What colours the cells: value(readout, record), and how it is told. */
const VALUES = [
  { id: "token", name: "top-1 token" },
  { id: "probability", name: "probability", title: "probability of the layer's first guess", value: (readout) => readout.top[0].probability, scale: () => ({ low: 0, high: 1, text: formatTickShare }), text: formatShare },
  { id: "rank", name: "rank of the final token", title: "rank of the token that the model says in the end", value: (readout) => readout.finalRank, scale: (most) => ({ low: 1, high: Math.max(most, 10), log: true }) },
  { id: "target", name: "rank of the target", title: "rank of the token that follows", value: (readout) => readout.targetRank, scale: (most) => ({ low: 1, high: Math.max(most, 10), log: true }) },
  { id: "entropy", name: "entropy", title: "entropy, nats", value: (readout) => readout.entropy, scale: (most) => ({ low: 0, high: most }) },
  { id: "kl", name: "KL to final", title: "KL(final ‖ layer), nats", value: (readout) => readout.kl, scale: (most) => ({ low: 0, high: most }) },
];

class RecordMap {
  constructor(records) {
    this.records = records;
    this.lens = 0;
    this.value = VALUES[0];
    this.windows = records.windows.map((window, index) => ({ ...window, records: window.records.map((packed) => new PackedRecord(records, index, packed)) }));
    const mostColumns = Math.min(128, Math.max(24, Math.floor(MOST_CELLS / records.rows)));
    // A long window is looked at in parts. Where every window has one record only, as with items of a task, they stand
    // side by side.
    this.merged = this.windows.length > 1 && this.windows.every((window) => window.records.length === 1);
    const pieces = (all, most) => {
      const count = Math.ceil(all.length / most), size = Math.ceil(all.length / count);
      return Array.from({ length: count }, (_, i) => all.slice(i * size, (i + 1) * size));
    };
    this.parts = this.merged ? pieces(this.windows.flatMap((window) => window.records), Math.min(mostColumns, 48))
      : this.windows.flatMap((window) => pieces(window.records, mostColumns));
    this.part = this.parts[0];
    this.current = { column: 0, row: records.rows - 1 };
    this.pins = new Pins(records, () => this.markPins());
    this.strip = el("div", { class: "text-strip", tabindex: 0, role: "group", "aria-label": "The text of this part" });
    this.figure = figure({
      name: "layers-tokens", id: "map", title: "Layers × tokens", wide: true,
      note: "Columns are the text's tokens, rows the layers; a cell tells the layer's first guess for what comes next. Arrow keys move from cell to cell.",
      draw: () => this.draw(), table: () => this.table(),
    });
    this.plot = this.figure.querySelector(".plot");
    this.plot.classList.add("map");
    this.plot.addEventListener("scroll", () => this.follow());
  }

  placeOf(record) {
    const { item, document, window } = this.windows[record.window];
    if (item !== null) return `item ${plain(item)}`;
    return `document ${document}` + (this.windows.some((other) => other.window > 0) ? `, window ${window}` : "");
  }
  partName(part) {
    if (this.merged) return `${shortened(this.placeOf(part[0]), 30)} to ${shortened(this.placeOf(part.at(-1)), 30)}`;
    const whole = part.length === this.windows[part[0].window].records.length;
    const start = part.slice(0, 7).map((record) => record.token.text).join("");
    return `${this.placeOf(part[0])}${whole ? "" : `, positions ${part[0].position}–${part.at(-1).position}`}: ${shortened(plain(start.trim()), 36)}`;
  }
  controls() {
    const parts = this.parts.map((part, i) => el("option", { value: i, text: this.partName(part) }));
    const select = el("select", { id: "window-select", onchange: () => { this.part = this.parts[Number(select.value)]; this.current.column = 0; this.plot.scrollLeft = 0; this.update(); } }, parts);
    return el("div", { class: "controls" },
      el("label", { class: "field" }, el("span", { text: "Document and window" }), select),
      this.records.lenses.length > 1 ? choice("Lens", this.records.lenses.map((name, i) => [String(i), plain(name)]), "0", (value) => { this.lens = Number(value); this.update(); }) : null,
      choice("Cells coloured by", VALUES.map(({ id, name }) => [id, name]), "token", (id) => { this.value = VALUES.find((value) => value.id === id); this.update(); }));
  }
  update() {
    this.figure.update();
    this.drawStrip();
  }
  drawStrip() {
    this.strip.replaceChildren(...this.part.map((record) => el("span", { dir: "ltr", text: plain(record.token.text.replaceAll("\n", "⏎")).replaceAll("⏎", "⏎\n") })));
  }

  mostShown() {
    const values = this.part.flatMap((record) => Array.from({ length: this.records.rows }, (_, layer) => this.value.value(record.at(this.lens, layer)))).filter(Number.isFinite);
    return values.length > 0 ? Math.max(...values) : 1;
  }
  cellText(record, layer) {
    const readout = record.at(this.lens, layer);
    const told = this.value.value ? `; ${this.value.title} ${(this.value.text ?? formatNumber)(this.value.value(readout))}` : "";
    return `Layer ${layer}, position ${record.position}, after ${visible(record.token.text)}: ${visible(readout.top[0].text)}, ${formatShare(readout.top[0].probability)}${told}`;
  }
  draw() {
    const { rows } = this.records, records = this.part;
    const width = CELL.labels + records.length * CELL.width + 12, height = CELL.head + rows * CELL.height + CELL.foot;
    const scale = this.value.value ? shadeScale(this.value.scale(this.mostShown())) : null;
    const drawing = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "grid", "aria-label": `Layers and tokens, lens ${plain(this.records.lenses[this.lens])}`, "aria-rowcount": rows, "aria-colcount": records.length });
    const key = scale ? rampLegend(this.value.title, scale, 12, 16)
      : svg("g", {}, [["final", "first guess is the final token"], ["other", "another token"]].map(([name, text], i) => [
        svg("rect", { class: "swatch-" + name, x: 12 + i * 210, y: 14, width: 22, height: 13, rx: 2 }), svg("text", { x: 41 + i * 210, y: 25, text })]));
    drawing.append(svg("g", {}, records.map((record, column) => {
      const x = CELL.labels + (column + 0.5) * CELL.width;
      return [svg("text", { x, y: 66, "text-anchor": "middle", text: this.merged ? shortened(plain(this.windows[record.window].item ?? this.windows[record.window].document), 9) : record.position }),
        svg("text", { class: "token", x, y: 84, "text-anchor": "middle", text: shortened(visible(record.token.text), 9) })];
    })));
    this.marks = svg("g");
    drawing.append(this.marks);
    for (let layer = 0; layer < rows; ++layer) {
      drawing.append(svg("g", { role: "row" }, records.map((record, column) => {
        const readout = record.at(this.lens, layer), x = CELL.labels + column * CELL.width, y = CELL.head + layer * CELL.height;
        const value = scale ? this.value.value(readout) : null, shown = scale && scale.shows(value);
        const colour = shown ? rampColour(scale.position(value)) : null;
        const kind = scale ? "" : readout.top[0].id === record.final.id ? " is-final" : " is-other";
        return svg("g", { class: "cell" + kind, role: "gridcell", tabindex: column === this.current.column && layer === this.current.row ? 0 : -1, "aria-label": this.cellText(record, layer), "data-column": column, "data-layer": layer },
          svg("rect", { x: x + 1, y: y + 1, width: CELL.width - 2, height: CELL.height - 2, rx: 2, fill: scale ? colour?.fill ?? "none" : null }),
          svg("text", { class: "token " + (colour?.ink ?? ""), x: x + CELL.width / 2, y: y + 15, "text-anchor": "middle", text: shortened(visible(readout.top[0].text), 9) }));
      })));
    }
    this.labels = svg("g", { "data-follows": "scroll" },
      svg("rect", { class: "plate", width: CELL.labels - 1, height }),
      svg("text", { x: CELL.labels - 8, y: 84, "text-anchor": "end", text: "layer" }),
      Array.from({ length: rows }, (_, layer) => svg("text", { x: CELL.labels - 8, y: CELL.head + layer * CELL.height + 15, "text-anchor": "end", text: layer })));
    this.key = svg("g", { "data-follows": "scroll" }, key);
    drawing.append(this.labels, this.key);
    this.listen(drawing);
    this.follow();
    this.markPins();
    return drawing;
  }
  follow() {
    for (const group of [this.labels, this.key]) group?.setAttribute("transform", `translate(${this.plot.scrollLeft} 0)`);
  }
  markPins() {
    if (!this.marks) return;
    this.marks.replaceChildren(...this.part.flatMap((record, column) => this.pins.pins
      .filter((pin) => pin.record === record)
      .map((pin, i) => svg("circle", { class: "k" + pin.colour, cx: CELL.labels + (column + 0.5) * CELL.width + 9 * i, cy: 50, r: 3.6 }))));
  }

  listen(drawing) {
    const cellOf = (event) => event.target.closest?.(".cell");
    const place = (cell) => ({ column: Number(cell.dataset.column), row: Number(cell.dataset.layer) });
    const pin = (cell) => this.pins.toggle(this.lens, this.part[place(cell).column]);
    drawing.addEventListener("pointerover", (event) => { const cell = cellOf(event); if (cell) this.show(cell); });
    drawing.addEventListener("pointerleave", () => this.hide());
    drawing.addEventListener("focusin", (event) => { const cell = cellOf(event); if (cell) this.show(cell); });
    drawing.addEventListener("focusout", () => this.hide());
    drawing.addEventListener("click", (event) => { const cell = cellOf(event); if (cell) { this.move(drawing, place(cell)); pin(cell); } });
    drawing.addEventListener("keydown", (event) => {
      const cell = cellOf(event);
      if (!cell) return;
      const { column, row } = place(cell), last = { column: this.part.length - 1, row: this.records.rows - 1 };
      const to = { ArrowLeft: [column - 1, row], ArrowRight: [column + 1, row], ArrowUp: [column, row - 1], ArrowDown: [column, row + 1],
        Home: [0, row], End: [last.column, row], PageUp: [column, 0], PageDown: [column, last.row] }[event.key];
      if (to) {
        event.preventDefault();
        this.move(drawing, { column: Math.max(0, Math.min(last.column, to[0])), row: Math.max(0, Math.min(last.row, to[1])) });
      } else if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        pin(cell);
      } else if (event.key === "Escape") {
        this.hide();
      }
    });
  }
  move(drawing, to) {
    drawing.querySelector('.cell[tabindex="0"]')?.setAttribute("tabindex", "-1");
    this.current = to;
    const cell = drawing.querySelector(`.cell[data-column="${to.column}"][data-layer="${to.row}"]`);
    cell.setAttribute("tabindex", "0");
    cell.focus({ preventScroll: true });
    const box = cell.getBoundingClientRect(), frame = this.plot.getBoundingClientRect();
    if (box.left < frame.left + CELL.labels) this.plot.scrollLeft -= frame.left + CELL.labels - box.left + 4;
    if (box.right > frame.right) this.plot.scrollLeft += box.right - frame.right + 4;
    cell.scrollIntoView({ block: "nearest", inline: "nearest" });
    this.show(cell);
  }
  show(cell) {
    const record = this.part[Number(cell.dataset.column)], layer = Number(cell.dataset.layer);
    const readout = record.at(this.lens, layer);
    const top = readout.top.map(({ id, text, probability }, k) => el("tr", {}, el("td", { class: "id", text: k + 1 }), el("td", {}, tokenSpan(text)), el("td", { class: "id", text: id }), el("td", { class: "number", text: formatShare(probability) })));
    const line = (name, value, first) => el("tr", { class: first ? "rule" : null }, el("td", { colspan: 3 }, name), el("td", { class: "number", text: value }));
    tooltip.show(() => cell.getBoundingClientRect(),
      el("div", { class: "head" }, `layer ${layer} · ${this.merged ? this.placeOf(record) + ", " : ""}position ${record.position} · ${this.records.lenses.length > 1 ? plain(this.records.lenses[this.lens]) + " · " : ""}after `, tokenSpan(record.token.text)),
      el("table", {}, top, line(el("span", {}, "rank of the final token ", tokenSpan(record.final.text)), formatNumber(readout.finalRank), true),
        record.target ? line(el("span", {}, "rank of the target ", tokenSpan(record.target.text)), formatNumber(readout.targetRank)) : null,
        line("entropy, nats", formatNumber(readout.entropy)), line("KL(final ‖ layer), nats", formatNumber(readout.kl))));
    this.strip.querySelector(".here")?.classList.remove("here");
    this.strip.children[Number(cell.dataset.column)]?.classList.add("here");
  }
  hide() {
    tooltip.hide();
    this.strip.querySelector(".here")?.classList.remove("here");
  }
  table() {
    const rows = this.part.flatMap((record) => Array.from({ length: this.records.rows }, (_, layer) => {
      const readout = record.at(this.lens, layer);
      const { document, window, item } = this.windows[record.window];
      return { document, window, item, position: record.position, token: record.token.text, layer, guess: readout.top[0].text, guess_id: readout.top[0].id, probability: readout.top[0].probability === null ? null : Number(readout.top[0].probability.toPrecision(4)),
        final: record.final.text, final_rank: readout.finalRank, target: record.target?.text ?? null, target_rank: readout.targetRank, entropy: readout.entropy, kl_final: readout.kl };
    }));
    return { columns: Object.keys(rows[0]), tokens: ["token", "guess", "final", "target"], units: { entropy: "nats", kl_final: "nats" }, rows };
  }
}

/** What part of the run's records the page has. */
function keptNote(records) {
  const counts = RUNS[0].run.counts ?? {};
  const positions = records.windows.reduce((sum, window) => sum + window.records.length, 0);
  const of = (count, all, name) => (Number.isInteger(all) && all >= count ? `${formatNumber(count)} of ${formatNumber(all)} ${name}` : `${formatNumber(count)} ${name}`);
  return `This page holds ${of(positions, counts.positions, "positions")}, in ${of(records.windows.length, counts.windows, "windows")}` +
    (counts.positions === positions ? "." : (counts.records === positions ? ", all that have records." : ", the first of the input: what keeps it below 2 MB.") + " Tables and plots count every position.");
}

/** {id, title, node} of the records; null where the page has none. */
function recordSection(records) {
  if (!records || records.windows.length === 0) return null;
  const map = new RecordMap(records);
  const node = el("section", { id: "layers" }, el("h2", { text: "Layer by layer" }),
    el("p", { text: "What the model would say if it had to stop at a layer, at every position of the text." }),
    map.controls(), map.strip, map.figure, el("p", { class: "note", id: "kept", text: keptNote(records) }), map.pins.node);
  map.drawStrip();
  return { id: "layers", title: "Layer by layer", node };
}
