// The heat map of layers × positions: one window of the text, or the answers of all items, through one lens.
//
// On the screen only the columns in view are in the document, below a map of the whole; a download holds all of them, and
// paper has them in strips.

const CELL = { width: 66, height: 22, labels: 44, foot: 10 };
const PAPER = { width: 66, height: 17, labels: 44, foot: 10, strip: 900, mostCells: 6000 };
/** Columns beside those in view that are drawn, too. */
const OVERSCAN = 8;
/** So many watched tokens can colour the map. */
const MOST_WATCHED = 6;

const rankValue = (id, name, title, value) => ({ id, name, title, value, scale: (most) => ({ low: 1, high: Math.max(most, 10), log: true }) });
/** What colours the cells: value(readout), and how it is told. `needs`: fields of the records. */
const VALUES = [
  { id: "token", needs: ["top_ids", "top_tokens"], name: "top-1 token" },
  { id: "probability", needs: ["top_ids", "top_tokens", "top_logprobs"], name: "probability", title: "probability of the layer's first guess", value: (readout) => readout.guess(0).probability, scale: () => ({ low: 0, high: 1, text: formatTickShare }), text: formatShare },
  { ...rankValue("rank", "rank of the final token", "rank of the token that the model says in the end", (readout) => readout.finalRank), needs: ["final_rank"] },
  { ...rankValue("target", "rank of the target", "rank of the token that follows", (readout) => readout.targetRank), needs: ["target_rank"] },
  { id: "entropy", needs: ["entropy"], name: "entropy", title: "entropy, nats", value: (readout) => readout.entropy, scale: (most) => ({ low: 0, high: most }) },
  { id: "kl", needs: ["kl_final"], name: "KL to final", title: "KL(final ‖ layer), nats", value: (readout) => readout.kl, scale: (most) => ({ low: 0, high: most }) },
];
/** Pieces of a legend, {width, node(x, y)}, in as many lines as it takes. */
function keyLines(pieces, width) {
  const group = svg("g");
  let x = 0, y = 0, widest = 0;
  for (const piece of pieces) {
    if (x > 0 && x + piece.width > width) { x = 0; y += 18; }
    group.append(piece.node(x, y));
    x += piece.width;
    widest = Math.max(widest, x);
  }
  return { group, width: widest, height: y + 18 };
}

class RecordMap {
  constructor(records) {
    this.records = records;
    this.lens = 0;
    this.windows = records.windows;
    this.columnsOf = this.windows.map((window, index) => {
      const numWatched = watchedNames(window).length;
      return window.records.map((packed) => new PackedRecord(records, index, numWatched, packed));
    });
    const all = this.columnsOf.flat();
    this.isTask = isTask();
    // Where windows have few records each, as the answers of a task, they stand side by side.
    this.merged = this.isTask || (this.windows.length > 1 && all.length <= 4 * this.windows.length);
    this.columns = this.merged ? all : this.columnsOf[0];
    const watched = watchedNames(this.windows[0]), options = (this.windows[0].options ?? []).length;
    const same = this.windows.every((window) => JSON.stringify(watchedNames(window)) === JSON.stringify(watched));
    this.values = VALUES.filter(({ needs }) => needs.every(hasField)).map((value) => (this.isTask && value.id === "target" ? { ...value, title: "rank of the answer's token" } : value));
    if (same) {
      this.values.push(...watched.slice(options, options + MOST_WATCHED).map((name, i) =>
        rankValue(`watched-${i}`, `rank of ${shortened(name, 14)}`, `rank of the watched token ${shortened(name, 20)}`, (readout) => readout.watched(options + i).rank)));
    }
    this.guesses = records.predictions > 0;
    this.value = this.values[0];
    this.current = { column: 0, row: records.rows - 1 };
    this.left = 0;
    this.drawn = new Map();  // column → its cells
    this.pins = new Pins(records, this.windows.length > 1, () => this.markPins());
    this.strip = el("div", { class: "text-strip" + (this.windows.some(({ options }) => options) ? " tall" : ""), tabindex: 0, role: "group", "aria-label": "The item" });
    this.strip.addEventListener("click", (event) => {
      const place = [...this.strip.children].indexOf(event.target);
      if (!this.merged && place >= 0) this.goTo(place);
    });
    this.keyNode = el("div", { class: "map-key" });
    this.overview = el("canvas", { "aria-hidden": "true" });
    this.viewport = el("div", { class: "viewport" });
    this.overviewFrame = el("div", { class: "overview", title: "The whole window; click or drag to go to a place" }, this.overview, this.viewport);
    this.scroller = el("div", { class: "scroller" });
    this.frame = el("div", { class: "map-frame" }, this.keyNode, this.overviewFrame, this.scroller);
    this.figure = figure({
      name: "layers-tokens", id: "map", title: this.isTask ? "Layers × answers" : "Layers × tokens", wide: true,
      note: this.isTask ? "Columns are the tokens of the answers, rows the layers; a cell tells " + (this.guesses ? "the layer's first guess for that token." : "what colours it: the records have no predictions.")
        : "Columns are the text's tokens, rows the layers; a cell tells " + (this.guesses ? "the layer's first guess for what comes next." : "what colours it: the records have no predictions."),
      draw: (width) => this.draw(width), table: () => this.table(), exported: () => this.picture(0, this.columns.length, CELL, true),
    });
    this.scroller.addEventListener("scroll", () => this.follow(this.scroller.scrollLeft));
    this.listen();
    this.listenToOverview();
  }

