// From an entry of PLOTS and the rows of its table to a figure.

const MOST_PANELS = 24;

/** Rows with one value each, under `value`, `low` and `high`, and with `measure` where there are several columns. */
function measured(spec, rows, columns) {
  const named = spec.y instanceof RegExp ? Object.fromEntries(columns.filter((column) => spec.y.test(column)).map((column) => [column, valueName("bucket", spec.y.exec(column)[0])]))
    : typeof spec.y === "string" ? { [spec.y]: null } : spec.y;
  return Object.entries(named).filter(([column]) => columns.includes(column)).flatMap(([column, name]) => rows.map((row) => {
    const one = { ...row, value: row[column], low: row[column + "_low"], high: row[column + "_high"], depth: row.L };
    return name === null ? one : { ...one, measure: name, column };
  }));
}

/** A few values, evenly spaced, the first and last among them. */
function few(values, most = 7) {
  if (values.length <= most) return values;
  return Array.from({ length: most }, (_, i) => values[Math.round((i * (values.length - 1)) / (most - 1))]);
}

/** Rows of the layers that are nearest to the quarters of each model's depth; their `layer` tells the depth. */
function atCommonDepths(rows) {
  return [0, 0.25, 0.5, 0.75, 1].flatMap((depth) => rows.filter((row) => row.layer === Math.round(depth * row.depth))
    .map((row) => ({ ...row, layer: `at ${formatTickShare(depth)} of the depth` })));
}

/** The dimensions by which curves are told apart and put into panels. */
function dimensionsOf(spec, columns) {
  const exists = (dimension) => dimension === "measure" || columns.includes(dimension);
  const series = (spec.series ?? []).filter(exists), facets = (spec.facets ?? []).filter(exists);
  if (!COMPARING || spec.kind === "matrix") return { series, facets: COMPARING ? ["run", ...facets] : facets };
  const lenses = columns.includes("lens") ? ["lens"] : [];
  return { series: ["run", ...lenses], facets: [...facets, ...series].filter((dimension) => dimension !== "lens") };
}

function groups(rows, dimensions) {
  const found = new Map();
  for (const row of rows) {
    const values = dimensions.map((dimension) => row[dimension] ?? null), key = JSON.stringify(values);
    if (!found.has(key)) found.set(key, { values, rows: [] });
    found.get(key).rows.push(row);
  }
  return [...found.values()];
}

function groupName(dimensions, values, rows) {
  return dimensions.map((dimension, i) => {
    // What has one value only need not be told, unless nothing else is.
    if (dimensions.length > 1 && valuesOf(rows, dimension).length < 2) return null;
    return valueName(dimension, values[i]);
  }).filter((name) => name !== null).join(" · ");
}

function pointsOf(spec, rows, x, relative) {
  const scaled = (value, row) => (spec.depth && relative && typeof value === "number" ? value / row.depth : value);
  let sum = 0;
  const sorted = spec.order ? [...rows].sort((a, b) => a[spec.order] - b[spec.order]) : rows;
  return sorted.map((row) => {
    const known = typeof row.value === "number";
    if (spec.cumulative && known) sum += row.value;
    const value = spec.cumulative ? (known ? sum : null) : row.value;
    // With `depth`, either the layers on x or those on y are made relative.
    const byDepth = spec.x === undefined || spec.x !== "mean_layer";
    return {
      x: x.relative ? row[x.column] / row.depth : row[x.column],
      y: byDepth ? scaled(value, row) : value, low: byDepth ? scaled(row.low, row) : row.low, high: byDepth ? scaled(row.high, row) : row.high,
    };
  });
}

const DASHES = [null, "7 4", "2 4", "9 3 2 3"];

function linesOf(spec, rows, dimensions) {
  const relative = !SAME_DEPTH;
  const column = spec.x ?? "layer";
  const x = { column, relative: relative && (column === "layer" || column === "mean_layer") };
  const categories = spec.category ? valuesOf(rows, column) : null;
  const seriesKeys = groups(rows, dimensions.series).map(({ values }) => JSON.stringify(values));
  const styleOf = (key) => {
    const index = seriesKeys.indexOf(key);
    if (spec.ordered && !COMPARING) {
      const share = index / Math.max(1, seriesKeys.length - 1);
      return { style: "o" + Math.round(6 * (spec.ordered === "falling" ? 1 - share : share)), dash: null };
    }
    return { style: "k" + (index % 8), dash: DASHES[Math.floor(index / 8) % DASHES.length] };
  };
  const panels = groups(rows, dimensions.facets).map((facet) => ({
    title: groupName(dimensions.facets, facet.values, rows),
    series: groups(facet.rows, dimensions.series).map((one) => ({
      name: groupName(dimensions.series, one.values, rows), ...styleOf(JSON.stringify(one.values)), points: pointsOf(spec, one.rows, x, relative),
    })),
  }));
  const xTitle = x.relative ? "relative depth (layer / L)" : spec.xTitle ?? (column === "layer" ? "layer" : words(column));
  return {
    label: spec.title, kind: COMPARING && spec.kind !== "dots" && !spec.category ? "line" : spec.kind ?? "line", panels,
    x: { title: xTitle, type: categories ? "category" : spec.xLog ? "log" : "number", values: categories, name: (value) => (column === "bucket" ? valueName(column, value) : plain(value)), whole: column === "layer" && !x.relative },
    y: { title: relative && spec.depth && column !== "mean_layer" ? "mean relative depth (layer / L)" : spec.yTitle, type: spec.scale ?? "linear", share: spec.share, least: spec.least },
  };
}

