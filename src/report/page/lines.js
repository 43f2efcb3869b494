// Plots of values over one axis, in panels with common axes: curves, bars, stacked bars, dots with intervals.

const PANEL = { least: 200, ample: 270, most: 720, height: 236, right: 20, top: 26, bottom: 46, gap: 10 };

/** Means of fewer cases look uncertain. */
const FEW_CASES = 10;

/** A title in as many lines as it takes, parted where its parts are. */
function titleLines(title, width) {
  const lines = [];
  for (const part of title.split(" · ")) {
    const longer = `${lines.at(-1)} · ${part}`;
    if (lines.length > 0 && textWidth(longer) <= width) lines[lines.length - 1] = longer;
    else lines.push(part);
  }
  return lines.map((line, i) => fitted(line, width - (i < lines.length - 1 ? textWidth(" ·") : 0)));
}

/** Names with their signs, in as many lines as it takes. Gives the group and its height. */
function legend(series, width, kind) {
  const group = svg("g");
  let x = 0, line = 0;
  for (const { name: whole, style, dash, sign, points } of series) {
    const name = fittedName(whole, Math.min(360, width - 30)), few = points?.every((point) => point.few);
    const needed = 30 + textWidth(name) + 16;
    if (x > 0 && x + needed - 16 > width) { x = 0; ++line; }
    const y = line * 18 + 10;
    group.append(kind === "line" ? svg("line", { x1: x, x2: x + 20, y1: y, y2: y, ...curveLook(style, dash, few) })
        : kind === "dots" ? dot(sign, x + 14, y, 6, (few ? "hollow " : "") + style)
          : svg("rect", { x: x + 8, y: y - 6, width: 12, height: 12, rx: 2, class: "bar " + style }),
      svg("text", { x: x + 26, y: y + 4 }, name, name === whole ? null : svg("title", { text: whole })));
    x += needed;
  }
  return { group, height: (line + 1) * 18 + 8 };
}

/** A disc, or another sign where the colours come again. */
function dot(sign = 0, x, y, size, look) {
  if (sign === 0) return svg("circle", { class: look, cx: x, cy: y, r: size });
  const corners = { 1: [[-1, -1], [1, -1], [1, 1], [-1, 1]], 2: [[0, -1.35], [1.35, 0], [0, 1.35], [-1.35, 0]], 3: [[0, -1.2], [1.2, 0.95], [-1.2, 0.95]] }[sign];
  return svg("path", { class: look, d: path(corners.map(([dx, dy]) => [x + dx * size * 0.9, y + dy * size * 0.9])) + "Z" });
}

/** Of few cases: thin and dotted. */
const curveLook = (style, dash, few) => ({ class: `curve ${few ? "few " : ""}${style}`, "stroke-dasharray": few ? "0.5 4" : dash });

function extent(values) {
  const finite = values.filter(Number.isFinite);
  return finite.length > 0 ? [Math.min(...finite), Math.max(...finite)] : [0, 1];
}
/** The panels that share the axes: also those on other sheets of paper. */
const panelsOf = (plot) => plot.allPanels ?? plot.panels;
/** A plot in parts of so many panels, each drawn on a sheet of its own. */
function inSheets(plot, count, draw) {
  return Array.from({ length: Math.ceil(plot.panels.length / count) }, (_, sheet) => draw({ ...plot, allPanels: panelsOf(plot), panels: plot.panels.slice(sheet * count, (sheet + 1) * count) })).flat();
}
const pointsOfPlot = (plot) => panelsOf(plot).flatMap((panel) => panel.series.flatMap((series) => series.points));

function yScale(plot, from, to) {
  const references = panelsOf(plot).flatMap((panel) => panel.series.map((series) => series.reference));
  const values = [...pointsOfPlot(plot).flatMap((point) => [point.y, point.low, point.high]), ...references].filter(Number.isFinite);
  const text = plot.y.share ? formatTickShare : formatTick;
  if (plot.y.type === "log") {
    const [low, high] = extent(values.filter((value) => value > 0));
    return logScale(plot.y.least ?? low, Math.max(high, (plot.y.least ?? low) * 2), from, to);
  }
  if (plot.kind === "stack") return linearScale(0, 1, from, to, { text });
  let [low, high] = extent(values);
  if (low === 0 && high === 0) high = 1;  // nothing but zeros
  if (plot.y.zero) [low, high] = [Math.min(0, low), Math.max(0, high)];
  if (low > 0 && (low < 0.5 * high || plot.kind === "bars" || plot.y.share && high <= 1)) low = 0;
  if (plot.y.share && high > 0.6 && high <= 1 && low >= 0) high = 1;
  const margin = 0.05 * (high - low);
  if (low !== 0) low -= margin;
  if (!(plot.y.share && high === 1)) high += margin;
  return linearScale(low, high, from, to, { text });
}

