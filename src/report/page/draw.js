// From an entry of PLOTS and the rows of its table to a figure.

const MOST_PANELS = 24;

/** Layers as numbers, or as parts of the model's depth. */
const depth = { relative: !SAME_DEPTH };

/** Rows with one value each, under `value`, `low` and `high`, and with `measure` where there are several columns. */
function measured(spec, rows, columns) {
  const named = typeof spec.y === "string" ? { [spec.y]: null } : spec.y;
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

/**
 * Rows of the layers that are nearest to the quarters of each model's depth, if they are nearer to it than to another one;
 * their `layer` tells the depth. `without`: what is not there, as with --layers not every layer is, "RUN at 25 %"; `beside`:
 * what is not quite there, "layer 3 of 5 of RUN at 50 %".
 */
function atCommonDepths(rows) {
  const common = [], without = [], beside = [];
  const quarter = 0.25, told = 0.05;
  for (const part of [0, quarter, 2 * quarter, 3 * quarter, 1]) {
    for (const { values: [run], rows: all } of groups(rows, ["run"])) {
      const L = all[0].depth, layer = Math.round(part * L), away = Math.abs(layer / L - part);
      const there = all.filter((row) => row.layer === layer && away < quarter / 2);
      if (there.length === 0) without.push(`${plain(run)} at ${formatTickShare(part)}`);
      else if (away > told) beside.push(`layer ${layer} of ${L} of ${plain(run)} at ${formatTickShare(part)}`);
      common.push(...there.map((row) => ({ ...row, layer: `at ${formatTickShare(part)} of the depth` })));
    }
  }
  return { rows: common, without, beside };
}

/** How many cases the value of a row is the mean of, as a function of the row. */
function caseCounter(spec, source) {
  const column = spec.n ?? "count";
  if (column === "sum of count") {
    const sums = new Map();
    for (const row of source.rows) sums.set(row.run, (sums.get(row.run) ?? 0) + row.count);
    return { of: (row) => sums.get(row.run), unit: source.units.count };
  }
  const ofRun = /^(positions|targets) of the run$/.exec(column)?.[1];
  if (ofRun) {
    const cases = new Map(rowsOf("lens.quality").map((row) => [row.run, row[ofRun]]));
    return { of: (row) => cases.get(row.run), unit: ofRun };
  }
  return { of: (row) => row[column] ?? row.count, unit: source.units[column] ?? source.units.count };
}

/** The dimensions by which runs of different kinds are kept apart in a comparison. */
function kindsOf(spec, columns) {
  return Object.keys(KINDS).filter((kind) => KINDS[kind].all.length > 1 && (kind === "buckets" ? spec.byBucket || columns.includes("bucket") : spec.decoded));
}

/** The dimensions by which curves are told apart and put into panels. */
function dimensionsOf(spec, columns) {
  const exists = (dimension) => dimension === "measure" || columns.includes(dimension);
  const series = (spec.series ?? []).filter(exists), facets = (spec.facets ?? []).filter(exists);
  if (!COMPARING || spec.kind === "matrix") return { series, facets: COMPARING ? ["run", ...facets] : facets };
  const lenses = columns.includes("lens") ? ["lens"] : [];
  return { series: ["run", ...lenses], facets: [...kindsOf(spec, columns), ...facets, ...series].filter((dimension) => dimension !== "lens") };
}

/** Values of a dimension as they follow one another: of several runs, the first one does not decide. */
function inOrderOf(dimension, values) {
  const known = Object.keys(ROLE_NAMES);
  if (values.every((value) => value === null || typeof value === "number")) return [...values].sort((a, b) => (a === null) - (b === null) || a - b);
  if (dimension === "position" && values.every((value) => known.includes(value))) return [...values].sort((a, b) => known.indexOf(a) - known.indexOf(b));
  return values;
}

/** Groups in the order of their dimensions' values. */
function sortedGroups(rows, dimensions) {
  const orders = dimensions.map((dimension) => inOrderOf(dimension, valuesOf(rows, dimension)));
  const placeOf = ({ values }) => values.map((value, d) => orders[d].indexOf(value));
  const compared = (a, b) => a.map((place, d) => place - b[d]).find((difference) => difference !== 0) ?? 0;
  return groups(rows, dimensions).sort((a, b) => compared(placeOf(a), placeOf(b)));
}

function groups(rows, dimensions) {
  const found = new Map();
  for (const row of rows) {
    const values = dimensions.map((dimension) => row[dimension] ?? null), key = JSON.stringify(values);
    if (!found.has(key)) found.set(key, { key, values, rows: [] });
    found.get(key).rows.push(row);
  }
  return [...found.values()];
}

function groupName(dimensions, values, rows) {
  // What has one value only need not be told, unless nothing else is. In a comparison every curve tells its run, and its
  // lens where the run has others.
  const others = ({ name, run }) => objectsOf(run.lenses).length > 1 && valuesOf(rows, "run").includes(name);
  const telling = dimensions.filter((dimension) => valuesOf(rows, dimension).length > 1 || (COMPARING && (dimension === "run" || (dimension === "lens" && RUNS.some(others)))));
  return (telling.length > 0 ? telling : dimensions.slice(0, 1)).map((dimension) => valueName(dimension, values[dimensions.indexOf(dimension)])).join(" · ");
}

/** [run, lens] of all lenses, in the order of their colours. */
function runLenses() {
  return RUNS.flatMap(({ name, run }) => {
    const lenses = objectsOf(run.lenses).map((lens) => lens.name);
    return (lenses.length > 0 ? lenses : [null]).map((lens) => [name, lens]);
  });
}

/**
 * Keys of series in an order that is the same in all figures, so that a lens or run always has the same colour: a run
 * that of its first lens. Null: a place that no series here has.
 */
function seriesOrder(rows, dimensions) {
  const names = dimensions.join(), all = runLenses();
  const known = names === "lens" ? all.filter(([run]) => run === RUNS[0].name).map(([, lens]) => [lens])
    : names === "run,lens" ? all
      : names === "run" ? all.map(([run], i) => (all.findIndex(([other]) => other === run) === i ? [run] : null)) : [];
  const keys = known.map((values) => values && JSON.stringify(values));
  return [...keys, ...groups(rows, dimensions).map(({ key }) => key).filter((key) => !keys.includes(key))];
}

function pointsOf(spec, rows, x, casesOf) {
  const scaled = (value, row) => (spec.depth && depth.relative && typeof value === "number" ? value / row.depth : value);
  // Counts are exact, the shares of the page have six digits: of them alone, as of differences, so many places are sure.
  const surePlaces = 5;
  let sum = 0;
  const add = (row) => {
    const n = casesOf(row), exact = !spec.difference && Number.isFinite(row.count) && n > 0;
    sum += exact ? row.count : row.value;
    return exact ? sum / n : Number(sum.toFixed(surePlaces));
  };
  const sorted = spec.order ? [...rows].sort((a, b) => a[spec.order] - b[spec.order]) : rows;
  return sorted.map((row) => {
    const known = typeof row.value === "number";
    const value = spec.cumulative ? (known ? add(row) : null) : row.value;
    // With `depth`, either the layers on x or those on y are made relative. Intervals do not add up.
    const byDepth = spec.x === undefined || spec.x !== "mean_layer";
    const y = (number) => (byDepth ? scaled(number, row) : number);
    const n = casesOf(row), onX = (number) => (x.relative && typeof number === "number" ? number / row.depth : number);
    return {
      x: onX(row[x.column]), xLow: onX(row[x.column + "_low"]), xHigh: onX(row[x.column + "_high"]), y: y(value), low: spec.cumulative ? null : y(row.low), high: spec.cumulative ? null : y(row.high),
      n, few: Number.isFinite(n) && n < FEW_CASES, label: spec.label?.(row), note: spec.tells?.(row),
    };
  });
}

/** Colours of an order, .o0 to .o12 of page.css. */
const NUM_ORDERED = 13;
const DASHES = [null, "7 4", "2 4", "9 3 2 3"];

/** A level beside each curve: of the row of another table that is of the same run and value. */
function referenceOf({ table, y, by }, row) {
  return rowsOf(table).find((other) => other.run === row.run && other[by] === row[by])?.[y];
}

/** Whether one layer, or one curve, would leave a corner of a linear axis to all others. */
function isFlattened(plot) {
  const values = pointsOfPlot(plot).map(({ y }) => y).filter((y) => y > 0), most = Math.max(...values);
  return values.length > 0 && values.filter((y) => y < most / 4).length >= 0.75 * values.length;
}

/** The plot of an entry as it stands, and what is to be told of it: {plot, without: names of what has no value}. */
function linesOf(spec, rows, dimensions, casesOf) {
  const column = spec.x ?? "layer";
  const x = { column, relative: depth.relative && (column === "layer" || column === "mean_layer") };
  const hasValue = (row) => Number.isFinite(row.value), drawn = rows.filter(hasValue);
  const order = seriesOrder(rows, dimensions.series);
  const drawnKeys = new Set(groups(drawn, dimensions.series).map(({ key }) => key));
  const inOrder = order.filter((key) => drawnKeys.has(key));
  const styleOf = (key) => {
    if (spec.ordered && !COMPARING) {
      const share = inOrder.indexOf(key) / Math.max(1, inOrder.length - 1);
      return { style: "o" + Math.round((NUM_ORDERED - 1) * (spec.ordered === "falling" ? 1 - share : share)), dash: null };
    }
    const index = order.indexOf(key), again = Math.floor(index / 8) % DASHES.length;
    return { style: "k" + (index % 8), dash: DASHES[again], sign: again };
  };
  const panels = (COMPARING ? sortedGroups : groups)(rows, dimensions.facets).filter((facet) => facet.rows.some(hasValue)).map((facet) => ({
    title: groupName(dimensions.facets, facet.values, drawn),
    values: dimensions.facets.includes("buckets") ? valuesOf(facet.rows, column) : undefined,
    series: groups(facet.rows, dimensions.series).filter((one) => one.rows.some(hasValue)).sort((a, b) => order.indexOf(a.key) - order.indexOf(b.key)).map((one) => ({
      key: one.key, name: groupName(dimensions.series, one.values, drawn), ...styleOf(one.key), points: pointsOf(spec, one.rows, x, casesOf),
      reference: spec.reference && referenceOf(spec.reference, one.rows[0]),
    })),
  }));
  const missing = (dimension) => valuesOf(rows, dimension).filter((value) => !valuesOf(drawn, dimension).includes(value)).map((value) => valueName(dimension, value));
  const categories = spec.category ? valuesOf(drawn, column) : null;
  const xTitle = x.relative ? "relative depth (layer / L)" : spec.xTitle ?? (column === "layer" ? "layer" : words(column));
  const plot = {
    label: titleOf(spec), order: inOrder, kind: COMPARING && spec.kind !== "dots" && !spec.category ? "line" : spec.kind ?? "line", panels,
    x: { title: xTitle, type: categories ? "category" : spec.xLog ? "log" : "number", values: categories, name: (value) => (column === "bucket" ? valueName(column, value) : plain(value)), whole: column === "layer" && !x.relative, from: spec.xFrom },
    y: { title: (spec.difference ? "difference of " : "") + spec.yTitle + (depth.relative && spec.depth && column !== "mean_layer" ? " / L" : ""), type: spec.scale === "log" ? "log" : "linear", share: spec.share, least: spec.least, zero: spec.zero },
    marks: !spec.lastLayer ? [] : x.relative ? [{ x: 1, text: "last layer" }] : [...new Set(rows.map((row) => row.depth))].map((L) => ({ x: L, text: SAME_DEPTH ? "last layer" : `last of ${L}` })),
  };
  return { plot, without: [...new Set([...dimensions.series, ...dimensions.facets, ...(categories ? [column] : [])].flatMap(missing))] };
}

/**
 * Says below the titles of panels or in the legend, and in the tooltip, how many cases there are, where they are not the
 * same everywhere. Gives what is to be said of the plot as a whole.
 */
function tellCases(plot, unit) {
  const casesOf = (points) => [...new Set(points.filter(({ y }) => Number.isFinite(y)).map(({ n }) => n).filter(Number.isFinite))];
  const sets = plot.panels.flatMap((panel) => panel.series.map((series) => ({ panel, series, cases: casesOf(series.points) }))).filter(({ cases }) => cases.length > 0);
  const all = [...new Set(sets.flatMap(({ cases }) => cases))];
  if (all.length === 0) return "";
  const together = (keyOf) => [...new Set(sets.map(keyOf))].map((key) => {
    const members = sets.filter((set) => keyOf(set) === key);
    return { members, cases: [...new Set(members.flatMap(({ cases }) => cases))] };
  });
  const isSame = (keyOf) => together(keyOf).every(({ cases }) => cases.length === 1);
  const uncertain = { line: "Thin and dotted", dots: "Hollow" }[plot.kind];
  const few = uncertain && all.some((n) => n < FEW_CASES) ? ` ${uncertain}: fewer than ${FEW_CASES}.` : "";
  if (all.length === 1) return `${casesText(all)} ${unit}.${few}`;
  plot.tellsCases = true;
  const byPanel = ({ panel }) => panel, bySeries = ({ series }) => series.key, byBoth = ({ series }) => series;
  if ((isSame(byPanel) && !(COMPARING && isSame(bySeries))) || (!isSame(bySeries) && isSame(byBoth) && plot.panels.length > 1)) {
    for (const { members: [{ panel }], cases } of together(byPanel)) panel.cases = casesText(cases);
  } else {
    for (const { members, cases } of together(bySeries)) {
      for (const { series } of members) series.name = series.name ? `${series.name} (${casesText(cases)})` : casesText(cases);
    }
  }
  return `n counts ${unit}.${few}`;
}

/** What one draws at random again for the intervals of a run. */
function resampled({ run }) {
  return run.counts?.pairs !== undefined ? "pairs" : run.settings?.keep !== undefined ? "items" : "documents";
}

function tellIntervals(plot, runs) {
  if (!pointsOfPlot(plot).some((point) => Number.isFinite(point.y) && isBounded(point))) return "";
  return `${plot.kind === "line" ? "Bands" : plot.kind === "stack" ? "In the tooltip" : "Whiskers"}: 95 % bootstrap intervals over ${[...new Set(runs.map(resampled))].join(" or ")}.`;
}

const textOf = (text, runs) => (typeof text === "function" ? text(runs) : text ?? "");
const titleOf = (spec) => textOf(spec.title);

/** The figure of an entry; null where the table is absent, empty, or lacks what the entry needs. */
function plotFigure(given) {
  const source = given.source?.() ?? { columns: columnsOf(given.table), units: unitsOf(given.table), rows: rowsOf(given.table) };
  const { columns } = source, column = given.x ?? "layer";
  const columnsFor = (spec) => (typeof spec.y === "string" ? [spec.y] : Object.keys(spec.y));
  const hasValues = (spec) => measured(spec, source.rows, columns).some((row) => Number.isFinite(row.value));
  if (!columns.includes(column) || (given.rows && !columns.includes(given.rows))) return null;
  if (given.baseline && !columns.includes(given.baseline)) return null;
  // Curves of a comparison are curves: its panels are the buckets.
  const views = given.views === CURVES_AND_STACK && COMPARING ? [["", {}]]
    : Object.entries(given.views ?? { "": {} }).filter(([, view]) => hasValues({ ...given, ...view }));
  if (views.length === 0 || !hasValues({ ...given, ...views[0][1] })) return null;
  for (const [dimension, most] of Object.entries(given.atMost ?? {})) {
    if (valuesOf(source.rows, dimension).length > most) return null;
  }
  const state = { view: views[0][1], scale: given.scale };
  const dimensions = dimensionsOf(given, columns), names = valuesOf(source.rows, "run");
  const runs = COMPARING ? RUNS.filter(({ name }) => names.includes(name)) : RUNS;

  const made = () => {
    const spec = { ...given, ...state.view }, notes = [textOf(spec.note, runs)], cases = caseCounter(spec, source);
    let rows = measured(spec, source.rows, columns);
    for (const kind of dimensions.facets.filter((dimension) => dimension in KINDS)) rows = rows.map((row) => ({ ...row, [kind]: kindName(KINDS[kind], row.run) }));
    if (given.decoded && runs.some(({ run }) => Array.isArray(run.settings?.layers))) notes.push(`Only layers that were decoded count (--layers)${COMPARING ? "" : `: ${decodedText(RUNS[0])}`}.`);
    if (spec.few === "layer" && depth.relative) {
      const common = atCommonDepths(rows);
      rows = common.rows;
      if (common.without.length > 0) notes.push(`Without a decoded layer near it: ${common.without.join(", ")}.`);
      if (common.beside.length > 0) notes.push(`The nearest there is: ${common.beside.join(", ")}.`);
    } else if (spec.few) {
      const values = valuesOf(rows, spec.few).sort((a, b) => a - b), chosen = few(values);
      rows = rows.filter((row) => chosen.includes(row[spec.few]));
      if (chosen.length < values.length) notes.push(`${chosen.length} of ${values.length} values of "${words(spec.few)}" are drawn; the table has all.`);
    }
    if (spec.kind === "matrix") return { plot: matrixOf(spec, rows, dimensions), notes };
    const { plot, without } = linesOf(spec, rows, dimensions, cases.of);
    if (state.scale === "choice") plot.y.type = isFlattened(plot) ? "log" : "linear";
    else if (spec.scale === "choice") plot.y.type = state.scale;
    if (spec.reference && pointsOfPlot(plot).length > 0 && plot.panels.some((panel) => panel.series.some((series) => Number.isFinite(series.reference)))) {
      notes.push(`Level dashed lines: the shares of ${spec.reference.name}.`);
    }
    notes.push(tellCases(plot, cases.unit ?? "cases"), tellIntervals(plot, runs));
    plot.legend = plot.order.map((key) => {
      const parts = plot.panels.flatMap((panel) => panel.series).filter((series) => series.key === key);
      return { ...parts[0], points: parts.flatMap((series) => series.points) };
    });
    if (without.length > 0) notes.push(`Without ${cases.unit ?? "values"}: ${without.join(", ")}.`);
    if (spec.scale === "choice" && plot.y.type === "log" && pointsOfPlot(plot).some(({ y }) => y === 0)) notes.push("0 has no place on this axis: it is left out.");
    return { plot, notes };
  };
  const limited = () => {
    const { plot, notes } = made();
    if (plot.panels.length > MOST_PANELS) {
      notes.push(`The first ${MOST_PANELS} of ${plot.panels.length} panels are drawn; the table has all.`);
      plot.panels = plot.panels.slice(0, MOST_PANELS);
    }
    return { plot, note: notes.filter(Boolean).join(" ") };
  };
  const first = limited().plot;
  const controls = [];
  if (views.length > 1) controls.push(choice("Shown", views.map(([name]) => [name, name]), views[0][0], (name) => { state.view = given.views[name]; node.update(); }));
  if (given.scale === "choice") controls.push(choice("Axis", [["linear", "linear"], ["log", "logarithmic"]], first.y.type, (scale) => { state.scale = scale; node.update(); }));
  const table = () => {
    const ys = columnsFor({ ...given, ...state.view });
    const used = new Set(["run", ...dimensions.facets, ...dimensions.series, column, given.rows, given.order, ...(given.also ?? []), "count", "positions", "targets", given.n, given.baseline]);
    return { ...source, columns: columns.filter((name) => used.has(name) || ys.includes(name.replace(/_(low|high)$/, ""))) };
  };
  const node = figure({
    name: () => {
      const ys = columnsFor({ ...given, ...state.view });
      return `${given.name ?? given.table}.${ys.length > 1 ? "measures" : ys[0]}${state.view.cumulative ? ".cumulative" : ""}`;
    },
    title: titleOf(given), note: () => limited().note, controls, table,
    wide: given.wide || COMPARING && first.panels.length > 1,
    draw: (width) => { const { plot } = limited(); return given.kind === "matrix" ? matrixPlot(plot, width) : linesPlot(plot, width); },
  });
  return node;
}

function matrixOf(spec, rows, dimensions) {
  const column = spec.x ?? "layer", drawn = rows.filter((row) => Number.isFinite(row.value));
  const text = spec.share ? formatShare : formatNumber;
  const changeOf = (row) => (Number.isFinite(row.value) && Number.isFinite(row[spec.baseline]) ? row.value - row[spec.baseline] : null);
  const cellOf = (row) => ({
    value: spec.baseline ? changeOf(row) : row.value, count: row[spec.n ?? "count"],
    told: [spec.baseline ? `; ${words(spec.y)} ${text(row.value)}` : "", Number.isFinite(row.low) ? ` (95 % ${text(row.low)} to ${text(row.high)})` : "",
      spec.baseline ? `; without a patch ${text(row[spec.baseline])}` : ""].join(""),
  });
  return {
    label: titleOf(spec), columns: inOrderOf(column, valuesOf(rows, column)), rows: inOrderOf(spec.rows, valuesOf(drawn, spec.rows)),
    panels: groups(rows, dimensions.facets).map((facet) => ({
      title: groupName(dimensions.facets, facet.values, rows),
      cells: new Map(facet.rows.map((row) => [JSON.stringify([row[column] ?? null, row[spec.rows] ?? null]), cellOf(row)])),
    })),
    x: { title: words(column), name: (value) => String(value) }, y: { title: spec.yTitle, name: (value) => String(valueName(spec.rows, value)) },
    value: { title: spec.valueTitle, log: spec.scale === "log", share: spec.share, centre: spec.centre },
  };
}

/** [{id, title, node}] of all tables, drawn where PLOTS knows them. */
function tableSections() {
  const drawn = new Set();
  const figuresBySection = new Map(SECTIONS.map(({ id }) => [id, []]));
  for (const spec of PLOTS) {
    if (!spec.source && !TABLE_NAMES.includes(spec.table)) continue;
    const node = plotFigure(spec);
    if (!node) continue;
    drawn.add(spec.table);
    figuresBySection.get(SECTION_OF[spec.table] ?? spec.table.split(".")[0]).push(node);
  }
  const section = (id, title, text, nodes) => ({ id, title, node: el("section", { id }, el("h2", { text: title }), text ? el("p", { text }) : null, nodes) });
  const sections = SECTIONS.filter(({ id }) => figuresBySection.get(id).length > 0)
    .map(({ id, title, text }) => section(id, title, textOf(text), el("div", { class: "figures" }, figuresBySection.get(id))));
  const differences = differenceFigures();
  if (differences.length > 0) {
    sections.push(section("difference", `Differences to ${runName(RUNS[0].name)}`, "Each run less the first one, on the same documents or items: with intervals of the difference itself, mostly narrower than those of the two runs.",
      el("div", { class: "figures" }, differences)));
  }
  const others = TABLE_NAMES.filter((name) => !drawn.has(name));
  if (others.length > 0) sections.push(section("tables", "Other tables", null, others.map(plainTable)));
  return sections;
}
