// What a comparison says of its runs: a line each, in what they differ, and the figures of their differences.

/** Settings that bear on no number of the tables, and one that is told apart from the others. */
const SILENT_SETTINGS = new Set(["experiments", "records", "record_fields", "max_records", "device", "allow_lens_mismatch"]);

const settingText = (value) => (Array.isArray(value) ? value.map(told).join(", ") : told(value ?? "–"));
const fileName = (path) => plain(String(path ?? "").split("/").at(-1));

/** The layers that a run decoded, in words. */
const decodedText = ({ run }) => (Array.isArray(run.settings?.layers) ? run.settings.layers.map(plain).join(", ") : "all");

/** Whether two runs have what goes by one name and is not the same, by its digest. */
const isTwofold = (nameOf, digestOf) => RUNS.some((a) => RUNS.some((b) => nameOf(a) === nameOf(b) && digestOf(a) && digestOf(b) && digestOf(a) !== digestOf(b)));
/** What is told apart by its digest, since its name does not do it. */
function twofoldAspects() {
  const short = (digest) => plain(digest ?? "–").slice(0, 8);
  const modelOf = ({ run }) => run.model.path, lensesOf = ({ run }) => objectsOf(run.lenses);
  const aspects = [
    { name: "weights", nameOf: modelOf, digestOf: ({ run }) => run.model.digest, of: ({ run }) => short(run.model.digest) },
    { name: "tokenizer", nameOf: modelOf, digestOf: ({ run }) => run.tokenizer?.digest, of: ({ run }) => short(run.tokenizer?.digest) },
    { name: "files of lenses", nameOf: (run) => JSON.stringify([run.run.model.digest, lensesOf(run).map(({ name }) => name)]),
      digestOf: (run) => lensesOf(run).map(({ digest }) => digest ?? "").join(), of: (run) => lensesOf(run).map(({ digest }) => short(digest)).join(", ") },
  ];
  return aspects.filter(({ nameOf, digestOf }) => isTwofold(nameOf, digestOf)).map(({ name, of, digestOf }) => ({ name, of, key: (run) => digestOf(run) ?? null }));
}

/** [{name, of(run)}] of what is not the same in all runs; what a run does not know does not count. */
function differingAspects() {
  const settings = [...new Set(RUNS.flatMap(({ run }) => Object.keys(run.settings ?? {})))].filter((name) => !SILENT_SETTINGS.has(name) && name !== "layers");
  const aspects = [
    ...twofoldAspects(),
    { name: "input", of: ({ run }) => objectsOf(run.inputs).map((input) => fileName(input.path)).join(", ") || "–",
      key: ({ run }) => objectsOf(run.inputs).map((input) => input.sha256 ?? input.path) },
    { name: "experiments", of: ({ run }) => settingText(run.settings?.experiments ?? "none"), key: ({ run }) => run.settings?.experiments ?? [] },
    { name: "decoded layers", of: decodedText, key: decodedText },
    ...settings.map((name) => ({ name: words(plain(name)), of: ({ run }) => settingText(run.settings?.[name]), key: ({ run }) => run.settings?.[name] ?? null })),
  ];
  return aspects.filter(({ key }) => new Set(RUNS.map((run) => JSON.stringify(key(run))).filter((text) => text !== "null")).size > 1);
}

/** Buckets are the same where edges and tokenizer are: "ranks 1–10" of two vocabularies are other tokens. */
const bucketKindOf = ({ run }) => {
  const tokenizer = run.tokenizer ?? {};
  return JSON.stringify([run.settings?.buckets ?? null, tokenizer.digest ?? [tokenizer.kind ?? null, tokenizer.size ?? run.model.vocab_size ?? null]]);
};
const BUCKET_RUNS = RUNS.filter((run) => Object.values(run.tables).some((table) => table.columns.includes("bucket")));
const BUCKET_KINDS = [...new Set(BUCKET_RUNS.map(bucketKindOf))];

/** Of what stands in panels of its own for each kind of run: the kinds that there are, and of which one a run is. */
const KINDS = {
  buckets: { all: BUCKET_KINDS, runs: BUCKET_RUNS, of: bucketKindOf },
  decoded: { all: [...new Set(RUNS.map(decodedText))], runs: RUNS, of: decodedText },
};
/** The runs that are of the kind of the run called `name`. */
function kindName({ runs, of }, name) {
  const kind = of(RUNS.find((run) => run.name === name));
  return runs.filter((run) => of(run) === kind).map((run) => runName(run.name)).join(", ");
}