  idOf({ item, document }) { return item === null || item === undefined ? `document ${document}` : plain(item); }
  placeOf(record) {
    const { item, document, window, input, window_start: start } = this.windows[record.window];
    if (this.isTask) return `item ${withoutMiddle(plain(item), 48)}${inputName(input) ? ` (${inputName(input)})` : ""}`;
    const name = [item === null || item === undefined ? null : withoutMiddle(plain(item), 32), inputName(input)].filter(Boolean).join(", ");
    return `document ${document}${name ? ` (${name})` : ""}` + (this.windows.some((other) => other.window > 0) ? `, window ${window}${start > 0 ? ` from token ${formatNumber(start)}` : ""}` : "");
  }
  /** The tokens of neighbouring columns as text; dots stand for what was left out between them, as by --positions. */
  textOf(columns) {
    return columns.map((record, i) => (i > 0 && record.position > columns[i - 1].position + 1 ? " … " : "") + record.token.text);
  }
  /** What there is to choose from: items side by side, or windows. */
  optionNames() {
    if (!this.merged) {
      return this.columnsOf.map((columns) => `${this.placeOf(columns[0])}: ${shortened(plain(this.textOf(columns.slice(0, 9)).join("").trim()), 36)}`);
    }
    return this.columnsOf.map(([record]) => {
      const { prompt, answer, class: tag, options } = this.windows[record.window], words = Array.from(plain((prompt ?? "").replaceAll("\n", " ")).trim());
      // Questions are told by how they begin, words and facts by what comes right before them.
      const told = prompt === undefined ? visible(record.token.text) : options ? shortened(words.join(""), 36) : (words.length > 28 ? "…" : "") + words.slice(-28).join("");
      return `${this.placeOf(record)}${tag ? `, ${plain(tag)}` : ""}: ${told}${answer === undefined ? "" : " → " + shortened(plain(answer), 20)}`;
    });
  }
  choose(index) {
    if (this.merged) return this.goTo(this.columns.indexOf(this.columnsOf[index][0]));
    this.columns = this.columnsOf[index];
    this.current.column = 0;
    this.left = 0;
    this.update();
  }
  controls() {
    const names = this.optionNames().map((text, value) => el("option", { value, text }));
    const select = el("select", { id: "window-select", onchange: () => this.choose(Number(select.value)) }, names);
    return el("div", { class: "controls" },
      el("label", { class: "field" }, el("span", { text: this.isTask ? "Go to item" : this.merged ? "Go to" : "Document and window" }), select),
      this.records.lenses.length > 1 ? choice("Lens", this.records.lenses.map((name, i) => [String(i), plain(name)]), "0", (value) => { this.lens = Number(value); this.update(); }) : null,
      choice("Cells coloured by", this.values.map(({ id, name }) => [id, name]), this.value.id, (id) => { this.value = this.values.find((value) => value.id === id); this.update(); }));
  }
  update() {
    this.figure.update();
    this.drawStrip();
  }

