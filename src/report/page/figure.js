// The frame of every plot: its title and controls, what can be downloaded, and the table behind it.

function save(name, blob) {
  const address = URL.createObjectURL(blob);
  const link = el("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

/** How pictures are saved, the same for all figures. `size` 0: as wide as on the page. */
const paper = { size: 0, unit: "mm", font: "sans" };
const FONTS = { sans: "Helvetica, Arial, 'Liberation Sans', sans-serif", serif: "'Times New Roman', Times, 'Liberation Serif', serif" };
const PIXELS_PER_MM = 96 / 25.4, PRINT_DPI = 300;

const paperDialog = {
  node: null,
  open() {
    this.node ??= document.body.appendChild(this.made());
    this.node.showModal();
  },
  made() {
    const size = el("input", { type: "number", min: 20, max: 5000, step: "any", value: 120, "aria-label": "Width" });
    const unit = el("select", { "aria-label": "Unit of the width" }, el("option", { text: "mm" }), el("option", { text: "px" }));
    const own = el("span", { class: "own-size", hidden: true }, size, " ", unit);
    let kind = "page";
    const update = () => {
      own.hidden = kind !== "own";
      const wanted = kind === "page" ? 0 : Number(kind === "own" ? size.value : kind);
      paper.size = Number.isFinite(wanted) ? Math.min(5000, Math.max(0, wanted)) : 0;
      paper.unit = kind === "own" ? unit.value : "mm";
    };
    size.addEventListener("input", update);
    unit.addEventListener("change", update);
    const widths = choice("Width", [["page", "as on the page"], ["85", "85 mm"], ["170", "170 mm"], ["own", "other"]], kind, (value) => { kind = value; update(); });
    return el("dialog", { class: "paper", "aria-label": "Size and font of saved pictures" }, el("form", { method: "dialog" },
      el("h3", { text: "Pictures that are saved" }), widths, own,
      choice("Font", [["sans", "Helvetica, Arial"], ["serif", "Times"]], paper.font, (value) => { paper.font = value; }),
      el("p", { class: "note", text: `SVG and PNG of every figure: black text, no background, nothing needed from this page. PNG has ${PRINT_DPI} dots per inch where the width is in mm.` }),
      el("button", { text: "Done" })));
  },
};

const PAINT = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "stroke-linecap", "opacity"];
const LETTERS = ["fill", "font-size", "font-weight", "text-anchor"];

/** A copy of a drawing that needs no style sheet, `width` wide in `unit`, with title and note for programs that show them. */
function standalone(drawing, { title, note }, { width, unit }) {
  const copy = drawing.cloneNode(true);
  const originals = drawing.querySelectorAll("*"), copies = copy.querySelectorAll("*");
  originals.forEach((original, i) => {
    if (original.matches(".hit, .rule, title")) return copies[i].remove();
    const style = getComputedStyle(original);
    if (original.tagName !== "g" && original.tagName !== "svg") {
      for (const property of original.tagName === "text" ? LETTERS : PAINT) copies[i].setAttribute(property, style.getPropertyValue(property));
      if (original.tagName === "text") copies[i].setAttribute("font-family", original.matches(".token") ? style.fontFamily : FONTS[paper.font]);
    }
    for (const name of ["class", "tabindex", "role", "aria-label"]) copies[i].removeAttribute(name);
    if (original.dataset.follows) copies[i].removeAttribute("transform");
  });
  for (const name of ["class", "role", "aria-label"]) copy.removeAttribute(name);
  copy.prepend(svg("title", { text: title }), note ? svg("desc", { text: note }) : "");
  const across = drawing.width.baseVal.value, down = drawing.height.baseVal.value;
  copy.setAttribute("width", width + unit);
  copy.setAttribute("height", Number(((width * down) / across).toFixed(2)) + unit);
  copy.setAttribute("xmlns", SVG);
  return new XMLSerializer().serializeToString(copy);
}

/** A picture for paper: {text, width, height}, the last two in pixels of the screen. `draw(width)` makes it anew. */
function picture(told, draw, shownWidth) {
  const sheet = el("div", { class: "sheet" }), dark = theme.dark;
  document.body.append(sheet);
  theme.dark = false;
  try {
    const drawing = draw(Math.round(paper.size === 0 ? shownWidth : paper.size * (paper.unit === "mm" ? PIXELS_PER_MM : 1)));
    sheet.append(drawing);
    const size = paper.size === 0 ? { width: drawing.width.baseVal.value, unit: "px" } : { width: paper.size, unit: paper.unit };
    const width = size.width * (size.unit === "mm" ? PIXELS_PER_MM : 1);
    return { text: standalone(drawing, told, size), width, height: (width * drawing.height.baseVal.value) / drawing.width.baseVal.value };
  } finally {
    theme.dark = dark;
    sheet.remove();
  }
}

/** The bytes of a PNG with a pHYs chunk, so that it is put on paper at its size. */
function withResolution(png, dotsPerInch) {
  const chunk = new DataView(new ArrayBuffer(21)), perMetre = Math.round(dotsPerInch / 0.0254);
  chunk.setUint32(0, 9);
  Array.from("pHYs", (letter, i) => chunk.setUint8(4 + i, letter.charCodeAt(0)));
  chunk.setUint32(8, perMetre);
  chunk.setUint32(12, perMetre);
  chunk.setUint8(16, 1);
  let crc = ~0;
  for (let i = 4; i < 17; ++i) {
    crc ^= chunk.getUint8(i);
    for (let bit = 0; bit < 8; ++bit) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  chunk.setUint32(17, ~crc);
  const header = 33;  // signature and IHDR
  return [png.slice(0, header), chunk.buffer, png.slice(header)];
}

async function savePng(name, { text, width, height }) {
  const longest = 16000;  // browsers refuse larger canvases
  const wanted = paper.size === 0 ? 2 : paper.unit === "mm" ? PRINT_DPI / 96 : 1;
  const factor = Math.min(wanted, longest / width, longest / height);
  const image = new Image();
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
  await image.decode();
  const canvas = el("canvas", { width: Math.round(width * factor), height: Math.round(height * factor) });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  save(name, new Blob(withResolution(await blob.arrayBuffer(), 96 * factor), { type: "image/png" }));
}

function csvOf({ columns, rows }) {
  const field = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns, ...rows.map((row) => columns.map((column) => row[column]))].map((cells) => cells.map(field).join(",") + "\n").join("");
}

/** Rows beyond this are in the CSV only: a browser lays out tables slowly. */
const MOST_ROWS = 2000;

function tableNode({ columns, units = {}, tokens = [], rows }) {
  const numeric = new Set(columns.filter((column) => rows.some((row) => typeof row[column] === "number")));
  const side = (column) => (numeric.has(column) ? "number" : null);
  const textOf = (column) => (["token", "pair", ...tokens].includes(column) ? visible : plain);
  const head = columns.map((column) => el("th", { scope: "col", class: side(column) }, plain(words(column)), units[column] ? el("small", { text: units[column] }) : null));
  const body = rows.slice(0, MOST_ROWS).map((row) => el("tr", {}, columns.map((column) => {
    const value = row[column];
    return el("td", { class: side(column), text: typeof value === "string" ? textOf(column)(value) : formatNumber(value) });
  })));
  const rest = rows.length > MOST_ROWS ? el("p", { class: "note", text: `${formatNumber(MOST_ROWS)} of ${formatNumber(rows.length)} rows; the CSV file has them all.` }) : null;
  return [el("div", { class: "scroll", tabindex: 0 }, el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, body))), rest];
}

