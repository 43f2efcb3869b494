// What is drawn of which table. A plot is one entry:
//
//   table, y      the column of the values; several as {column: name}, told apart by the dimension `measure`
//   views         {name: fields that replace those of the entry}: what can be shown instead, on a control; the first
//                 one whose column is there comes first
//   source        instead of the table's: a function that gives {columns, units, rows}
//   x             a column, "layer" if none is given; `category: true` takes its values as words; `xFrom` begins the axis
//   series        dimensions told apart by colour; facets: by panel. Of a comparison, runs and lenses are the series
//                 and all other dimensions the panels.
//   kind          line (with bands where y_low and y_high exist), bars, stack, dots, matrix (with `rows`)
//   centre        of a matrix: the value in the middle of a diverging scale; baseline: a column that is taken off
//   scale         log, linear or "choice": as the reader likes, logarithmic where a layer would flatten the others
//   share         values are parts of 1; ranks: logarithmic from 1; zero: the axis has a line at 0
//   n             how many cases a value is the mean of: a column ("count" if none is given), "positions of the run",
//                 "targets of the run", or "sum of count"
//   depth         values are layers: relative to the model's where the page is
//   ordered       the series are an order, told by lightness: "rising" or "falling"
//   order, cumulative   by which column the points of a curve are ordered; whether their values are summed up
//   label, tells  the text beside a point, and what the tooltip adds to it, of a row; `also`: columns for the table
//   lastLayer     a mark at the model's last layer
//   reference     {table, y, by, name}: levels beside the curves, of another table, for the same value of `by`
//   decoded       what the values tell depends on which layers were decoded; byBucket: on the buckets, though it has none
//   few           dimension of which a few values, evenly spaced, are drawn
//   atMost        {dimension: n}: the plot is drawn where there are no more values
//   title, note   texts, or functions that give them; `note` of the runs that have the table

const RANK = { scale: "log", least: 1 };
const SHARE = { share: true };
const KL = { scale: "choice" };
const OF_RUN = { n: "positions of the run" };
const TARGETS_OF_RUN = { n: "targets of the run" };
const MEDIAN_AND_MEAN = { median: { y: "median_rank", yTitle: "median rank" }, mean: { y: "mean_rank", yTitle: "mean rank" } };
const MEAN_AND_MEDIAN_LAYER = { "mean layer": { y: "mean_layer", yTitle: "mean layer" }, "median layer": { y: "median_layer", yTitle: "median layer" } };
const TARGET = "The target is the token that follows, of tasks the answer's token.";
const REACHED = "Over those that come so near the top at some layer.";
const BY_TABLE = (runs) => `By the rank of the tokens in the frequency table: ${frequencyTable(runs)}.`;
const TARGETS = { reference: { table: "frequency.targets", y: "share", by: "bucket", name: "the tokens that were to be predicted" } };
const AT_A_LAYER = { "at a layer": { kind: "bars", yTitle: "share of positions, at the layer" } };
const UP_TO_A_LAYER = { "up to a layer": { kind: "line", cumulative: true, yTitle: "share of positions, up to the layer" } };
/** Curves with their intervals, or bars that add up to 1. */
const CURVES_AND_STACK = { curves: { kind: "line" }, stacked: { kind: "stack" } };