function matrixOf(spec, rows, dimensions) {
  const column = spec.x ?? "layer", drawn = rows.filter((row) => Number.isFinite(row.value));
  const text = spec.share ? formatShare : formatNumber;
  const cellOf = (row) => ({
    value: spec.baseline ? row.value - row[spec.baseline] : row.value, count: row[spec.count ?? "count"],
    told: [spec.baseline ? `${words(spec.y)} ${text(row.value)}` : text(row.value), Number.isFinite(row.low) ? `(95 % ${text(row.low)} to ${text(row.high)})` : "",
      spec.baseline ? `; without a patch ${text(row[spec.baseline])}` : ""].join(" ").trim(),
  });
  return {
    label: spec.title, columns: valuesOf(rows, column), rows: valuesOf(drawn, spec.rows),
    panels: groups(rows, dimensions.facets).map((facet) => ({
      title: groupName(dimensions.facets, facet.values, rows),
      cells: new Map(facet.rows.map((row) => [JSON.stringify([row[column] ?? null, row[spec.rows] ?? null]), cellOf(row)])),
    })),
    x: { title: words(column), name: (value) => String(value) }, y: { title: spec.yTitle, name: (value) => String(valueName(spec.rows, value)) },
    value: { title: spec.valueTitle, log: spec.scale === "log", share: spec.share, centre: spec.centre },
  };
}

/** The figure of an entry; null where the table is absent, empty, or lacks what the entry needs. */
function plotFigure(spec) {
  const columns = columnsOf(spec.table), all = rowsOf(spec.table), column = spec.x ?? "layer";
  let rows = measured(spec, all, columns);
  if (rows.length === 0 || !columns.includes(column) || (spec.rows && !columns.includes(spec.rows))) return null;
  if (spec.baseline && !columns.includes(spec.baseline)) return null;
  if (!rows.some((row) => Number.isFinite(row.value))) return null;
  for (const [dimension, most] of Object.entries(spec.atMost ?? {})) {
    if (valuesOf(rows, dimension).length > most) return null;
  }
  let note = spec.note ?? "";
  if (spec.few === "layer" && !SAME_DEPTH) {
    rows = atCommonDepths(rows);
  } else if (spec.few) {
    const values = valuesOf(rows, spec.few).sort((a, b) => a - b), chosen = few(values);
    rows = rows.filter((row) => chosen.includes(row[spec.few]));
    if (chosen.length < values.length) note += ` ${chosen.length} of ${values.length} values of "${words(spec.few)}" are drawn; the table has all.`;
  }
  const dimensions = dimensionsOf(spec, columns);
  const plot = spec.kind === "matrix" ? matrixOf(spec, rows, dimensions) : linesOf(spec, rows, dimensions);
  if (plot.panels.length > MOST_PANELS) {
    note += ` The first ${MOST_PANELS} of ${plot.panels.length} panels are drawn; the table has all.`;
    plot.panels = plot.panels.slice(0, MOST_PANELS);
  }
  const used = new Set(["run", ...dimensions.facets, ...dimensions.series, column, spec.rows, spec.order, spec.count, spec.baseline, "count", "positions", "targets"]);
  const shown = columns.filter((name) => used.has(name) || rows.some((row) => (row.column ?? spec.y) === name.replace(/_(low|high)$/, "")));
  return figure({
    name: `${spec.table}.${typeof spec.y === "string" ? spec.y : "measures"}`, title: spec.title, note: note.trim(),
    wide: spec.wide || COMPARING && plot.panels.length > 1, table: () => ({ columns: shown, units: unitsOf(spec.table), rows: all }),
    draw: (width) => (spec.kind === "matrix" ? matrixPlot(plot, width) : linesPlot(plot, width)),
  });
}

/** [{id, title, node}] of all tables, drawn where PLOTS knows them. */
function tableSections() {
  const drawn = new Set();
  const figuresBySection = new Map(SECTIONS.map(({ id }) => [id, []]));
  for (const spec of PLOTS) {
    if (!TABLE_NAMES.includes(spec.table)) continue;
    const node = plotFigure(spec);
    if (!node) continue;
    drawn.add(spec.table);
    figuresBySection.get(SECTION_OF[spec.table] ?? spec.table.split(".")[0]).push(node);
  }
  const sections = SECTIONS.filter(({ id }) => figuresBySection.get(id).length > 0).map(({ id, title, text }) => ({
    id, title, node: el("section", { id }, el("h2", { text: title }), el("p", { text }), el("div", { class: "figures" }, figuresBySection.get(id))),
  }));
  const others = TABLE_NAMES.filter((name) => !drawn.has(name));
  if (others.length > 0) {
    sections.push({ id: "tables", title: "Other tables", node: el("section", { id: "tables" }, el("h2", { text: "Other tables" }), others.map(plainTable)) });
  }
  return sections;
}