function xScale(plot, panel, from, to) {
  if (plot.x.type === "category") return bandScale(panel.values ?? plot.x.values, from, to, plot.x.name);
  const [low, high] = extent([...pointsOfPlot(plot).map((point) => point.x), ...(plot.marks ?? []).map((mark) => mark.x), plot.x.from]);
  if (plot.x.type === "log") return logScale(low, high, from, to);
  const inset = plot.kind === "bars" || plot.kind === "stack" ? 0.5 : 0;
  return linearScale(low - inset, high + inset, from, to, { whole: plot.x.whole, count: Math.min(8, (to - from) / 44) });
}

/** Runs of points that have a place; a missing one parts a curve. */
function unbroken(points, hasPlace) {
  const parts = [[]];
  for (const point of points) {
    if (hasPlace(point)) parts.at(-1).push(point);
    else if (parts.at(-1).length > 0) parts.push([]);
  }
  return parts.filter((part) => part.length > 0);
}
/** Stretches of a part of a curve that look alike: certain ones, and those from or to a point of few cases. */
function stretches(part) {
  const found = [];
  for (let i = 1; i < part.length; ++i) {
    const few = Boolean(part[i - 1].few || part[i].few);
    if (found.at(-1)?.few === few) found.at(-1).points.push(part[i]);
    else found.push({ few, points: [part[i - 1], part[i]] });
  }
  return found.length > 0 ? found : [{ few: part[0].few, points: part }];
}
const path = (corners) => corners.map(([x, y], i) => `${i > 0 ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
const isBounded = ({ low, high }) => Number.isFinite(low) && Number.isFinite(high);

function whisker({ low, high }, x, ys, style) {
  return svg("line", { class: "whisker " + style, x1: x, x2: x, y1: ys.position(low), y2: ys.position(high) });
}

const MARKS = {
  line(series, xs, ys, unit, area) {
    const place = ({ x, y }) => [xs.position(x), ys.position(y)];
    return series.flatMap(({ points, style, dash, reference }) => [
      Number.isFinite(reference) ? svg("line", { class: "reference " + style, x1: area.left, x2: area.right, y1: ys.position(reference), y2: ys.position(reference) }) : null,
      unbroken(points, (point) => xs.shows(point.x) && ys.shows(point.y) && isBounded(point)).filter((part) => part.length > 1).map((part) => svg("path", { class: "band " + style,
        d: path([...part.map(({ x, high }) => place({ x, y: high })), ...part.map(({ x, low }) => place({ x, y: low })).reverse()]) + "Z" })),
      unbroken(points, ({ x, y }) => xs.shows(x) && ys.shows(y)).map((part) => [
        stretches(part).map((stretch) => svg("path", { ...curveLook(style, dash, stretch.few), d: path(stretch.points.map(place)) })),
        part.filter(({ xLow, xHigh }) => Number.isFinite(xLow) && Number.isFinite(xHigh)).map(({ xLow, xHigh, y }) => svg("line", { class: "whisker " + style, x1: xs.position(xLow), x2: xs.position(xHigh), y1: ys.position(y), y2: ys.position(y) })),
        part.length <= 40 ? part.map(({ few, ...point }) => svg("circle", { class: style, cx: place(point)[0].toFixed(1), cy: place(point)[1].toFixed(1), r: few ? 1.4 : 2 })) : null,
      ]),
    ]);
  },
  bars(series, xs, ys, unit) {
    const width = (unit * 0.8) / series.length;
    return series.flatMap(({ points, style }, s) => points.filter(({ x, y }) => xs.shows(x) && ys.shows(y)).map((point) => {
      const left = xs.position(point.x) - unit * 0.4 + s * width, at = [ys.position(0), ys.position(point.y)];
      return [svg("rect", { class: "bar " + style, x: left, width: Math.max(0.5, width - 0.5), y: Math.min(...at), height: Math.abs(at[0] - at[1]) }),
        isBounded(point) ? whisker(point, left + width / 2, ys, "ink") : null];
    }));
  },
  stack(series, xs, ys, unit, area) {
    const sums = new Map();
    const bars = series.flatMap(({ points, style }) => points.filter(({ x, y }) => xs.shows(x) && ys.shows(y)).map(({ x, y }) => {
      const below = sums.get(x) ?? 0;
      sums.set(x, below + y);
      return svg("rect", { class: "bar " + style, x: xs.position(x) - unit * 0.42, width: Math.max(0.5, unit * 0.84),
        y: ys.position(below + y), height: Math.max(0, ys.position(below) - ys.position(below + y)) });
    }));
    let sum = 0;
    const references = series.slice(0, -1).filter(({ reference }) => Number.isFinite(reference)).map(({ reference }) => {
      sum += reference;
      return svg("line", { class: "reference ink", x1: area.left, x2: area.right, y1: ys.position(sum), y2: ys.position(sum) });
    });
    return [...bars, ...references];
  },
  dots(series, xs, ys, unit) {
    const step = (unit * 0.7) / Math.max(1, series.length);
    return series.flatMap(({ points, style, sign }, s) => points.filter(({ x, y }) => xs.shows(x) && ys.shows(y)).flatMap((point) => {
      const centre = xs.position(point.x) + (s - (series.length - 1) / 2) * step;
      return [
        isBounded(point) ? whisker(point, centre, ys, style) : null,
        dot(sign, centre, ys.position(point.y), Math.min(3.4, Math.max(1.6, step / 2)), (point.few ? "hollow " : "") + style),
      ];
    }));
  },
};

/** Labels beside points, where there is room for them; the tooltip has them all. */
function pointLabels(series, xs, ys, area) {
  const placed = series.flatMap(({ points, style }) => points.filter(({ x, y }) => xs.shows(x) && ys.shows(y))
    .map((point) => ({ text: point.label, style, x: xs.position(point.x), y: ys.position(point.y) })));
  const taken = placed.map(({ x, y }) => ({ left: x - 3, right: x + 3, top: y - 3, bottom: y + 3 }));
  const isFree = (box) => box.left >= area.left && box.right <= area.right + 12 && box.top >= area.top - 8 && box.bottom <= area.bottom &&
    taken.every((other) => box.right < other.left || box.left > other.right || box.bottom < other.top || box.top > other.bottom);
  return placed.filter(({ text }) => text !== undefined).flatMap(({ text, style, x, y }) => {
    const width = textWidth(text);
    for (const [dx, dy] of [[6, 6], [-width - 6, -4], [6, -4], [-width - 6, 6], [-width / 2, 16], [-width / 2, -8]]) {
      const box = { left: x + dx, right: x + dx + width, top: y + dy - 2, bottom: y + dy + 8 };
      if (!isFree(box)) continue;
      taken.push(box);
      return [svg("text", { class: "point-label " + style, x: box.left, y: box.bottom, text })];
    }
    return [];
  });
}

function xAxis(plot, xs, bottom, from, to) {
  const crowded = plot.x.type === "category" && xs.ticks.some(({ text }) => textWidth(text) > xs.width - 4);
  const labels = xs.ticks.map(({ value, text }) => {
    const x = xs.position(value).toFixed(1);
    return crowded
      ? svg("text", { transform: `translate(${Number(x) + 3} ${bottom + 12}) rotate(-38)`, "text-anchor": "end", text: shortened(text, 16) })
      : svg("text", { x, y: bottom + 16, "text-anchor": "middle", text });
  });
  return svg("g", {}, svg("line", { class: "axis", x1: from, x2: to, y1: bottom, y2: bottom }), labels,
    svg("text", { x: (from + to) / 2, y: bottom + (crowded ? 66 : 34), "text-anchor": "middle", text: plot.x.title }));
}

/** The points of a series at x, or the nearest within half a step of the series: models differ in depth. */
function pointsAt({ points }, x, xs) {
  const distance = (point) => Math.abs(xs.position(point.x) - xs.position(x));
  const placed = points.filter((point) => xs.shows(point.x)), there = placed.filter((point) => point.x === x);
  if (there.length > 0 || xs.width) return there;
  const nearest = placed.reduce((best, point) => (best && distance(best) <= distance(point) ? best : point), null);
  if (!nearest) return [];
  const [first, last] = extent(placed.map((point) => xs.position(point.x)));
  return distance(nearest) <= (last - first) / Math.max(1, placed.length - 1) / 2 + 1e-6 ? [nearest] : [];
}

/** Values of all series where x is nearest, in the tooltip and as words for those who cannot see it. */
function reader(plot, panel, xs, area, group) {
  const all = [...new Set(panel.series.flatMap((series) => series.points.filter((point) => xs.shows(point.x)).map((point) => point.x)))]
    .sort((a, b) => xs.position(a) - xs.position(b));
  const text = plot.y.share ? formatShare : formatNumber;
  const nameOf = plot.x.type === "category" ? plot.x.name : formatNumber;
  let current = -1;
  const rule = svg("line", { class: "rule", y1: area.top, y2: area.bottom, visibility: "hidden" });
  const show = (index) => {
    if (all.length === 0) return;
    current = Math.max(0, Math.min(all.length - 1, index));
    const x = xs.position(all[current]);
    rule.setAttribute("x1", x);
    rule.setAttribute("x2", x);
    rule.setAttribute("visibility", "visible");
    const lines = panel.series.flatMap((series) => pointsAt(series, all[current], xs).map((point) => {
      const parts = [text(point.y), isBounded(point) ? `(${text(point.low)} to ${text(point.high)})` : null, point.x === all[current] ? null : `at ${formatNumber(point.x)}`, point.note];
      return { series, value: parts.filter(Boolean).join(" "), cases: plot.tellsCases && Number.isFinite(point.n) ? casesText([point.n]) : "" };
    }));
    const head = `${plot.x.title}: ${nameOf(all[current])}`;
    const rows = lines.map(({ series, value, cases }) => el("tr", {},
      el("td", {}, svg("svg", { viewBox: "0 0 10 10" }, svg("circle", { cx: 5, cy: 5, r: 4, class: series.style })), series.name),
      el("td", { class: "number", text: value }), cases ? el("td", { class: "id", text: cases }) : null));
    const anchor = () => {
      const box = hit.getBoundingClientRect(), at = box.left + ((x - area.left) / (area.right - area.left)) * box.width;
      return { left: at, right: at, top: box.top + 8 };
    };
    tooltip.show(hit, anchor, el("div", { class: "head", text: head }), el("table", {}, rows));
    return [head, ...lines.map(({ series, value, cases }) => `${series.name} ${value}${cases ? ", " + cases : ""}`)].join("; ");
  };
  const hide = () => { rule.setAttribute("visibility", "hidden"); tooltip.hide(); };
  const hit = svg("rect", {
    class: "hit", x: area.left, y: area.top, width: area.right - area.left, height: area.bottom - area.top, tabindex: 0, role: "img",
    "aria-label": `${plot.label}${panel.title ? ", " + panel.title : ""}. Arrow keys read the values.`,
    onpointermove: (event) => {
      const box = hit.getBoundingClientRect();
      const x = area.left + ((event.clientX - box.left) / box.width) * (area.right - area.left);
      let nearest = 0;
      all.forEach((value, i) => { if (Math.abs(xs.position(value) - x) < Math.abs(xs.position(all[nearest]) - x)) nearest = i; });
      show(nearest);
    },
    onpointerleave: hide, onblur: hide,
    onkeydown: (event) => {
      const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, Home: -Infinity, End: Infinity }[event.key];
      if (event.key === "Escape") hide();
      if (step === undefined) return;
      event.preventDefault();
      announce(show(current < 0 ? (step === 1 || step === -Infinity ? 0 : all.length - 1) : current + step) ?? "");
    },
  });
  group.append(rule, hit);
}

/**
 * Gives a drawing, on paper one for each sheet that it takes.
 * plot: {label, kind, panels: [{title, cases, values, series: [{name, style, dash, reference, points: [{x, xLow, xHigh, y, low, high, n, few, label, note}]}]}],
 *        x: {title, type: "number" | "log" | "category", values, name, whole, from},
 *        y: {title, type: "linear" | "log", share, least, zero}, marks: [{x, text}], tellsCases}
 * `cases` of a panel stands below its title; `values` are its categories, where they are not those of all; `reference` is a level beside the curve; marks are places on x; with `tellsCases` the tooltip tells n; `from` and `zero` belong to the axes in any case.
 */
function linesPlot(plot, width) {
  const count = plot.panels.length;
  const most = Math.max(1, Math.floor(width / Math.min(PANEL.ample, Math.max(PANEL.least, width / 3))));  // on paper three, if narrow
  const across = plot.allPanels ? most : Math.ceil(count / Math.ceil(count / most));  // rows of equal length
  if (printing && count > across * PRINTED.rows) return inSheets(plot, across * PRINTED.rows, (part) => linesPlot(part, width));
  const panelWidth = Math.min(PANEL.most, Math.floor((width - (across - 1) * PANEL.gap) / across));
  const named = plot.legend ?? [...new Map(panelsOf(plot).flatMap((panel) => panel.series).map((series) => [series.key ?? series.name, series])).values()];
  const words = plot.x.type === "category" && plot.x.values.some((value) => textWidth(plot.x.name(value)) > (panelWidth - 70) / plot.x.values.length - 4);
  const bold = 1.18, lineHeight = 13;
  const titles = new Map(panelsOf(plot).map((panel) => [panel, titleLines(panel.title ?? "", panelWidth / bold)]));
  const titleSpace = PANEL.top + lineHeight * (Math.max(...[...titles.values()].map(({ length }) => length)) - 1) + (panelsOf(plot).some((panel) => panel.cases) ? 12 : 0);
  const panelHeight = PANEL.height + (words ? 32 : 0) + titleSpace - PANEL.top, bottomSpace = PANEL.bottom + (words ? 32 : 0);
  const margin = 28 + Math.max(20, ...yScale(plot, 100, 0).ticks.map(({ text }) => textWidth(text)));
  const plotWidth = Math.min(width, across * panelWidth + (across - 1) * PANEL.gap);
  const key = named.length > 1 || named[0]?.name ? legend(named, plotWidth, plot.kind) : { group: svg("g"), height: 0 };
  const total = { width: plotWidth, height: key.height + Math.ceil(count / across) * panelHeight };
  const drawing = svg("svg", { width: total.width, height: total.height, viewBox: `0 0 ${total.width} ${total.height}`, role: "group", "aria-label": plot.label }, key.group);
  plot.panels.forEach((panel, i) => {
    const left = (i % across) * (panelWidth + PANEL.gap), top = key.height + Math.floor(i / across) * panelHeight;
    const area = { left: left + margin, right: left + panelWidth - PANEL.right, top: top + (panel.title || panel.cases ? titleSpace : 10), bottom: top + panelHeight - bottomSpace };
    const ys = yScale(plot, area.bottom, area.top), xs = xScale(plot, panel, area.left, area.right);
    const xValues = new Set(pointsOfPlot(plot).map((point) => point.x));
    const unit = xs.width ?? (area.right - area.left) / Math.max(1, extent([...xValues])[1] - extent([...xValues])[0] + 1);
    const lines = titles.get(panel), end = left + panelWidth;  // a title that needs more room begins before the axis
    const titleLeft = Math.max(left, Math.min(area.left, end - Math.max(...lines.map(textWidth)) * bold));
    const group = svg("g", {},
      panel.title ? svg("text", { class: "panel-title", y: top + 14 }, lines.map((line, l) => svg("tspan", { x: titleLeft, dy: l > 0 ? lineHeight : null, text: l < lines.length - 1 ? line + " · " : line })),
        lines.join(" · ") === panel.title ? null : svg("title", { text: panel.title })) : null,
      panel.cases ? svg("text", { x: area.left, y: area.top - 8, text: panel.cases }) : null,
      ys.ticks.map(({ value, text }) => [
        svg("line", { class: "grid", x1: area.left, x2: area.right, y1: ys.position(value), y2: ys.position(value) }),
        svg("text", { x: area.left - 7, y: ys.position(value) + 4, "text-anchor": "end", text })]),
      plot.y.zero ? svg("line", { class: "axis", x1: area.left, x2: area.right, y1: ys.position(0), y2: ys.position(0) }) : null,
      (plot.marks ?? []).map(({ x, text }) => [svg("line", { class: "mark", x1: xs.position(x), x2: xs.position(x), y1: area.top, y2: area.bottom }),
        svg("text", { class: "point-label", x: xs.position(x) - 4, y: area.bottom - 5, "text-anchor": "end", text })]),
      i % across === 0 ? svg("text", { transform: `translate(${left + 11} ${(area.top + area.bottom) / 2}) rotate(-90)`, "text-anchor": "middle", text: plot.y.title }) : null,
      MARKS[plot.kind](panel.series, xs, ys, unit, area), pointLabels(panel.series, xs, ys, area), xAxis(plot, xs, area.bottom, area.left, area.right));
    reader(plot, panel, xs, area, group);
    drawing.append(group);
  });
  return drawing;
}