function comparisonNotices(aspects) {
  const notices = [];
  if (aspects.length > 0) {
    notices.push(`These runs were not made alike. They differ in ${aspects.map(({ name }) => name).join(", ")}: what their curves show may come from that.`);
  }
  const tableOfCounts = ({ run }) => JSON.stringify(run.settings?.token_counts === "input" ? objectsOf(run.inputs).map((input) => input.sha256) : run.settings?.token_counts);
  if (BUCKET_KINDS.length > 1) {
    notices.push("Frequency buckets have other edges, or are of another vocabulary, in some runs: what goes by buckets stands in panels of its own for each kind.");
  }
  if (BUCKET_KINDS.some((kind) => new Set(BUCKET_RUNS.filter((run) => bucketKindOf(run) === kind).map(tableOfCounts)).size > 1)) {
    notices.push("Frequency buckets of the same edges are not of the same frequency table in all runs: a token may be in another bucket.");
  }
  if (KINDS.decoded.all.length > 1) {
    notices.push("Other layers were decoded in some runs: what tells of the layer before, or of the first layer where something holds, stands in panels of its own for each choice.");
  }
  for (const { name, run, difference } of RUNS) {
    if (difference && !difference.paired) notices.push(`${plain(name)} cannot be compared with ${plain(RUNS[0].name)} document by document: ${plain(difference.why)}.`);
    if (difference?.paired && run.model.layers !== RUNS[0].run.model.layers) notices.push(`${plain(name)} has ${formatNumber(run.model.layers)} layers, ${plain(RUNS[0].name)} ${formatNumber(RUNS[0].run.model.layers)}: what goes by layers is not among the differences.`);
  }
  return notices.map((text) => el("p", { class: "notice", text }));
}

/** A line for each run, with a column for everything in which they differ. */
function comparisonFacts() {
  const aspects = differingAspects();
  const columns = [
    { name: "run", of: (run) => plain(run.name) },
    { name: "model", of: ({ run }) => pathOf(run.model.path) },
    { name: "layers", of: ({ run }) => formatNumber(run.model.layers) },
    { name: "lenses", of: ({ run }) => objectsOf(run.lenses).map((lens) => plain(lens.name)).join(", ") || "–" },
    { name: "counted", of: countedText },
    ...aspects,
    ...(RUNS.some(({ run }) => run.warnings?.length > 0) ? [{ name: "warnings", of: ({ run }) => formatNumber(run.warnings?.length ?? 0) }] : []),
  ];
  const cell = (run, { of }, i) => {
    const text = of(run);
    const short = i === 0 ? runName(run.name) : withoutMiddle(text, 32);
    return el(i === 0 ? "th" : "td", { scope: i === 0 ? "row" : null, title: short === text ? null : text, text: short });
  };
  return [
    comparisonNotices(aspects),
    el("div", { class: "scroll runs", tabindex: 0 }, el("table", {}, el("thead", {}, el("tr", {}, columns.map(({ name }) => el("th", { scope: "col", text: name })))),
      el("tbody", {}, RUNS.map((run) => el("tr", {}, columns.map((column, i) => cell(run, column, i))))))),
    SAME_DEPTH ? null : el("div", { class: "controls" }, choice("Layers", [["relative", "relative to the depth"], ["absolute", "absolute"]], "relative", (value) => {
      depth.relative = value === "relative";
      redrawAll();
    })),
    el("details", {}, el("summary", { text: "Each run in full" }), RUNS.map((run) => [el("h2", { class: "run-name", text: plain(run.name) }),
      el("p", { class: "summary", text: `${pathOf(run.run.model.path)} · ${describeModel(run.run.model)}` }), ...runFacts(run)])),
  ];
}

/** Rows of the differences of all runs to the first one. */
function differencesOf(name) {
  const tables = RUNS.filter((run) => run.difference?.paired && Object.hasOwn(run.difference.tables, name))
    .map((run) => ({ run, table: run.difference.tables[name] }));
  return {
    columns: ["run", ...new Set(tables.flatMap(({ table }) => table.columns))],
    units: Object.assign(Object.create(null), ...tables.map(({ table }) => table.units ?? {})),
    rows: tables.flatMap(({ run, table }) => rowsOfTable(run, table)),
  };
}

/** The plots of tables whose differences are known, around 0. Runs on the same text have the same tokens and targets. */
function differenceFigures() {
  const [first] = RUNS, same = ["frequency.corpus", "frequency.targets"];
  return PLOTS.filter((spec) => !same.includes(spec.table) && !spec.source && !spec.order && spec.kind !== "matrix" && RUNS.some(({ difference }) => difference?.paired && Object.hasOwn(difference.tables, spec.table)))
    .map((spec) => plotFigure({ ...spec, name: `difference.${spec.table}`, source: () => differencesOf(spec.table), title: `Difference to ${runName(first.name)}: ${titleOf(spec)}`,
      difference: true, zero: true, scale: "linear", least: undefined, reference: undefined, note: "" }))
    .filter(Boolean);
}
