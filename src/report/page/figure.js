// The frame of every plot: its title, what can be downloaded, and the table behind it.

function save(name, blob) {
  const address = URL.createObjectURL(blob);
  const link = el("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

const PAINT = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "stroke-linecap", "opacity"];
const LETTERS = ["fill", "font-family", "font-size", "font-weight", "text-anchor"];

/** A copy of a drawing that needs no style sheet, on paper of its own. */
function standalone(drawing) {
  const copy = drawing.cloneNode(true);
  const originals = drawing.querySelectorAll("*"), copies = copy.querySelectorAll("*");
  originals.forEach((original, i) => {
    const style = getComputedStyle(original);
    if (original.tagName !== "g" && original.tagName !== "svg") {
      for (const property of original.tagName === "text" ? LETTERS : PAINT) copies[i].setAttribute(property, style.getPropertyValue(property));
    }
    for (const name of ["class", "tabindex", "role", "aria-label"]) copies[i].removeAttribute(name);
    if (original.dataset.follows) copies[i].removeAttribute("transform");
  });
  copy.removeAttribute("class");
  copy.prepend(svg("rect", { width: "100%", height: "100%", fill: getComputedStyle(document.body).backgroundColor }));
  copy.setAttribute("xmlns", SVG);
  return new XMLSerializer().serializeToString(copy);
}

async function savePng(name, drawing) {
  const width = drawing.width.baseVal.value, height = drawing.height.baseVal.value;
  const longest = 16000;  // browsers refuse larger canvases
  const factor = Math.min(2, longest / width, longest / height);
  const image = new Image();
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(standalone(drawing));
  await image.decode();
  const canvas = el("canvas", { width: Math.round(width * factor), height: Math.round(height * factor) });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  canvas.toBlob((blob) => save(name, blob), "image/png");
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
  const head = columns.map((column) => el("th", { scope: "col", class: side(column) }, plain(words(column)), units[column] ? el("small", { text: units[column] }) : null));
  const body = rows.slice(0, MOST_ROWS).map((row) => el("tr", {}, columns.map((column) => {
    const value = row[column];
    return el("td", { class: side(column), text: typeof value === "string" ? (tokens.includes(column) ? visible : plain)(value) : formatNumber(value) });
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

/**
 * `draw(width)` gives an SVG element; `table()` what is behind it. The figure draws itself anew when the width of the
 * page or its colours change, and with `figure.update()`. `exported(width)` draws what is saved, if that is not what is shown.
 */
function figure({ name, title, note, draw, table, wide = false, id = null, exported = null }) {
  const plot = el("div", { class: "plot" }), aside = el("div", { class: "unseen", "aria-hidden": "true" });
  const drawing = () => {
    if (!exported) return plot.querySelector("svg");
    aside.replaceChildren(exported(node.clientWidth));
    return aside.firstChild;
  };
  const button = (text, what, action) => el("button", { type: "button", text, title: `Download ${what}`, "aria-label": `Download ${what}: ${title}`, onclick: action });
  const details = tableDetails("Table", table);
  const node = el("figure", { class: wide ? "wide" : null, id },
    el("figcaption", {}, el("h3", { text: title }), el("div", { class: "tools" },
      button("SVG", "the picture as SVG", () => save(name + ".svg", new Blob([standalone(drawing())], { type: "image/svg+xml" }))),
      button("PNG", "the picture as PNG", () => savePng(name + ".png", drawing())),
      button("CSV", "the table as CSV", () => save(name + ".csv", new Blob([csvOf(table())], { type: "text/csv" }))))),
    note ? el("p", { class: "note", text: note }) : null, plot, exported ? aside : null, details);
  const redraw = () => {
    if (node.isConnected) plot.replaceChildren(draw(Math.max(280, node.clientWidth)));
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
