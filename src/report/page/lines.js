// Plots of values over one axis, in panels with common axes: curves, bars, stacked bars, dots with intervals.

const PANEL = { least: 270, most: 720, height: 236, left: 56, right: 20, top: 26, bottom: 46, gap: 10 };

/** Names with their signs, in as many lines as it takes. Gives the group and its height. */
function legend(series, width, kind) {
  const group = svg("g");
  let x = 0, line = 0;
  for (const { name: whole, style, dash } of series) {
    const name = shortened(whole, 60);
    const needed = 30 + textWidth(name) + 16;
    if (x > 0 && x + needed > width) { x = 0; ++line; }
    const y = line * 18 + 10;
    group.append(kind === "line" ? svg("line", { x1: x, x2: x + 20, y1: y, y2: y, class: "curve " + style, "stroke-dasharray": dash })
        : svg("rect", { x: x + 8, y: y - 6, width: 12, height: 12, rx: kind === "dots" ? 6 : 2, class: "bar " + style }),
      svg("text", { x: x + 26, y: y + 4, text: name }));
    x += needed;
  }
  return { group, height: (line + 1) * 18 + 8 };
}

function extent(values) {
  const finite = values.filter(Number.isFinite);
  return finite.length > 0 ? [Math.min(...finite), Math.max(...finite)] : [0, 1];
}

function yScale(plot, from, to) {
  const points = plot.panels.flatMap((panel) => panel.series.flatMap((series) => series.points));
  const values = points.flatMap((point) => [point.y, point.low, point.high]).filter(Number.isFinite);
  const text = plot.y.share ? formatTickShare : formatNumber;
  if (plot.y.type === "log") {
    const [low, high] = extent(values.filter((value) => value > 0));
    return logScale(plot.y.least ?? low, Math.max(high, (plot.y.least ?? low) * 2), from, to);
  }
  if (plot.kind === "stack") return linearScale(0, 1, from, to, { text });
  let [low, high] = extent(values);
  if (low > 0 && (low < 0.5 * high || plot.kind === "bars" || plot.y.share && high <= 1)) low = 0;
  if (plot.y.share && high > 0.6 && high <= 1) high = 1;
  const margin = 0.05 * (high - low);
  if (low !== 0) low -= margin;
  if (!(plot.y.share && high === 1)) high += margin;
  return linearScale(low, high, from, to, { text });
}

function xScale(plot, from, to) {
  if (plot.x.type === "category") return bandScale(plot.x.values, from, to, plot.x.name);
  const [low, high] = extent(plot.panels.flatMap((panel) => panel.series.flatMap((series) => series.points.map((point) => point.x))));
  if (plot.x.type === "log") return logScale(low, high, from, to);
  const inset = plot.kind === "bars" || plot.kind === "stack" ? 0.5 : 0;
  return linearScale(low - inset, high + inset, from, to, { whole: plot.x.whole, count: Math.min(8, (to - from) / 44) });
}

