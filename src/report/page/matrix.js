// Heat maps of a table: one value for each pair of a row and a column.

/** A scale from values to 0 … 1 for colours. */
function shadeScale({ low, high, log = false, text }) {
  return log ? logScale(low, high, 0, 1) : linearScale(low, high, 0, 1, { text, count: 4 });
}

/** plot: {label, panels: [{title, cells: Map of "column row" → value}], columns, rows, x, y, value: {title, log, share}} */
function matrixPlot(plot, width) {
  const name = plot.value.share ? formatShare : formatNumber;
  const margin = { left: 24 + Math.max(...plot.rows.map((row) => textWidth(shortened(plot.y.name(row), 22)))), top: 26, bottom: 46, right: 16 };
  const across = Math.min(plot.panels.length, Math.max(1, Math.floor(width / 340)));
  const panelWidth = Math.floor(width / across);
  const cell = Math.max(9, Math.min(38, (panelWidth - margin.left - margin.right) / plot.columns.length));
  const cellHeight = Math.max(11, Math.min(cell, 24));
  const panelHeight = margin.top + plot.rows.length * cellHeight + margin.bottom;
  const values = plot.panels.flatMap((panel) => [...panel.cells.values()]).filter((value) => Number.isFinite(value) && (!plot.value.log || value > 0));
  let [low, high] = extent(values);
  if (!plot.value.log && low > 0) low = 0;
  const signed = low < 0;  // then nothing is in the middle
  if (signed) [low, high] = [-Math.max(-low, high), Math.max(-low, high)];
  const colourOf = signed ? signedColour : rampColour;
  const scale = shadeScale({ low, high, log: plot.value.log, text: plot.value.share ? formatTickShare : formatNumber });
  const head = 44, total = { width: Math.max(width, across * (margin.left + margin.right + cell * plot.columns.length)), height: head + Math.ceil(plot.panels.length / across) * panelHeight };
  const drawing = svg("svg", { width: total.width, height: total.height, viewBox: `0 0 ${total.width} ${total.height}`, role: "group", "aria-label": plot.label },
    rampLegend(plot.value.title, scale, margin.left, 12, colourOf));
  const every = Math.ceil((Math.max(...plot.columns.map((column) => textWidth(plot.x.name(column)))) + 6) / cell);
  plot.panels.forEach((panel, i) => {
    const left = (i % across) * panelWidth + margin.left, top = head + Math.floor(i / across) * panelHeight + margin.top;
    const group = svg("g", {},
      panel.title ? svg("text", { class: "panel-title", x: left, y: top - 9, text: panel.title }) : null,
      svg("text", { x: left + (cell * plot.columns.length) / 2, y: top + plot.rows.length * cellHeight + 34, "text-anchor": "middle", text: plot.x.title }),
      svg("text", { transform: `translate(${left - margin.left + 11} ${top + (plot.rows.length * cellHeight) / 2}) rotate(-90)`, "text-anchor": "middle", text: plot.y.title }),
      plot.columns.filter((_, c) => c % every === 0).map((column, c) => svg("text", { x: left + (c * every + 0.5) * cell, y: top + plot.rows.length * cellHeight + 15, "text-anchor": "middle", text: plot.x.name(column) })));
    plot.rows.forEach((row, r) => {
      if (cellHeight >= 12 || r % 2 === 0) group.append(svg("text", { x: left - 7, y: top + (r + 0.5) * cellHeight + 4, "text-anchor": "end", text: shortened(plot.y.name(row), 22) }));
      plot.columns.forEach((column, c) => {
        const value = panel.cells.get(JSON.stringify([column, row]));
        const shown = Number.isFinite(value) && scale.shows(value);
        const label = `${plot.x.title} ${plot.x.name(column)}, ${plot.y.title} ${plot.y.name(row)}: ${plot.value.title} ${name(value)}`;
        const node = svg("rect", { x: left + c * cell, y: top + r * cellHeight, width: cell + 0.3, height: cellHeight + 0.3,
          fill: shown ? colourOf(scale.position(value)).fill : "none", role: "img", "aria-label": label });
        node.addEventListener("pointerenter", () => tooltip.show(() => node.getBoundingClientRect(), label));
        node.addEventListener("pointerleave", () => tooltip.hide());
        group.append(node);
      });
    });
    drawing.append(group);
  });
  return drawing;
}
