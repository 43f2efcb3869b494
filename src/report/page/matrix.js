// Heat maps of a table: one value for each pair of a row and a column.

/** A scale from values to 0 … 1 for colours. */
function shadeScale({ low, high, log = false, text }) {
  return log ? logScale(low, high, 0, 1) : linearScale(low, high, 0, 1, { text, count: 4 });
}

/**
 * Gives a drawing, on paper one for each sheet that it takes.
 * plot: {label, panels: [{title, cells: Map of [column, row] as JSON → {value, count, told}}], columns, rows, x, y,
 *        value: {title, log, share, centre}}
 *
 * `told` follows the value in words. With `centre` the scale diverges from that value, which has no colour.
 */
function matrixPlot(plot, width) {
  const all = panelsOf(plot);
  // Of all panels, also those on other sheets of paper.
  const valuesOfCells = (panels) => panels.flatMap((panel) => [...panel.cells.values()]).map(({ value }) => value).filter((value) => Number.isFinite(value) && (!plot.value.log || value > 0));
  const nameOf = (row) => {
    const counts = new Set(all.flatMap((panel) => plot.columns.map((column) => panel.cells.get(JSON.stringify([column, row]))?.count)).filter(Number.isFinite));
    return shortened(plot.y.name(row), 30) + (counts.size === 1 ? ` (n = ${formatNumber([...counts][0])})` : "");
  };
  const names = plot.rows.map(nameOf);
  const margin = { left: 30 + Math.max(...names.map(textWidth)), top: 26, bottom: 46, right: 16 };
  const across = Math.min(all.length, Math.max(1, Math.floor(width / 340)));
  const cell = Math.max(9, Math.min(38, (Math.floor(width / across) - margin.left - margin.right) / plot.columns.length));
  const panelWidth = Math.max(Math.floor(width / across), margin.left + cell * plot.columns.length + margin.right);
  const cellHeight = Math.max(11, Math.min(cell, 24));
  const panelHeight = margin.top + plot.rows.length * cellHeight + margin.bottom;
  let [low, high] = extent(valuesOfCells(all));
  if (!plot.value.log && low > 0) low = 0;
  const centre = plot.value.centre ?? (low < 0 ? 0 : null);
  if (centre !== null) {
    const most = Math.max(centre - low, high - centre) || 1;
    [low, high] = [centre - most, centre + most];
  }
  const colourOf = centre !== null ? signedColour : rampColour;
  const scale = shadeScale({ low, high, log: plot.value.log, text: plot.value.share ? formatTickShare : formatTick });
  // The legend begins at the left edge where its title would not fit beside the names of the rows.
  const head = 44, onSheet = across * Math.max(1, Math.floor((PRINTED.tall - head) / panelHeight));
  if (printing && plot.panels.length > onSheet) return inSheets(plot, onSheet, (part) => matrixPlot(part, width));
  const legendWidth = Math.max(200, textWidth(plot.value.title) + 12), total = { width: Math.max(width, across * panelWidth), height: head + Math.ceil(plot.panels.length / across) * panelHeight };
  const drawing = svg("svg", { width: total.width, height: total.height, viewBox: `0 0 ${total.width} ${total.height}`, role: "group", "aria-label": plot.label },
    rampLegend(plot.value.title, scale, Math.max(12, Math.min(margin.left, width - legendWidth)), 12, colourOf));
  const nodes = [];
  // Tab reaches the first cell, arrow keys the others: of all panels as one column of rows.
  const focusFrom = (node, step) => {
    const to = nodes[nodes.indexOf(node) + step];
    if (!to) return;
    node.setAttribute("tabindex", "-1");
    to.setAttribute("tabindex", "0");
    to.focus();
  };
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: plot.columns.length, ArrowUp: -plot.columns.length };
  const every = Math.ceil((Math.max(...plot.columns.map((column) => textWidth(plot.x.name(column)))) + 6) / cell);
  plot.panels.forEach((panel, i) => {
    const left = (i % across) * panelWidth + margin.left, top = head + Math.floor(i / across) * panelHeight + margin.top;
    const group = svg("g", {},
      panel.title ? svg("text", { class: "panel-title", x: left, y: top - 9, text: panel.title }) : null,
      svg("text", { x: left + (cell * plot.columns.length) / 2, y: top + plot.rows.length * cellHeight + 34, "text-anchor": "middle", text: plot.x.title }),
      svg("text", { transform: `translate(${left - margin.left + 11} ${top + (plot.rows.length * cellHeight) / 2}) rotate(-90)`, "text-anchor": "middle", text: plot.y.title }),
      plot.columns.filter((_, c) => c % every === 0).map((column, c) => svg("text", { x: left + (c * every + 0.5) * cell, y: top + plot.rows.length * cellHeight + 15, "text-anchor": "middle", text: plot.x.name(column) })));
    plot.rows.forEach((row, r) => {
      if (cellHeight >= 12 || r % 2 === 0) group.append(svg("text", { x: left - 7, y: top + (r + 0.5) * cellHeight + 4, "text-anchor": "end", text: names[r] }));
      plot.columns.forEach((column, c) => {
        const found = panel.cells.get(JSON.stringify([column, row])), value = found?.value;
        const shown = Number.isFinite(value) && scale.shows(value);
        const place = `${plot.x.title} ${plot.x.name(column)}, ${plot.y.title} ${plot.y.name(row)}`;
        const number = plot.value.share ? formatShare(value) : formatNumber(value), told = number + (found?.told ?? "");
        const lines = [`${plot.value.title}: ${told}`, ...(Number.isFinite(found?.count) ? [`n = ${formatNumber(found.count)}`] : [])];
        const node = svg("rect", { x: left + c * cell, y: top + r * cellHeight, width: cell + 0.3, height: cellHeight + 0.3,
          fill: shown ? colourOf(scale.position(value)).fill : "none", class: "matrix-cell", tabindex: nodes.length === 0 ? 0 : -1, role: "img", "aria-label": [place, ...lines].join("; ") });
        const tell = () => tooltip.show(node, () => node.getBoundingClientRect(), el("div", { class: "head", text: place }), ...lines.map((text) => el("div", { text })));
        for (const event of ["pointerenter", "pointermove", "focus"]) node.addEventListener(event, () => { if (tooltip.owner !== node) tell(); });
        for (const event of ["pointerleave", "blur"]) node.addEventListener(event, () => tooltip.hide());
        node.addEventListener("keydown", (event) => {
          if (event.key === "Escape") tooltip.dismiss();
          if (!(event.key in steps)) return;
          event.preventDefault();
          focusFrom(node, steps[event.key]);
        });
        nodes.push(node);
        group.append(node);
      });
    });
    drawing.append(group);
  });
  return drawing;
}