const PLOTS = [
  { table: "lens.quality", y: "kl_final", ...KL, n: "positions", title: "Distance from the model's output", yTitle: "KL(final ‖ layer), nats", series: ["lens"] },
  { table: "lens.quality", y: "top1_agreement", ...SHARE, n: "positions", title: "Guesses that are the final ones", yTitle: "share of positions", series: ["lens"] },
  { table: "lens.quality", y: "entropy", n: "positions", title: "Uncertainty", yTitle: "entropy, nats", series: ["lens"] },
  { table: "lens.quality", y: "cross_entropy", n: "targets", title: "Surprise at the target", yTitle: "cross-entropy, nats", series: ["lens"], note: TARGET },
  { table: "lens.quality", ...RANK, n: "positions", title: "Rank of what the model says in the end", series: ["lens"],
    views: { median: { y: "final_rank_median", yTitle: "median rank of the final token" }, mean: { y: "final_rank_mean", yTitle: "mean rank of the final token" } } },
  { table: "lens.quality", y: "top1_accuracy", ...SHARE, n: "targets", title: "Guesses that are the target", yTitle: "share of targets", series: ["lens"], note: TARGET },
  { table: "lens.difference", y: "kl_final", n: "positions", zero: true, title: differenceTitle, series: ["lens"],
    note: "Position by position, the lens less the other one. Below 0 a divergence or entropy is smaller, above 0 a share greater.",
    views: { "Δ KL": { y: "kl_final", yTitle: "difference of KL(final ‖ layer), nats" }, "Δ reverse KL": { y: "kl_reverse", yTitle: "difference of KL(layer ‖ final), nats" },
      "Δ entropy": { y: "entropy", yTitle: "difference of entropy, nats" }, "Δ cross-entropy": { y: "cross_entropy", ...TARGETS_OF_RUN, yTitle: "difference of cross-entropy, nats" },
      "Δ agreement": { y: "top1_agreement", ...SHARE, yTitle: "difference of agreement with the final guess" }, "Δ accuracy": { y: "top1_accuracy", ...SHARE, ...TARGETS_OF_RUN, yTitle: "difference of agreement with the target" } } },
  { table: "lens.bits_per_byte", y: "kl_final", ...KL, ...OF_RUN, title: "Distance from the model's output, per byte of text", yTitle: "KL(final ‖ layer), bits per byte", series: ["lens"] },
  { table: "lens.bits_per_byte", y: "cross_entropy", ...TARGETS_OF_RUN, title: "Surprise at the text, per byte", yTitle: "cross-entropy, bits per byte", series: ["lens"] },
  { table: "lens.transfer", kind: "matrix", y: "kl_final", n: "positions", rows: "translator", scale: "log", title: "Each translator on each layer", yTitle: "translator", valueTitle: "KL(final ‖ layer), nats", facets: ["lens"] },

  { table: "frequency.top1_share", y: "share", ...SHARE, ...OF_RUN, ...TARGETS, views: CURVES_AND_STACK, title: "How frequent are the guesses?", yTitle: "share of positions", series: ["bucket"], ordered: "falling", facets: ["lens"], wide: true,
    note: (runs) => `The layer's first guess. ${BY_TABLE(runs)}` },
  { table: "frequency.mean_probability", y: "probability", ...SHARE, ...OF_RUN, ...TARGETS, views: CURVES_AND_STACK, title: "Where is the probability?", yTitle: "mean probability", series: ["bucket"], ordered: "falling", facets: ["lens"], wide: true,
    note: (runs) => `All probability that a layer gives. ${BY_TABLE(runs)}` },
  { table: "frequency.distance", source: distanceFromTargets, byBucket: true, y: "distance", ...SHARE, ...OF_RUN, title: "Distance of the guesses from the tokens to be predicted", yTitle: "share in other buckets", series: ["lens"],
    note: "What share of the guesses would have to move to another bucket, so that the buckets have the shares of the tokens that were to be predicted: half the sum of the absolute differences." },
  { table: "calibration.frequency_bias", y: "kl_corpus", ...KL, ...OF_RUN, title: "Distance of the probability from the frequency table", yTitle: "KL(table ‖ mean prediction), nats", series: ["bucket"], facets: ["lens"], wide: true,
    note: (runs) => `Between how often each token occurs in the frequency table and how probable the layer makes it on average, and which tokens it is due to. The table: ${frequencyTable(runs)}.` },
  { table: "frequency.targets", kind: "bars", x: "bucket", category: true, y: "share", ...SHARE, n: "sum of count", title: "The tokens to be predicted", yTitle: "share of targets", series: [], note: BY_TABLE },
  { table: "frequency.corpus", kind: "bars", x: "bucket", category: true, y: "share", ...SHARE, n: "sum of count", title: "The frequency table", yTitle: "share of its tokens", series: [],
    note: (runs) => `Of what the buckets are made: ${frequencyTable(runs)}.` },

  { table: "flips.by_bucket", y: "flip_rate", ...SHARE, title: "Guesses that a later layer overturns", yTitle: "share of guesses", series: ["bucket"], ordered: "falling", facets: ["lens"], wide: true,
    note: (runs) => `How many of a layer's first guesses are not the final one. ${BY_TABLE(runs)}` },
  { table: "flips.changes", decoded: true, y: "share", ...SHARE, ...OF_RUN, title: "Guesses that differ from the layer before", yTitle: "share of positions", series: ["lens"] },

  { table: "settling.depth", decoded: true, y: "share", ...SHARE, ...OF_RUN, title: "Where guesses become final", series: [], facets: ["lens"], wide: true,
    note: () => `First layer from which on the first guess stays the final one.${SAME_DEPTH ? "" : " At a layer, a deeper model has smaller shares: it has more layers."}`,
    views: SAME_DEPTH ? { ...AT_A_LAYER, ...UP_TO_A_LAYER } : { ...UP_TO_A_LAYER, ...AT_A_LAYER } },
  { table: "settling.first_hit", decoded: true, y: "share", ...SHARE, ...OF_RUN, title: "When the final token first comes near the top", series: ["threshold"], facets: ["lens"], wide: true,
    views: { ...UP_TO_A_LAYER, "at a layer": { yTitle: "share of positions, at the layer" } } },

  { table: "watch.rank", ...RANK, title: "Ranks of the watched tokens", series: ["token"], facets: ["lens"], wide: true, views: MEDIAN_AND_MEAN },
  { table: "watch.rank", y: "mean_logprob", title: "Log-probabilities of the watched tokens", yTitle: "mean log-probability, nats", series: ["token"], facets: ["lens"], wide: true },
  { table: "watch.difference", y: "mean_difference", zero: true, title: "Differences of watched tokens", yTitle: "mean difference, nats", series: ["pair"], facets: ["lens"], wide: true,
    note: "Of the log-probabilities, the first token of a pair less the second. Above 0 the first is more probable." },

  { table: "pos.rank", ...RANK, views: MEDIAN_AND_MEAN, title: "Rank of the word's first token, by class", series: ["class"], facets: ["lens"], wide: true },
  { table: "pos.rank", y: "mean_reciprocal_rank", title: "Mean reciprocal rank, by class", yTitle: "mean of 1 / rank", series: ["class"], facets: ["lens"], wide: true },
  { table: "pos.rank", y: "top1_rate", ...SHARE, title: "Words at rank 1, by class", yTitle: "share of words", series: ["class"], facets: ["lens"], wide: true, note: "By the word's first token." },
  { table: "pos.earliest", decoded: true, kind: "dots", x: "class", category: true, depth: true, n: "reached", views: MEAN_AND_MEDIAN_LAYER, title: "Where a word first comes near the top", series: ["bucket"], facets: ["lens", "threshold"], wide: true, note: (runs) => `${REACHED} ${BY_TABLE(runs)}` },

  { table: "pos.earliest_by_rank", decoded: true, x: "threshold", xTitle: "rank k", xLog: true, depth: true, n: "reached", views: MEAN_AND_MEDIAN_LAYER, title: "First layer at which a word is among the k most probable", series: ["class"], facets: ["lens"], wide: true, note: REACHED },

  { table: "facts.rank", ...RANK, views: MEDIAN_AND_MEAN, title: "Rank of the tokens of an answer", series: ["answer_position"], facets: ["lens", "answer_length"], wide: true },
  { table: "facts.rank", y: "top1_rate", ...SHARE, title: "Answer tokens at rank 1", yTitle: "share of answers", series: ["answer_position"], facets: ["lens", "answer_length"], wide: true },
  { table: "facts.earliest", decoded: true, kind: "dots", x: "answer_position", category: true, depth: true, n: "reached", views: MEAN_AND_MEDIAN_LAYER, title: "Where an answer's token first comes near the top", series: ["threshold"], facets: ["lens", "answer_length"], wide: true, note: REACHED },
  { table: "facts.earliest_by_rank", decoded: true, x: "threshold", xTitle: "rank k", xLog: true, depth: true, n: "reached", views: MEAN_AND_MEDIAN_LAYER, title: "First layer at which an answer's token is among the k most probable", series: ["answer_position"], facets: ["lens", "answer_length"], wide: true, note: REACHED },

  { table: "choices.option", ...RANK, views: MEDIAN_AND_MEAN, title: "Rank of the options", series: ["option"], facets: ["lens"], wide: true, note: "In the whole vocabulary." },
  { table: "choices.option", y: "mean_probability", title: "Probability of the options", yTitle: "mean probability", ...SHARE, series: ["option"], facets: ["lens"], wide: true },
  { table: "choices.option", y: "leads", ...SHARE, title: "The option that leads", yTitle: "share of items", series: ["option"], facets: ["lens"], wide: true, note: "The most probable of the options, right or wrong." },
  { table: "choices.accuracy", y: { accuracy: "the right option leads", options_in_top: "all options near the top" }, ...SHARE, title: "Options near the top, and the right one ahead", yTitle: "share of items", series: ["measure"], facets: ["lens"], wide: true,
    note: (runs) => `Near the top: every option's rank is at most twice the number of options. ${whatCounts(runs)}`.trim() },

  { table: "calibration.early_exit", decoded: true, x: "mean_layer", xTitle: "mean layer of the exit", xFrom: 0, depth: true, order: "threshold", y: "agreement", ...SHARE, title: "Leaving early", yTitle: "agreement with the final guess", series: ["lens"], facets: ["criterion"], wide: true,
    lastLayer: true, label: (row) => formatNumber(row.threshold), also: ["threshold", "speedup_bound"],
    tells: (row) => `at τ = ${formatNumber(row.threshold)}${Number.isFinite(row.speedup_bound) ? `, at most ${Number(row.speedup_bound.toPrecision(3))} times as fast` : ""}`,
    note: "The model is left at the first layer where the criterion holds. Each point is a threshold τ, told beside it: a probability, or nats of entropy." },
  { table: "calibration.rank_mass", x: "rank", xTitle: "rank", xLog: true, y: "cumulative_probability", ...SHARE, title: "Probability of the first guesses together", yTitle: "cumulative probability", series: ["layer"], facets: ["lens"], few: "layer", ordered: "rising", wide: true },

  { table: "patching.effect", kind: "matrix", y: "restored", rows: "position", n: "restored_count", centre: 0, title: "What a patched state restores", yTitle: "token", valueTitle: "restored: 0 as without a patch, 1 as in the source's own run", facets: ["lens"], wide: true,
    note: "How far the state of one token, put from the source's run into the target's, moves the output from the target's answer to the source's. Means over n pairs. Values above 1 overshoot, those below 0 go the other way." },
  { table: "patching.effect", kind: "matrix", y: "log_probability_difference", rows: "position", baseline: "clean_target", centre: 0, title: "Change by a patched state", yTitle: "token", valueTitle: "change of the log-probability difference, nats", facets: ["lens"], wide: true,
    note: "Of log p(source's answer) − log p(target's answer), against the run without a patch, whose colour is that of 0." },
  { table: "patching.effect", y: "restored", n: "restored_count", zero: true, title: "Restored, by layer", yTitle: "restored (0: no effect, 1: all)", series: ["position"], facets: ["lens"], atMost: { position: 8 } },
  { table: "patching.effect", y: "kl", title: "Effect on the whole distribution", yTitle: "KL(unpatched ‖ patched), nats", series: ["position"], facets: ["lens"], atMost: { position: 8 } },
  { table: "exit.accuracy", y: "accuracy", ...SHARE, title: "Right answers when the reading stops at a layer", yTitle: "share of answer tokens", series: ["lens"], note: whatCounts },
  { table: "exit.accuracy", y: "kl_final", ...KL, title: "Distance from the model's output on the task", yTitle: "KL(final ‖ layer), nats", series: ["lens"] },
];

