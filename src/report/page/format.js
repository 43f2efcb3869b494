// Numbers and names for people.

function formatNumber(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e12) return value.toLocaleString("en-US");
  if (size >= 1000 && size < 1e9) return value.toLocaleString("en-US", { maximumFractionDigits: 0 });
  if (size < 1e-4 || size >= 1e9) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}
function formatShare(value) {
  if (value === null || value === undefined) return "–";
  if (value < 0) return "-" + formatShare(-value);
  const percent = 100 * value;
  if (percent === 0 || percent === 100) return percent + " %";
  if (percent < 1) return (percent < 0.01 ? percent.toExponential(0) : percent.toPrecision(2)) + " %";
  // Nearly all is not all.
  const text = [3, 4, 5, 6].map((digits) => percent.toPrecision(digits)).find((digits) => percent > 100 || Number(digits) < 100);
  return (text ?? ">99.999") + " %";
}

/** A number on an axis whose marks are `step` apart: as many digits as tell them apart. */
function formatTick(value, step) {
  const size = Math.abs(value), more = 1;  // digit, of a step of 2.5
  if (!(step > 0) || value === 0 || size >= 1e9) return formatNumber(value);
  if (size < 1e-4) return value.toExponential(Math.max(2, Math.ceil(Math.log10(size / step)) + more));
  return value.toLocaleString("en-US", { maximumFractionDigits: Math.min(20, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9)) + more) });
}

/** A share on an axis: no digits that it does not need. */
function formatTickShare(value, step) {
  const percent = 100 * value;
  return (step > 0 ? formatTick(percent, 100 * step) : String(Number(percent.toPrecision(4)))) + " %";
}

/** "n = 12", or "n = 3–12" where numbers of cases differ. */
function casesText(counts) {
  const least = Math.min(...counts), most = Math.max(...counts);
  return `n = ${formatNumber(least)}${most > least ? "–" + formatNumber(most) : ""}`;
}

const COLUMN_NAMES = {
  lens: "lens", kl_final: "KL to final", kl_reverse: "KL from final", cross_entropy: "cross-entropy", entropy: "entropy",
  options_in_top: "all options near the top", answer_position: "answer token", answer_length: "answer length",
  max_probability: "max. probability", top2_gap: "gap of the top two", speedup_bound: "speed-up at most",
};
function words(name) {
  return Object.hasOwn(COLUMN_NAMES, name) ? COLUMN_NAMES[name] : name.replaceAll("_", " ");
}

/** Roles of tokens in pairs of prompts. */
const ROLE_NAMES = {
  first_different: "first different token", middle_different: "tokens between", last_different: "last different token",
  after: "tokens after", last: "last token",
};

/** The name of a run in a comparison, where it is long without its middle if that is another for each. */
function runName(name) {
  const most = 32, short = withoutMiddle(plain(name), most);
  return RUNS.filter((run) => withoutMiddle(plain(run.name), most) === short).length > 1 ? plain(name) : short;
}

/** A value of a dimension, as a legend or title tells it. */
function valueName(dimension, value) {
  if (value === null) return "none";
  if (dimension === "bucket") {
    const range = /^top_(\d+)_(\d+)$/.exec(value);
    if (range) return `ranks ${Number(range[1]).toLocaleString("en-US")}–${Number(range[2]).toLocaleString("en-US")}`;
    if (value === "rest") return "rarer tokens";
    return value === "all" ? "all tokens" : String(value);
  }
  if (dimension === "threshold") return `rank ≤ ${value}`;
  if (dimension === "layer" && typeof value === "number") return `layer ${value}`;
  if (dimension === "answer_position") return `answer token ${value}`;
  if (dimension === "answer_length") return value === 1 ? "answers of 1 token" : `answers of ${value} tokens`;
  if (dimension === "position" && Object.hasOwn(ROLE_NAMES, value)) return ROLE_NAMES[value];
  if (dimension === "option") return `option ${plain(value)}`;
  if (dimension === "run") return runName(value);
  if (dimension === "criterion") return `${plain(words(String(value)))} ${value === "entropy" ? "≤" : "≥"} τ`;
  if (dimension === "token" || dimension === "pair") return visible(String(value));
  return plain(value);
}
