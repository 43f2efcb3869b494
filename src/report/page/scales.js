// Axes and colours.

function niceStep(span, count) {
  const rough = span / Math.max(1, count), power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 2.5, 5, 10].find((step) => step * power >= rough * 0.999);
}

/** Scales have: position(value), ticks [{value, text}], and `shows(value)`, false where a value has no place. On a
 *  logarithmic one the ends of bands that have none lie at its lower end. */
function linearScale(low, high, from, to, { count = 5, whole = false, text = formatTick } = {}) {
  if (!(high > low)) [low, high] = [low - 0.5, low + 0.5];
  let step = niceStep(high - low, count);
  if (whole) step = Math.max(1, Math.ceil(step));
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; ++i) {
    const value = Number((i * step).toPrecision(12));
    ticks.push({ value, text: text(value, step).replaceAll("-", "−") });
  }
  return { ticks, shows: Number.isFinite, position: (value) => from + ((value - low) / (high - low)) * (to - from) };
}

function logScale(low, high, from, to) {
  if (!(low > 0)) [low, high] = [1, 10];  // of no value at all
  if (!(high > low)) high = low * 10;
  const first = Math.log(low), span = Math.log(high) - first;
  const decades = Math.log10(high / low);
  const every = Math.max(1, Math.ceil(decades / 6));
  const ticksAt = (factors) => {
    const ticks = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); ++e) {
      for (const factor of factors) {
        const value = factor * 10 ** e;
        if (value < low * 0.999 || value > high * 1.001 || (e % every !== 0)) continue;
        ticks.push({ value, text: formatNumber(Number(value.toPrecision(12))) });
      }
    }
    return ticks;
  };
  const kinds = [[1], [1, 2, 5], [1, 2, 3, 4, 5, 6, 7, 8, 9]].slice(decades < 1.3 ? 1 : 0).map(ticksAt);
  const ticks = kinds.find(({ length }) => length >= 3) ?? linearScale(low, high, from, to, { count: 6 }).ticks;
  return {
    ticks, shows: (value) => Number.isFinite(value) && value > 0,
    position: (value) => from + ((Math.log(Math.max(value, low)) - first) / span) * (to - from),
  };
}

/** Places for words, `width` wide each. */
function bandScale(values, from, to, name) {
  const width = (to - from) / Math.max(1, values.length);
  return {
    width, ticks: values.map((value) => ({ value, text: name(value) })), shows: (value) => values.includes(value),
    position: (value) => from + (values.indexOf(value) + 0.5) * width,
  };
}

// Lightness rises or falls all the way, as in viridis: the order is there without the hue.
const RAMP_ON_LIGHT = ["#fbf9ec", "#e0ebb4", "#a5d6a0", "#5fb99b", "#2f9595", "#2c6f8c", "#3a4a80", "#3d2264"];
const RAMP_ON_DARK = ["#1f2027", "#3a3560", "#3c4f8a", "#2f7399", "#2f9595", "#5bb987", "#a8d672", "#f0e97a"];

function channels(colour) {
  return [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
}
/** Colour of a share from 0 to 1, and the class of text on it. */
function rampColour(share) {
  return colourAlong(theme.dark ? RAMP_ON_DARK : RAMP_ON_LIGHT, share);
}
/** The same for values around 0, which is at one half. */
function signedColour(share) {
  return colourAlong(theme.dark ? ["#8ec4f2", "#356794", "#26282d", "#955524", "#f8ac6a"] : ["#1f5f9e", "#7fb0d6", "#f6f3ea", "#eea66d", "#b34a00"], share);
}
function colourAlong(ramp, share) {
  const place = Math.min(1, Math.max(0, share)) * (ramp.length - 1), index = Math.min(ramp.length - 2, Math.floor(place));
  const [low, high] = [channels(ramp[index]), channels(ramp[index + 1])];
  const mixed = low.map((channel, i) => Math.round(channel + (place - index) * (high[i] - channel)));
  const linear = mixed.map((channel) => (channel / 255) ** 2.2);
  const luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  return { fill: `rgb(${mixed.join(",")})`, ink: luminance > 0.24 ? "on-light" : "on-dark" };
}

/** A bar of colours with the values that they stand for; `scale` leads from values to 0 … 1. */
function rampLegend(title, scale, x, y, colourOf = rampColour) {
  const steps = 48, width = 180;
  const swatches = Array.from({ length: steps }, (_, i) => svg("rect", {
    x: x + (i * width) / steps, y: y + 5, width: width / steps + 0.6, height: 9, fill: colourOf(i / (steps - 1)).fill }));
  const marks = scale.ticks.filter(({ value }) => scale.position(value) >= -0.001 && scale.position(value) <= 1.001)
    .map(({ value, text }) => svg("text", { x: x + scale.position(value) * width, y: y + 26, "text-anchor": "middle", text }));
  return svg("g", {}, svg("text", { x, y, text: title }), swatches, marks);
}

const measuring = document.createElement("canvas").getContext("2d");
function textWidth(text) {
  measuring.font = "11px system-ui, sans-serif";
  return measuring.measureText(text).width;
}
/** The beginning of a text that is at most `width` wide. */
function fitted(text, width, shorten = shortened) {
  const narrowest = 2;  // texts may be very long
  let most = Math.ceil(width / narrowest), cut = shorten(text, most);
  while (most > 1 && textWidth(cut) > width) cut = shorten(text, most = Math.min(most, Array.from(cut).length) - 1);
  return cut;
}
/** A name of several parts, about `width` wide at most: long parts lose their middles, as names of one series differ at their ends. */
function fittedName(name, width) {
  const between = " · ", parts = name.split(between), room = width - (parts.length - 1) * textWidth(between), widths = parts.map(textWidth);
  const least = 20, step = 4;
  let most = Math.max(...widths);
  while (most > least && widths.reduce((sum, needed) => sum + Math.min(needed, most), 0) > room) most -= step;
  return parts.map((part) => fitted(part, most, withoutMiddle)).join(between);
}