  /** The window's text; of items that stand side by side the one of the current column. */
  drawStrip() {
    if (this.merged) return this.showItem(this.current.column);
    const texts = this.textOf(this.columns), isWhole = texts.join("") === this.columns.map((record) => record.token.text).join("");
    this.strip.setAttribute("aria-label", isWhole ? "The text of this window" : "The analysed tokens of this window");
    this.strip.replaceChildren(...texts.map((text) => el("span", { dir: "ltr", text: plain(text.replaceAll("\n", "⏎")).replaceAll("⏎", "⏎\n") })));
  }
  showItem(column) {
    const record = this.columns[column], { prompt, answer, answer_length: length, class: tag, options } = this.windows[record.window];
    const told = [this.placeOf(record), `position ${record.position}`, tag ? `class ${plain(tag)}` : null, length > 1 ? `answer token ${record.answerPosition} of ${length}` : null].filter(Boolean).join(" · ");
    const text = (string) => plain(string.replaceAll("\n", "⏎")).replaceAll("⏎", "\n");
    this.strip.replaceChildren(el("div", { class: "place", text: told }),
      prompt === undefined ? el("div", {}, "after ", tokenSpan(record.token.text), " the model says ", tokenSpan(record.final.text))
        : el("div", { dir: "ltr" }, text(prompt), " ", el("span", { class: "here", text: text(answer ?? record.target?.text ?? "") })),
      options ? el("div", { class: "place", text: `options: ${options.map(plain).join(" · ")}` }) : "");
    queueMicrotask(() => { this.strip.scrollTop = this.strip.scrollHeight; });
  }
  showPlace(column) {
    if (this.merged) return this.showItem(column);
    this.strip.querySelector(".here")?.classList.remove("here");
    const token = this.strip.children[column];
    if (!token) return;
    token.classList.add("here");
    const frame = this.strip.getBoundingClientRect(), box = token.getBoundingClientRect();
    if (box.top < frame.top || box.bottom > frame.bottom) this.strip.scrollTop += box.top - frame.top - 24;
  }