/** Sections in the order of the page: tables by the first part of their names. */
const SECTIONS = [
  { id: "lens", title: "Lenses", text: () => `How near each layer comes to the model's own output. Layer 0 is the embedding, the last layer is the output itself, whatever the lens. ${whatCounts(RUNS)}`.trim() },
  { id: "frequency", title: "Frequent tokens", text: "Early layers tend to guess what is frequent anywhere. Shares of the guesses, and of all probability, by how frequent the tokens are." },
  { id: "flips", title: "Overturned guesses", text: "How many of a layer's guesses do not survive." },
  { id: "settling", title: "Settling", text: "At which layer the final guess appears, and from where on it stays." },
  { id: "watch", title: "Watched tokens", text: "Tokens that were named beforehand, whether the model says them or not." },
  { id: "calibration", title: "Calibration", text: "How much a layer's own certainty tells about whether it is right already." },
  { id: "pos", title: "Word classes", text: "Words of different classes, as the layers see them coming." },
  { id: "facts", title: "Answers of several tokens", text: "Each token of an answer, with the tokens before it in place." },
  { id: "choices", title: "Multiple choice", text: "The options of a question and the right one among them." },
  { id: "patching", title: "Patched states", text: "What changes in the output when a state of one prompt, the source, is put into the run of another, the target. Tokens go by their place among those in which the prompts differ." },
  { id: "exit", title: "Stopping early", text: "What a task loses when its answer is read from an earlier layer." },
];
/** Tables that stand in a section of another name. */
const SECTION_OF = { "calibration.frequency_bias": "frequency" };