/** A `<details>` whose table is made when it is opened. `table()` gives columns, units and rows. */
function tableDetails(title, table) {
  const details = el("details", {}, el("summary", { text: title }));
  const update = () => {
    if (details.open) details.replaceChildren(details.firstChild, ...tableNode(table()).filter(Boolean));
  };
  details.addEventListener("toggle", update);
  details.update = update;
  return details;
}

/** On paper figures are as wide as a sheet between its margins, or half of that, so that their text is not shrunk, and
 *  have so many rows of panels on a sheet. */
const PRINTED = { wide: 640, narrow: 308, rows: 3, tall: 860 };
let printing = false;
// These come before those of the theme, which draws anew.
addEventListener("beforeprint", () => { printing = true; });
addEventListener("afterprint", () => { printing = false; });

/**
 * `draw(width)` gives an SVG element, or several while the page is printed; `table()` what is behind it; `name`, of files
 * that are saved, and `note` are texts or give one; `controls` stand above the plot. The figure draws itself anew when the
 * width of the page or its colours change, and with `figure.update()`. `exported(width)` draws what is saved, if that is
 * not what is shown.
 */
function figure({ name, title, note = "", draw, table, controls = [], wide = false, id = null, exported = null }) {
  const plot = el("div", { class: "plot" }), noteNode = el("p", { class: "note" });
  const saved = () => {
    const made = picture({ title, note: noteNode.textContent }, exported ?? draw, plot.querySelector("svg")?.width.baseVal.value ?? node.clientWidth);
    if (!exported) redraw();  // what `draw` made last must be what the page shows
    return made;
  };
  const button = (text, what, action) => el("button", { type: "button", text, title: what, "aria-label": `${what}: ${title}`, onclick: action });
  const savedName = () => (typeof name === "function" ? name() : name);
  const details = tableDetails("Table", table);
  const node = el("figure", { class: wide ? "wide" : null, id },
    el("figcaption", {}, el("h3", { text: title }), el("div", { class: "tools" },
      button("SVG", "Download the picture as SVG", () => save(savedName() + ".svg", new Blob([saved().text], { type: "image/svg+xml" }))),
      button("PNG", "Download the picture as PNG", () => savePng(savedName() + ".png", saved())),
      button("CSV", "Download the table as CSV", () => save(savedName() + ".csv", new Blob([csvOf(table())], { type: "text/csv" }))),
      button("Size…", "Choose size and font of saved pictures", () => paperDialog.open()))),
    noteNode, controls.length > 0 ? el("div", { class: "controls" }, controls) : null, plot, details);
  const redraw = () => {
    const text = typeof note === "function" ? note() : note;
    noteNode.textContent = text;
    noteNode.hidden = text === "";
    if (node.isConnected) plot.replaceChildren(...[draw(printing ? (wide ? PRINTED.wide : PRINTED.narrow) : Math.max(280, node.clientWidth))].flat());
  };
  node.update = () => { redraw(); details.update(); };
  redraws.add(redraw);
  return node;
}

/** A table without a plot. */
function plainTable(name) {
  const table = () => ({ columns: columnsOf(name), units: unitsOf(name), rows: rowsOf(name) });
  const rows = rowsOf(name).length;
  const details = tableDetails(`Table of ${formatNumber(rows)} ${rows === 1 ? "row" : "rows"}`, table);
  const node = el("div", { class: "plain" }, el("figcaption", {}, el("h3", { text: plain(name) }), el("div", { class: "tools" },
    el("button", { type: "button", text: "CSV", "aria-label": `Download the table as CSV: ${name}`,
      onclick: () => save(name + ".csv", new Blob([csvOf(table())], { type: "text/csv" })) }))), details);
  details.open = rows <= 30;
  return node;
}