  /** The lines above a column: its place, and which token it is about. */
  headOf(record) {
    if (!this.merged) return [{ text: String(record.position) }, { text: shortened(visible(record.token.text), 9), token: true }];
    const { class: tag, answer_length: length } = this.windows[record.window];
    const what = tag ? plain(tag) : length > 1 ? `${record.answerPosition} of ${length}` : "";
    const token = this.isTask && record.target ? record.target : record.token;
    const fitted = (text) => {
      let most = 14;
      while (most > 3 && textWidth(withoutMiddle(text, most)) > CELL.width - 5) --most;
      return { text: withoutMiddle(text, most) };
    };
    this.hasDetails ??= this.windows.some((window) => window.class || window.answer_length > 1);
    return [fitted(this.idOf(this.windows[record.window]).replace("document", "doc.")), ...(this.hasDetails ? [fitted(what)] : []),
      { text: shortened(visible(token.text), 9), token: true }];
  }
  headHeight() { return 18 + 17 * this.headOf(this.columns[0]).length; }
  drawHead(record, x) {
    return svg("g", {}, this.headOf(record).map(({ text, token }, line) => svg("text", { class: token ? "token" : null, x, y: 27 + 17 * line, "text-anchor": "middle", text })));
  }
  drawCell(record, column, layer, cell, head) {
    const readout = record.at(this.lens, layer), guess = readout.guess(0), x = cell.labels + column * cell.width, y = head + layer * cell.height;
    const value = this.shades ? this.value.value(readout) : null, shown = this.shades && this.shades.shows(value);
    const colour = shown ? rampColour(this.shades.position(value)) : null;
    const text = guess ? shortened(visible(guess.text), 9) : (this.value.text ?? formatNumber)(value);
    const kind = this.shades ? "" : guess.id === record.final.id ? " is-final" : " is-other";
    return svg("g", { class: "cell" + kind },
      svg("rect", { x: x + 1, y: y + 1, width: cell.width - 2, height: cell.height - 2, rx: 2, fill: this.shades ? colour?.fill ?? "none" : null }),
      svg("text", { class: (guess ? "token " : "") + (colour?.ink ?? ""), x: x + cell.width / 2, y: y + cell.height / 2 + 4, "text-anchor": "middle", text }));
  }
  drawLabels(cell, head) {
    return svg("g", {}, svg("text", { x: cell.labels - 8, y: head - 8, "text-anchor": "end", text: "layer" }),
      Array.from({ length: this.records.rows }, (_, layer) => svg("text", { x: cell.labels - 8, y: head + layer * cell.height + cell.height / 2 + 4, "text-anchor": "end", text: layerOf(layer) })));
  }
  drawKey(width) {
    if (this.shades) {
      const { title } = this.value;
      return { group: rampLegend(title, this.shades, 8, 12), width: Math.max(230, textWidth(title) + 24), height: 44 };
    }
    return keyLines([["final", "first guess is the final token"], ["other", "another token"]].map(([name, text]) => ({
      width: 52 + textWidth(text),
      node: (x, y) => svg("g", {}, svg("rect", { class: "swatch-" + name, x: 8 + x, y: y + 3, width: 22, height: 13, rx: 2 }), svg("text", { x: 37 + x, y: y + 14, text })),
    })), width);
  }
  /** Columns from `from` up to `to` as a picture of its own. */
  picture(from, to, cell, withKey) {
    const columns = this.columns.slice(from, to), head = this.headHeight();
    const key = withKey ? this.drawKey(Math.max(columns.length * cell.width, 480)) : { width: 0, height: 0 };
    const width = Math.max(cell.labels + columns.length * cell.width + 4, key.width), height = key.height + head + this.records.rows * cell.height + cell.foot;
    return svg("svg", { width, height, viewBox: `0 0 ${width} ${height}` }, key.group,
      svg("g", { transform: `translate(0 ${key.height})` }, this.drawLabels(cell, head),
        columns.map((record, i) => [this.drawHead(record, cell.labels + (i + 0.5) * cell.width),
          Array.from({ length: this.records.rows }, (_, layer) => this.drawCell(record, i, layer, cell, head))])));
  }
  /** Strips as wide as paper, from the column at the left of what was in view; at most `mostCells` cells. */
  strips() {
    const count = this.columns.length, across = Math.floor((PAPER.strip - PAPER.labels) / PAPER.width);
    const most = Math.max(across, Math.floor(PAPER.mostCells / this.records.rows));
    const first = count <= most ? 0 : Math.min(Math.round(this.left / CELL.width), count - most), end = Math.min(count, first + most);
    const pictures = [];
    for (let from = first; from < end; from += across) {
      const picture = this.picture(from, Math.min(end, from + across), PAPER, from === first);
      // All are as wide, so that letters have one size.
      picture.setAttribute("width", PAPER.strip);
      picture.setAttribute("viewBox", `0 0 ${PAPER.strip} ${picture.getAttribute("height")}`);
      pictures.push(picture);
    }
    const lens = this.records.lenses.length > 1 ? `, lens ${plain(this.records.lenses[this.lens])}` : "";
    const what = end - first < count ? `Columns ${first + 1} to ${end} of ${count} are printed, from where the map was scrolled to` : `All ${count} columns`;
    return el("div", { class: "strips" }, el("p", { class: "note", text: `${this.merged ? "" : this.placeOf(this.columns[0]) + ": "}${what}${lens}.` }), pictures);
  }