/** What the buckets of runs go by, in words. */
function frequencyTable(runs) {
  const names = [...new Set(runs.map(({ run }) => run.settings?.token_counts ?? "input"))].map((name) => (name === "input" ? (runs.length > 1 ? "each run's own input" : "the analysed input itself") : `${plain(name)} (--token-counts)`));
  return names.join("; in other runs: ");
}

/** Which answers the tables of a task are about. */
function whatCounts(runs) {
  const kept = [...new Set(runs.map(({ run }) => run.settings?.keep))];
  if (kept.length > 1 || runs.some((run) => resampled(run) === "pairs")) return "";
  return { correct: "Only answers count that are the model's own first guess (--keep correct).", all: "All answers count, whatever the model says (--keep all)." }[kept[0]] ?? "";
}

/** From frequency.top1_share and frequency.targets: half the sum over the buckets of |share of guesses - share of targets|. */
function distanceFromTargets() {
  const guesses = rowsOf("frequency.top1_share"), targets = rowsOf("frequency.targets");
  const layers = groups(guesses.filter((row) => targets.some((target) => target.run === row.run)), ["run", "lens", "layer"]);
  const rows = layers.map(({ rows: [first, ...others] }) => {
    const shares = [first, ...others].map((row) => [row.share, targets.find((target) => target.run === row.run && target.bucket === row.bucket)?.share]);
    const areKnown = shares.flat().every(Number.isFinite);  // without targets they have no shares
    const row = { ...first, distance: areKnown ? shares.reduce((sum, [guess, target]) => sum + Math.abs(guess - target), 0) / 2 : null };
    Object.defineProperty(row, "L", { value: first.L });
    return row;
  });
  return { columns: [...(COMPARING ? ["run"] : []), "lens", "layer", "distance"], units: { distance: "share of positions" }, rows };
}

function differenceTitle() {
  const baselines = valuesOf(rowsOf("lens.difference"), "baseline");
  return baselines.length === 1 ? `Difference to the lens ${plain(baselines[0])}` : "Difference to each run's first lens";
}
