// The head of the page: what was run.

function fact(name, ...content) {
  return el("div", {}, el("dt", { text: name }), el("dd", {}, content));
}
const MOST_INPUTS = 10;
/** Lines below each other; of more than `most` the first, and the others on demand. */
function inLines(lines, most = lines.length) {
  const below = (some) => some.flatMap((line, i) => (i > 0 ? [el("br"), line] : [line]));
  if (lines.length <= most) return below(lines);
  return [...below(lines.slice(0, most)), el("details", {}, el("summary", { text: `${formatNumber(lines.length - most)} more` }), below(lines.slice(most)))];
}
const plural = (count, one, many = one + "s") => `${formatNumber(count)} ${count === 1 ? one : many}`;
const told = (value) => plain(typeof value === "object" ? JSON.stringify(value) : value);
/** The objects of a list that comes from a file. */
const objectsOf = (list) => (Array.isArray(list) ? list.filter((value) => typeof value === "object" && value !== null) : []);
const pathOf = (path) => (path === null || path === undefined ? "" : plain(path));

function describeModel(model) {
  const size = model.parameters >= 1e6 ? `${formatNumber(Number((model.parameters / 1e6).toPrecision(3)))} million parameters` : Number.isFinite(model.parameters) ? plural(model.parameters, "parameter") : null;
  return [model.architecture && plain(model.architecture), plural(model.layers, "layer"), model.hidden_size && `width ${formatNumber(model.hidden_size)}`,
    model.vocab_size && `${formatNumber(model.vocab_size)} tokens`, size, model.dtype && plain(model.dtype)].filter(Boolean).join(" · ");
}

/** How many cases the tables of a run count, in words: not all that the model was run on. */
function countedText({ run, tables }) {
  const counts = run.counts ?? {}, settings = run.settings ?? {};
  if (Number.isInteger(counts.pairs)) return plural(counts.pairs, "pair");
  const quality = tables["lens.quality"], [row] = quality?.rows ?? [], column = quality?.columns.indexOf("positions") ?? -1;
  const positions = Number.isInteger(row?.[column]) ? row[column] : counts.positions;
  return Number.isInteger(positions) ? plural(positions, settings.keep === undefined ? "position" : "answer position") : "–";
}

function runFacts({ run }) {
  const counts = run.counts ?? {}, check = run.self_check ?? {}, facts = [];
  const lenses = objectsOf(run.lenses), inputs = objectsOf(run.inputs);
  if (lenses.length > 0) {
    facts.push(fact("Lenses", inLines(lenses.map((lens) => el("span", {}, el("b", { text: plain(lens.name) }), lens.path ? ` ${pathOf(lens.path)}` : lens.type === lens.name ? "" : ` ${plain(lens.type ?? "")}`)))));
  }
  if (inputs.length > 0) {
    facts.push(fact(inputs.length === 1 ? "Input" : "Inputs", inLines(inputs.map((input) => el("span", { title: input.sha256 ? `SHA-256 ${input.sha256}` : null },
      el("b", { text: pathOf(input.path) }), input.tokens === undefined ? "" : ` ${plural(input.tokens, "token")}`, input.sha256 ? ` · ${plain(input.sha256).slice(0, 8)}` : "")), MOST_INPUTS)));
  }
  const answers = run.settings?.keep !== undefined;
  const kept = Number.isInteger(counts.pairs) ? [`${formatNumber(counts.pairs)} of ${plural(counts.documents ?? counts.pairs, "pair")}`, plural(counts.windows ?? 0, "run") + " of the model"]
    : ["documents", "windows", "items", "positions"].filter((name) => Number.isInteger(counts[name]))
      .map((name) => (answers && name === "positions" ? plural(counts.positions, "answer position") + " read" : plural(counts[name], name.replace(/s$/, ""))));
  const dropped = Object.entries(counts.dropped ?? {}).map(([reason, count]) => `${formatNumber(count)} (${plain(reason).replaceAll("_", " ")})`);
  facts.push(fact("Kept and dropped", inLines([kept.join(", ") || "–", el("span", { text: dropped.length > 0 ? `dropped: ${dropped.join(", ")}` : "nothing dropped" }),
    counts.asked_again > 0 ? el("span", { text: `asked again after white space, and read twice: ${formatNumber(counts.asked_again)}` }) : null,
    counts.answered_by_alias > 0 ? el("span", { text: `answered by an alias: ${formatNumber(counts.answered_by_alias)}` }) : null,
    counts.records_omitted > 0 ? el("span", { text: `${plural(counts.records_omitted, "position")} without a record` }) : null].filter(Boolean))));
  if (Number.isFinite(check.final_layer_max_abs_error)) {
    facts.push(fact("Self-check", inLines([`largest error ${formatNumber(check.final_layer_max_abs_error)} nats`,
      el("span", { text: check.positions === undefined ? "last layer against a plain product" : `last layer against a plain product, ${plural(check.positions, "position")}` })])));
  }
  if (Array.isArray(run.warnings) && run.warnings.length > 0) {
    facts.push(fact(run.warnings.length === 1 ? "Warning" : "Warnings", inLines(run.warnings.map((warning) => el("span", { text: plain(warning) })))));
  }
  const { version, ...libraries } = run.depthlens ?? {};
  const versions = Object.entries({ ...(version ? { depthlens: version } : {}), ...libraries }).map(([name, value]) => `${plain(name)} ${plain(value)}`);
  if (run.tokenizer) versions.push(`tokenizer: ${plain(run.tokenizer.kind ?? "")}`);
  if (versions.length > 0) facts.push(fact("Program", inLines(versions)));
  const settings = Object.entries(run.settings ?? {}).map(([name, value]) => el("li", {}, el("span", { text: words(plain(name)) + " " }), Array.isArray(value) ? value.map(told).join(", ") : told(value)));
  return [el("dl", { class: "facts" }, facts), settings.length > 0 ? el("details", {}, el("summary", { text: "Settings" }), el("ul", { class: "settings" }, settings)) : null];
}

function partialNotice({ run, name }) {
  if (run.status !== "partial") return null;
  return el("p", { class: "notice", text: `${name === undefined ? "This run" : plain(name)} was interrupted: it holds what was finished until then.` });
}

function pageHeader() {
  const [first] = RUNS;
  const title = COMPARING ? `${RUNS.length} runs compared` : pathOf(first.run.model.path) || "A run of depthlens";
  document.title = `${title} – depthlens`;
  const summary = COMPARING ? "On common axes; the records of single positions are in the pages of each run." : describeModel(first.run.model);
  return el("header", { class: "masthead" },
    el("div", { class: "kicker" }, el("span", { text: "depthlens report" }), theme.control()),
    el("h1", { text: title }), el("p", { class: "summary", text: summary }),
    RUNS.map(partialNotice), COMPARING ? comparisonFacts() : runFacts(first));
}