  draw(width) {
    let most = 1;
    if (this.value.value) {
      for (const record of this.columns) {
        for (let layer = 0; layer < this.records.rows; ++layer) most = Math.max(most, this.value.value(record.at(this.lens, layer)) ?? 0);
      }
    }
    this.shades = this.value.value ? shadeScale(this.value.scale(most)) : null;
    if (theme.printing) return this.strips();
    const { rows } = this.records, count = this.columns.length, head = this.headHeight(), height = head + rows * CELL.height + CELL.foot;
    const key = this.drawKey(width - 16);
    this.keyNode.replaceChildren(svg("svg", { width: Math.min(key.width, width - 4), height: key.height, viewBox: `0 0 ${Math.min(key.width, width - 4)} ${key.height}` }, key.group));
    this.width = width - 2;
    this.heads = svg("g");
    this.marks = svg("g");
    this.rowNodes = Array.from({ length: rows }, (_, layer) => svg("g", { role: "row", "aria-rowindex": layer + 1 }));
    this.drawn.clear();
    // The labels are beside the cells: a browser keeps them in place while it scrolls.
    const cells = svg("svg", { width: count * CELL.width + 4, height, viewBox: `${CELL.labels} 0 ${count * CELL.width + 4} ${height}`, role: "grid", "aria-label": `Layers and tokens, lens ${plain(this.records.lenses[this.lens])}`, "aria-rowcount": rows, "aria-colcount": count },
      this.heads, this.marks, this.rowNodes);
    const labels = svg("svg", { class: "labels", width: CELL.labels, height, viewBox: `0 0 ${CELL.labels} ${height}`, "aria-hidden": "true" }, this.drawLabels(CELL, head));
    this.scroller.replaceChildren(el("div", { class: "columns" }, labels, cells));
    this.overviewFrame.hidden = count * CELL.width + CELL.labels <= this.width;
    if (!this.overviewFrame.hidden) this.drawOverview();
    const left = Math.max(0, Math.min(this.left, count * CELL.width + CELL.labels - this.width));
    this.follow(left);
    // The frame is put into the page when this returns.
    queueMicrotask(() => { this.scroller.scrollLeft = left; });
    this.markPins();
    return this.frame;
  }
  /** Draws the columns in view and drops those far from it. */
  follow(left) {
    this.left = left;
    const count = this.columns.length, first = Math.floor(left / CELL.width);
    const from = Math.max(0, first - OVERSCAN), to = Math.min(count, first + Math.ceil(this.width / CELL.width) + OVERSCAN);
    // The column that has the keyboard stays.
    const wanted = Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i).filter((column) => column !== this.current.column);
    wanted.push(this.current.column);
    wanted.sort((a, b) => b - a);
    const kept = new Set(wanted);
    for (const [column, nodes] of this.drawn) {
      if (kept.has(column)) continue;
      nodes.forEach((node) => node.remove());
      this.drawn.delete(column);
    }
    let next = null;
    for (const column of wanted) {
      if (!this.drawn.has(column)) this.drawn.set(column, this.drawColumn(column, next));
      next = this.drawn.get(column);
    }
    const visible = this.width / (count * CELL.width + CELL.labels);
    this.viewport.style.left = 100 * Math.min(1 - visible, left / (count * CELL.width + CELL.labels)) + "%";
    this.viewport.style.width = 100 * visible + "%";
  }
  /** The cells of a column, last its head, put before those of the column `next`. */
  drawColumn(column, next) {
    const record = this.columns[column], head = this.headHeight();
    const cells = this.rowNodes.map((row, layer) => {
      const cell = this.drawCell(record, column, layer, CELL, head), has = column === this.current.column && layer === this.current.row;
      fill(cell, { role: "gridcell", tabindex: has ? 0 : -1, "aria-label": this.cellText(record, layer), "aria-colindex": column + 1, "data-column": column, "data-layer": layer }, []);
      row.insertBefore(cell, next ? next[layer] : null);
      return cell;
    });
    const top = this.drawHead(record, CELL.labels + (column + 0.5) * CELL.width);
    this.heads.append(top);
    return [...cells, top];
  }
  drawOverview() {
    const { rows } = this.records, count = this.columns.length, style = getComputedStyle(document.documentElement);
    this.overview.width = count;
    this.overview.height = rows;
    const context = this.overview.getContext("2d"), image = context.createImageData(count, rows);
    const colours = this.shades ? Array.from({ length: 129 }, (_, i) => rampColour(i / 128).fill.match(/\d+/g).map(Number))
      : ["--other-cell", "--final-cell"].map((name) => channels(style.getPropertyValue(name).trim()));
    this.columns.forEach((record, column) => {
      for (let layer = 0; layer < rows; ++layer) {
        const readout = record.at(this.lens, layer);
        const value = this.shades ? this.value.value(readout) : null;
        if (this.shades && !this.shades.shows(value)) continue;
        const colour = this.shades ? colours[Math.round(128 * Math.min(1, Math.max(0, this.shades.position(value))))] : colours[readout.guess(0).id === record.final.id ? 1 : 0];
        image.data.set([...colour, 255], 4 * (layer * count + column));
      }
    });
    context.putImageData(image, 0, 0);
    this.overview.style.height = Math.max(36, Math.min(120, 3 * rows)) + "px";
  }
  listenToOverview() {
    const go = (event) => {
      const box = this.overview.getBoundingClientRect(), share = (event.clientX - box.left) / box.width;
      this.scroller.scrollLeft = share * this.columns.length * CELL.width + CELL.labels - this.width / 2;
    };
    this.overviewFrame.addEventListener("pointerdown", (event) => { this.overviewFrame.setPointerCapture(event.pointerId); go(event); });
    this.overviewFrame.addEventListener("pointermove", (event) => { if (this.overviewFrame.hasPointerCapture(event.pointerId)) go(event); });
  }
  markPins() {
    if (!this.marks) return;
    this.marks.replaceChildren(...this.columns.flatMap((record, column) => this.pins.of(record)
      .map((pin, i) => svg("circle", { class: "k" + pin.colour, cx: CELL.labels + (column + 0.5) * CELL.width + 9 * i, cy: 9, r: 3.6 }))));
  }

  cellText(record, layer) {
    const readout = record.at(this.lens, layer), guess = readout.guess(0);
    const told = this.value.value ? `; ${this.value.title} ${(this.value.text ?? formatNumber)(this.value.value(readout))}` : "";
    const place = this.merged ? `${this.placeOf(record)}, ` : "";
    return `Layer ${layerOf(layer)}, ${place}position ${record.position}, after ${visible(record.token.text)}${guess ? `: ${visible(guess.text)}${guess.probability === null ? "" : `, ${formatShare(guess.probability)}`}` : ""}${told}`;
  }
  listen() {
    const cellOf = (event) => event.target.closest?.(".cell");
    const placeOf = (cell) => ({ column: Number(cell.dataset.column), row: Number(cell.dataset.layer) });
    const pin = (cell) => this.pins.toggle(this.lens, this.columns[placeOf(cell).column]);
    const on = (name, action) => this.scroller.addEventListener(name, (event) => { const cell = cellOf(event); if (cell) action(cell, event); });
    for (const event of ["pointerover", "pointermove", "focusin"]) on(event, (cell) => { if (tooltip.owner !== cell) this.show(cell); });
    this.scroller.addEventListener("pointerleave", () => this.hide());
    this.scroller.addEventListener("focusout", () => this.hide());
    on("click", (cell) => { this.move(placeOf(cell)); pin(cell); });
    on("keydown", (cell, event) => {
      const { column, row } = placeOf(cell), last = { column: this.columns.length - 1, row: this.records.rows - 1 };
      const far = Math.max(1, Math.floor(this.width / CELL.width) - 2), step = event.ctrlKey ? far : 1;
      const to = { ArrowLeft: [column - step, row], ArrowRight: [column + step, row], ArrowUp: [column, row - 1], ArrowDown: [column, row + 1],
        Home: [0, row], End: [last.column, row], PageUp: [column, 0], PageDown: [column, last.row] }[event.key];
      if (to) {
        event.preventDefault();
        this.move({ column: Math.max(0, Math.min(last.column, to[0])), row: Math.max(0, Math.min(last.row, to[1])) });
      } else if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        pin(cell);
      } else if (event.key === "Escape") {
        tooltip.dismiss();
      }
    });
  }
  cellAt({ column, row }) { return this.drawn.get(column)?.[row]; }
  /** Makes another cell the one that has the keyboard. */
  setCurrent(to) {
    this.cellAt(this.current)?.setAttribute("tabindex", "-1");
    this.current = to;
    const begin = to.column * CELL.width, seen = this.width - CELL.labels, { scroller } = this;
    if (begin < scroller.scrollLeft) scroller.scrollLeft = begin - 4;
    if (begin + CELL.width > scroller.scrollLeft + seen) scroller.scrollLeft = begin + CELL.width - seen + 4;
    this.follow(scroller.scrollLeft);
    this.cellAt(to).setAttribute("tabindex", "0");
  }
  move(to) {
    this.setCurrent(to);
    const cell = this.cellAt(to);
    cell.focus({ preventScroll: true });
    cell.scrollIntoView({ block: "nearest", inline: "nearest" });
    this.show(cell);
  }
  /** Shows a column at the left, without the keyboard. */
  goTo(column) {
    this.scroller.scrollLeft = column * CELL.width;
    this.setCurrent({ column, row: this.current.row });
    this.showPlace(column);
  }
  show(cell) {
    const column = Number(cell.dataset.column), record = this.columns[column], layer = Number(cell.dataset.layer);
    const readout = record.at(this.lens, layer), names = watchedNames(this.windows[record.window]);
    const top = readout.top.map(({ id, text, probability }, k) => el("tr", {}, el("td", { class: "id", text: k + 1 }), el("td", {}, tokenSpan(text)), el("td", { class: "id", text: id }), el("td", { class: "number", text: hasField("top_logprobs") ? formatShare(probability) : "" })));
    const line = (name, value, first) => el("tr", { class: first ? "rule" : null }, el("td", { colspan: 3 }, name), el("td", { class: "number", text: value }));
    tooltip.show(cell, () => (cell.isConnected ? cell.getBoundingClientRect() : null),
      el("div", { class: "head" }, `layer ${layerOf(layer)} · ${this.merged ? this.placeOf(record) + ", " : ""}position ${record.position} · ${this.records.lenses.length > 1 ? plain(this.records.lenses[this.lens]) + " · " : ""}after `, tokenSpan(record.token.text)),
      el("table", {}, top, hasField("final_rank") ? line(el("span", {}, "rank of the final token ", tokenSpan(record.final.text)), formatNumber(readout.finalRank), true) : null,
        record.target && hasField("target_rank") ? line(el("span", {}, this.isTask ? "rank of the answer's token " : "rank of the target ", tokenSpan(record.target.text)), formatNumber(readout.targetRank)) : null,
        hasField("entropy") ? line("entropy, nats", formatNumber(readout.entropy)) : null, hasField("kl_final") ? line("KL(final ‖ layer), nats", formatNumber(readout.kl)) : null,
        names.map((name, w) => {
          const { rank, probability } = readout.watched(w);
          if (rank === null) return null;  // as of the target where nothing follows
          return el("tr", { class: w === 0 ? "rule" : null }, el("td", { colspan: 2, class: "token", text: name }), el("td", { class: "id", text: `rank ${formatNumber(rank)}` }), el("td", { class: "number", text: formatShare(probability) }));
        })));
    this.showPlace(column);
  }
  hide() {
    tooltip.hide();
    if (!this.merged) this.strip.querySelector(".here")?.classList.remove("here");
  }
  table() {
    const of = (name, value) => (hasField(name) ? { [name]: value } : {});
    const rows = this.columns.flatMap((record) => Array.from({ length: this.records.rows }, (_, layer) => {
      const readout = record.at(this.lens, layer), guess = readout.guess(0), window = this.windows[record.window];
      return { document: window.document, window: window.window, item: window.item, ...(window.class ? { class: window.class } : {}), position: record.position, token: record.token.text, layer: layerOf(layer), ...(guess ? { guess: guess.text, guess_id: guess.id } : {}), ...(guess && hasField("top_logprobs") ? { probability: guess.probability === null ? null : Number(guess.probability.toPrecision(4)) } : {}),
        final: record.final.text, ...of("final_rank", readout.finalRank), target: record.target?.text ?? null, ...of("target_rank", readout.targetRank), ...of("entropy", readout.entropy), ...of("kl_final", readout.kl),
        ...Object.fromEntries(watchedNames(window).map((name, w) => [`rank of ${name}`, readout.watched(w).rank])) };
    }));
    return { columns: [...new Set(rows.flatMap(Object.keys))], tokens: ["token", "guess", "final", "target"], units: { entropy: "nats", kl_final: "nats" }, rows };
  }
}