/** Runs of points that have a place on both axes; a missing value parts a curve. */
function unbroken(points, xs, ys) {
  const parts = [[]];
  for (const point of points) {
    if (xs.shows(point.x) && ys.shows(point.y)) parts.at(-1).push(point);
    else if (parts.at(-1).length > 0) parts.push([]);
  }
  return parts.filter((part) => part.length > 0);
}
const path = (corners) => corners.map(([x, y], i) => `${i > 0 ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

const MARKS = {
  line(series, xs, ys) {
    return series.flatMap(({ points, style, dash }) => unbroken(points, xs, ys).flatMap((part) => {
      const bounded = part.filter(({ low, high }) => ys.shows(low) && ys.shows(high));
      const above = bounded.map(({ x, high }) => [xs.position(x), ys.position(high)]);
      const below = bounded.map(({ x, low }) => [xs.position(x), ys.position(low)]).reverse();
      return [
        bounded.length > 1 ? svg("path", { class: "band " + style, d: path([...above, ...below]) + "Z" }) : null,
        svg("path", { class: "curve " + style, "stroke-dasharray": dash, d: path(part.map(({ x, y }) => [xs.position(x), ys.position(y)])) }),
        part.length <= 40 ? part.map(({ x, y }) => svg("circle", { class: style, cx: xs.position(x).toFixed(1), cy: ys.position(y).toFixed(1), r: 2 })) : null,
      ];
    }));
  },
  bars(series, xs, ys, unit) {
    const width = (unit * 0.8) / series.length;
    return series.flatMap(({ points, style }, s) => points.filter(({ x, y }) => xs.shows(x) && ys.shows(y)).map(({ x, y }) =>
      svg("rect", { class: "bar " + style, x: xs.position(x) - unit * 0.4 + s * width, width: Math.max(0.5, width - 0.5),
        y: ys.position(y), height: Math.max(0, ys.position(0) - ys.position(y)) })));
  },
  stack(series, xs, ys, unit) {
    const sums = new Map();
    return series.flatMap(({ points, style }) => points.filter(({ x, y }) => xs.shows(x) && ys.shows(y)).map(({ x, y }) => {
      const below = sums.get(x) ?? 0;
      sums.set(x, below + y);
      return svg("rect", { class: "bar " + style, x: xs.position(x) - unit * 0.42, width: Math.max(0.5, unit * 0.84),
        y: ys.position(below + y), height: Math.max(0, ys.position(below) - ys.position(below + y)) });
    }));
  },
  dots(series, xs, ys, unit) {
    const step = (unit * 0.7) / Math.max(1, series.length);
    return series.flatMap(({ points, style }, s) => points.filter(({ x, y }) => xs.shows(x) && ys.shows(y)).flatMap(({ x, y, low, high }) => {
      const centre = xs.position(x) + (s - (series.length - 1) / 2) * step;
      return [
        ys.shows(low) && ys.shows(high) ? svg("line", { class: "whisker " + style, x1: centre, x2: centre, y1: ys.position(low), y2: ys.position(high) }) : null,
        svg("circle", { class: style, cx: centre, cy: ys.position(y), r: 3.4 }),
      ];
    }));
  },
};

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
    const lines = panel.series.flatMap((series) => {
      const point = series.points.find((candidate) => candidate.x === all[current]);
      if (!point) return [];
      const bounds = Number.isFinite(point.low) && Number.isFinite(point.high) ? ` (${text(point.low)} to ${text(point.high)})` : "";
      return [{ series, value: text(point.y) + bounds }];
    });
    const head = `${plot.x.title}: ${nameOf(all[current])}`;
    const rows = lines.map(({ series, value }) => el("tr", {},
      el("td", {}, svg("svg", { viewBox: "0 0 10 10" }, svg("circle", { cx: 5, cy: 5, r: 4, class: series.style })), series.name),
      el("td", { class: "number", text: value })));
    const anchor = () => {
      const box = hit.getBoundingClientRect(), at = box.left + ((x - area.left) / (area.right - area.left)) * box.width;
      return { left: at, right: at, top: box.top + 8 };
    };
    tooltip.show(anchor, el("div", { class: "head", text: head }), el("table", {}, rows));
    return [head, ...lines.map(({ series, value }) => `${series.name} ${value}`)].join("; ");
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
      announce(show(current < 0 ? (step > 0 ? 0 : all.length - 1) : current + step) ?? "");
    },
  });
  group.append(rule, hit);
}

/**
 * plot: {label, kind, panels: [{title, series: [{name, style, dash, points: [{x, y, low, high}]}]}],
 *        x: {title, type: "number" | "log" | "category", values, name, whole}, y: {title, type: "linear" | "log", share, least}}
 */
function linesPlot(plot, width) {
  const count = plot.panels.length;
  const most = Math.max(1, Math.floor(width / PANEL.least));
  const across = Math.ceil(count / Math.ceil(count / most));  // rows of equal length
  const panelWidth = Math.min(PANEL.most, Math.floor((width - (across - 1) * PANEL.gap) / across));
  const named = [...new Map(plot.panels.flatMap((panel) => panel.series).map((series) => [series.name, series])).values()];
  const words = plot.x.type === "category" && plot.x.values.some((value) => textWidth(plot.x.name(value)) > (panelWidth - 70) / plot.x.values.length - 4);
  const panelHeight = PANEL.height + (words ? 32 : 0), bottomSpace = PANEL.bottom + (words ? 32 : 0);
  const plotWidth = Math.min(width, across * panelWidth + (across - 1) * PANEL.gap);
  const key = named.length > 1 || named[0]?.name ? legend(named, plotWidth, plot.kind) : { group: svg("g"), height: 0 };
  const total = { width: plotWidth, height: key.height + Math.ceil(count / across) * panelHeight };
  const drawing = svg("svg", { width: total.width, height: total.height, viewBox: `0 0 ${total.width} ${total.height}`, role: "group", "aria-label": plot.label }, key.group);
  plot.panels.forEach((panel, i) => {
    const left = (i % across) * (panelWidth + PANEL.gap), top = key.height + Math.floor(i / across) * panelHeight;
    const area = { left: left + PANEL.left, right: left + panelWidth - PANEL.right, top: top + (panel.title ? PANEL.top : 10), bottom: top + panelHeight - bottomSpace };
    const ys = yScale(plot, area.bottom, area.top), xs = xScale(plot, area.left, area.right);
    const xValues = new Set(plot.panels.flatMap((each) => each.series.flatMap((series) => series.points.map((point) => point.x))));
    const unit = xs.width ?? (area.right - area.left) / Math.max(1, extent([...xValues])[1] - extent([...xValues])[0] + 1);
    const group = svg("g", {},
      panel.title ? svg("text", { class: "panel-title", x: area.left, y: top + 14, text: panel.title }) : null,
      ys.ticks.map(({ value, text }) => [
        svg("line", { class: "grid", x1: area.left, x2: area.right, y1: ys.position(value), y2: ys.position(value) }),
        svg("text", { x: area.left - 7, y: ys.position(value) + 4, "text-anchor": "end", text })]),
      i % across === 0 ? svg("text", { transform: `translate(${left + 11} ${(area.top + area.bottom) / 2}) rotate(-90)`, "text-anchor": "middle", text: plot.y.title }) : null,
      MARKS[plot.kind](panel.series, xs, ys, unit), xAxis(plot, xs, area.bottom, area.left, area.right));
    reader(plot, panel, xs, area, group);
    drawing.append(group);
  });
  return drawing;
}