/** What the page would show if the records had the field; null where nothing is missing. */
function missingNote(records) {
  const settings = RUNS[0].run.settings ?? {}, watches = objectsOf(settings.watch).length > 0, asks = settings.options !== undefined;
  const wanted = ["top_ids", "top_tokens", "top_logprobs", "final_rank", "target_rank", "entropy", "kl_final", ...(watches ? ["watched"] : []), ...(asks ? ["options"] : [])];
  const missing = wanted.filter((name) => !hasField(name));
  if (missing.length === 0) return null;
  const without = records.predictions > 0 || missing.every((name) => !name.startsWith("top_")) ? "" : " Predictions are shown where records have top_ids and top_tokens.";
  return `The records were written without ${missing.join(", ")} (--record-fields): what would show them is left out.${without}`;
}

/** Which of several inputs; null where there is one. */
function inputName(index) {
  const inputs = objectsOf(RUNS[0].run.inputs);
  return inputs.length > 1 && inputs[index]?.path ? plain(String(inputs[index].path).split("/").at(-1)) : null;
}

/** "0–3, 7": numbers as ranges, the first few. */
function rangesText(numbers, most = 6) {
  const ranges = [];
  for (const number of [...new Set(numbers)].sort((a, b) => a - b)) {
    if (ranges.length > 0 && ranges.at(-1)[1] === number - 1) ranges.at(-1)[1] = number;
    else ranges.push([number, number]);
  }
  const shown = ranges.slice(0, most).map(([first, last]) => (first === last ? formatNumber(first) : `${formatNumber(first)}–${formatNumber(last)}`));
  return shown.join(", ") + (ranges.length > most ? " …" : "");
}

/** Whether the records are those of answers: tasks say which of them count. */
function isTask() {
  return RUNS[0].run.settings?.keep !== undefined;
}

/** What part of the run's records the page has, and how to see others. */
function keptNote(records) {
  const { counts = {}, settings = {} } = RUNS[0].run, { windows, chosen } = records, answers = isTask();
  const positions = windows.reduce((sum, window) => sum + window.records.length, 0), documents = windows.map(({ document }) => document);
  const of = (count, all, one) => (Number.isInteger(all) && all >= count ? `${formatNumber(count)} of ${plural(all, one)}` : plural(count, one));
  const recorded = counts.records ?? positions, counted = recorded + (counts.records_omitted ?? 0);
  const sentences = [];
  if (answers) {
    sentences.push(`This page holds ${of(positions, chosen ? undefined : counted, "answer position")} of ${plural(new Set(windows.map(({ item, document }) => JSON.stringify([document, item]))).size, "item")}.`);
  } else {
    const which = new Set(documents).size === 1 ? "document" : "documents";
    sentences.push(`This page holds ${which} ${rangesText(documents)}${Number.isInteger(counts.documents) ? ` of ${formatNumber(counts.documents)} (the first is 0)` : ""}: ${of(windows.length, chosen ? chosen.windows : counts.windows, "window")}, ${of(positions, chosen ? chosen.positions : counts.positions, "position")}.`);
  }
  const size = formatNumber((records.max_bytes ?? 2e6) / 1e6) + " MB";
  if (chosen) sentences.push(`They were chosen by ${plain(chosen.flags)}${chosen.positions > positions ? `, and what would make the page larger than ${size} was left out` : ""}.`);
  else if (positions < recorded) sentences.push(`These are the first of the input: what keeps the page below ${size}.`);
  if (positions < recorded) {
    const last = Math.max(...documents), end = windows.at(-1), more = `--max-size ${4 * Math.ceil((records.max_bytes ?? 2e6) / 1e6)}MB`;
    const other = answers ? "--document ID" : last + 1 < (counts.documents ?? 0) ? `--document ${last + 1}` : windows.length < (counts.windows ?? 0) && !chosen && [undefined, "all", "last"].includes(settings.positions) && !(counts.records_omitted > 0) ? `--document ${end.document} --window ${end.window + 1}` : null;
    sentences.push(other ? `“depthlens report RUN ${other}” shows others, ${more} more.` : `“depthlens report RUN ${chosen ? plain(chosen.flags) + " " : ""}${more}” shows more.`);
  }
  if (records.predictions_left_out > 0) sentences.push(`Tooltips have ${plural(records.predictions, "prediction")} of a layer here, so that a whole window finds a place.`);
  if (counts.records_omitted > 0) sentences.push(`${plural(counts.records_omitted, "position")} ${counts.records_omitted === 1 ? "has" : "have"} no record (--max-records).`);
  sentences.push(answers && settings.keep === "correct" ? `Tables and plots count the ${plural(counted, "answer position")} at which the model's own guess is right (--keep correct).`
    : `Tables and plots count all ${plural(answers ? counted : counts.positions ?? counted, answers ? "answer position" : "analysed position")}.`);
  return sentences.join(" ");
}

/** {id, title, node} of the records; null where the page has none. */
function recordSection(records) {
  if (!records) return null;
  const missing = missingNote(records);
  const map = new RecordMap(records);
  if (map.values.length === 0) {
    return { id: "layers", title: "Layer by layer", node: el("section", { id: "layers" }, el("h2", { text: "Layer by layer" }),
      el("p", { class: "notice", id: "missing", text: `${missing} Nothing is left to draw of single positions.` })) };
  }
  const where = map.isTask ? "at each token of the answers" : RUNS[0].run.settings?.positions === "all" || RUNS[0].run.settings?.positions === undefined ? "at every position of the text" : "at the analysed positions of the text";
  const node = el("section", { id: "layers" }, el("h2", { text: "Layer by layer" }),
    el("p", { text: `What the model would say if it had to stop at a layer, ${where}, read through the lens.` }),
    missing ? el("p", { class: "notice", id: "missing", text: missing }) : null, map.controls(), map.strip, map.figure, el("p", { class: "note", id: "kept", text: keptNote(records) }), map.pins.node);
  map.drawStrip();
  return { id: "layers", title: "Layer by layer", node };
}
