// Run folders made by hand: hostile texts, the tables of tasks, a model of another depth.
import fs from "node:fs";
import path from "node:path";

/** Texts that would do harm, or be read wrongly, if a page took them for anything but text. */
export const HOSTILE = [
  "</script><img src=x onerror=harmed=1>", "<!--<script>", "<svg onload=harmed=1>", "\"'`", "&lt;b&gt;", "\u2028\u2029",
  "\u202eolleh\u202c", "\u0000\u0001\u007f", "${harmed=1}", "{{data}}", "]]>", "\u200b", "\ufffd", " \t\n ", "مرحبا", "👩‍👩‍👧", "x".repeat(3000), "",
];

function write(folder, run, tables, records = []) {
  fs.mkdirSync(folder, { recursive: true });
  const layers = run.model.layers;
  const whole = { schema_version: 1, status: "complete", lenses: [{ name: "logit", type: "logit", path: null }], inputs: [], settings: {},
    counts: { documents: 2, windows: 2, positions: records.length, records: records.length, dropped: {} }, ...run, model: { path: "made/by-hand", ...run.model, layers } };
  fs.writeFileSync(path.join(folder, "run.json"), JSON.stringify(whole));
  fs.writeFileSync(path.join(folder, "summary.json"), JSON.stringify({ schema_version: 1, tables }));
  if (records.length > 0) fs.writeFileSync(path.join(folder, "records.jsonl"), records.map((record) => JSON.stringify(record) + "\n").join(""));
}

/** A table from columns and a list of rows. */
const table = (columns, rows, units = {}) => ({ columns, units, rows });
const range = (count) => Array.from({ length: count }, (_, i) => i);

export function hostileRun(folder) {
  const rows = range(3), lens = HOSTILE[0];
  const token = (id, text) => ({ id, text });
  const record = (document, position, id, text) => ({
    document, window: 0, position, item: document === 0 ? HOSTILE[0] : null, token: token(id, text), target: token(id, text), final: token(id, text),
    lenses: { [lens]: {
      top_ids: rows.map(() => [id, 900]), top_tokens: rows.map(() => [text, HOSTILE[2]]), top_logprobs: rows.map(() => [-0.3, null]),
      final_rank: [3, 2, 1], target_rank: [3, 2, 1], entropy: [2, 1, null], kl_final: [1, 0.5, 0],
    } },
  });
  const records = [...HOSTILE.map((text, i) => record(0, i, i, text)), ...range(3).map((i) => record(1, i, 14, " the"))];
  const keys = Object.fromEntries(HOSTILE.map((text, i) => [text || "empty", HOSTILE[i]]));
  write(folder, { model: { layers: 2, path: HOSTILE[0], architecture: HOSTILE[2] }, lenses: [{ name: lens, type: HOSTILE[1], path: HOSTILE[2] }],
    inputs: [{ path: HOSTILE[0], sha256: HOSTILE[2], documents: 1, tokens: 3 }], settings: keys, status: "partial",
    counts: { documents: 2, windows: 2, positions: records.length, records: records.length, dropped: { [HOSTILE[0]]: 1 } }, depthlens: { version: HOSTILE[0], [HOSTILE[1]]: HOSTILE[2] } },
  {
    "lens.quality": table(["lens", "layer", "kl_final", "entropy", "cross_entropy", "top1_agreement"], rows.map((layer) => [lens, layer, 2 - layer, 1, 1, layer / 2])),
    "flips.changes": table(["lens", "layer", "share"], [[lens, 1, null], [lens, 2, null]]),
    "choices.option": table(["lens", "layer", "option", "mean_rank", "mean_probability", "leads"], HOSTILE.flatMap((option) => rows.map((layer) => [lens, layer, option, 3, 0.1, 0.1]))),
    [`bad.${HOSTILE[0]}`]: table(HOSTILE.slice(0, 4), [HOSTILE.slice(4, 8), HOSTILE.slice(8, 12)], { [HOSTILE[0]]: HOSTILE[2] }),
    ["__proto__"]: table(["constructor", "__proto__"], [[1, HOSTILE[0]]]),
    "empty": table([], []),
  }, records);
}

const bounded = (mean) => [mean, 0.9 * mean, 1.1 * mean];
const measures = (...names) => names.flatMap((name) => [name, name + "_low", name + "_high"]);

/** Also a class of few words, and one without any. */
export function taskRun(folder) {
  const L = 6, layers = range(L + 1), lenses = ["logit", "tuned"];
  const each = (...lists) => lists.reduce((all, list) => all.flatMap((row) => list.map((value) => [...row, value])), [[]]);
  const falls = (layer, i = 0) => 1 + 500 * Math.exp(-layer) * (1 + i), rises = (layer, i = 0) => Math.min(0.9, (layer / L) ** (1 + 0.3 * i));
  write(folder, { model: { layers: L }, lenses: lenses.map((name) => ({ name, type: name, path: null })), counts: { items: 40, positions: 80, records: 0, dropped: { wrong_answer: 7 } } }, {
    "pos.rank": table(["lens", "layer", "class", "count", ...measures("mean_rank", "mean_reciprocal_rank", "top1_rate"), "median_rank"],
      each(lenses, layers, ["NOUN", "VERB", "DET"]).map(([lens, layer, name]) => [lens, layer, name, name === "VERB" ? 4 : 20, ...bounded(falls(layer, name.length)), ...bounded(rises(layer)), ...bounded(rises(layer, 1)), 3])
        .concat(each(lenses, layers).map(([lens, layer]) => [lens, layer, "INTJ", 0, ...Array(10).fill(null)])), { count: "words" }),
    "pos.earliest": table(["lens", "class", "bucket", "threshold", "count", ...measures("mean_layer"), "median_layer"],
      each(lenses, ["NOUN", "VERB", "DET"], ["all", "top_1_10", "rest"], [1, 5, 10]).map((row, i) => [...row, 9, ...(i % 7 === 0 ? [null, null, null] : bounded(3 + (i % 3))), 3])),
    "facts.rank": table(["lens", "layer", "answer_length", "answer_position", "count", ...measures("mean_rank", "top1_rate"), "median_rank"],
      each(lenses, layers, [[1, 1], [2, 1], [2, 2]]).map(([lens, layer, [length, position]]) => [lens, layer, length, position, 9, ...bounded(falls(layer, position)), ...bounded(rises(layer, position)), 2])),
    "facts.earliest": table(["lens", "answer_length", "answer_position", "threshold", "count", ...measures("mean_layer"), "median_layer"],
      each(lenses, [[1, 1], [2, 1], [2, 2]], [1, 5]).map(([lens, [length, position], threshold]) => [lens, length, position, threshold, 9, ...bounded(L - position), 4])),
    "choices.option": table(["lens", "layer", "option", "count", ...measures("mean_rank", "mean_probability", "leads"), "median_rank"],
      each(lenses, layers, ["A", "B", "C", "D"]).map(([lens, layer, option]) => [lens, layer, option, 9, ...bounded(falls(layer, option.charCodeAt(0) - 65)), ...bounded(rises(layer) / 4), ...bounded(0.25), 2])),
    "choices.accuracy": table(["lens", "layer", "count", ...measures("accuracy", "options_in_top")], each(lenses, layers).map(([lens, layer]) => [lens, layer, 9, ...bounded(rises(layer)), ...bounded(rises(layer, 1))])),
    "calibration.early_exit": table(["lens", "criterion", "threshold", "mean_layer", "agreement", "speedup_bound"],
      each(lenses, ["max_probability", "entropy", "top2_gap"], [0.9, 0.1, 0.5]).map(([lens, criterion, threshold]) => [lens, criterion, threshold, L * threshold, 0.4 + threshold / 2, 1 / threshold])),
    "calibration.rank_mass": table(["lens", "layer", "rank", "mean_probability", "cumulative_probability"], each(lenses, layers, [1, 10, 100]).map(([lens, layer, rank]) => [lens, layer, rank, 0.1, 1 - 1 / (1 + rank * (1 + layer))])),
    "calibration.frequency_bias": table(["lens", "layer", "bucket", "corpus_share", "predicted_share", "kl_corpus", "kl_share"], each(lenses, layers, ["all", "top_1_10", "rest"]).map(([lens, layer, bucket]) => [lens, layer, bucket, 0.5, 0.5, (bucket === "all" ? 2 : 1) / (1 + layer), 0.5])),
    "patching.effect": table(["layer", "position", "count", ...measures("log_probability_difference", "restored", "kl"), "restored_count", "clean_target", "clean_source"],
      each(layers, ["subject", "last"]).map(([layer, position]) => [layer, position, 9, ...bounded(position === "last" ? -layer : layer - L), ...bounded(layer / L), ...bounded(layer), 9, -2, 2])),
    "exit.accuracy": table(["lens", "layer", "count", ...measures("accuracy", "kl_final")], each(lenses, layers).map(([lens, layer]) => [lens, layer, 9, ...bounded(rises(layer)), ...bounded(L - layer)])),
    "lens.transfer": table(["lens", "translator", "layer", "positions", "kl_final", "top1_agreement"], each(["tuned"], range(L), range(L)).map(([lens, translator, layer]) => [lens, translator, layer, 9, 0.1 + Math.abs(translator - layer), 0.5])),
    "some.table": table(["name", "value"], [["answer", 42]]),
  });
}

/** A corpus run of a model with another number of layers than the demo model. */
export function comparableRun(folder) {
  const L = 5;
  write(folder, { model: { layers: L } }, {
    "lens.quality": table(["lens", "layer", "positions", "kl_final", "entropy", "cross_entropy", "top1_agreement"], range(L + 1).map((layer) => ["logit", layer, 50, L - layer, 3, 4, layer / L])),
    "frequency.targets": table(["bucket", "count", "share"], [["top_1_10", 30, 0.6], ["rest", 20, 0.4]], { count: "tokens" }),
    "frequency.top1_share": table(["lens", "layer", "bucket", "count", "share"], range(L + 1).flatMap((layer) => ["top_1_10", "rest"].map((bucket) => ["logit", layer, bucket, 5, 0.5]))),
  });
}

/** First and last layer of a model of another depth than that of the task. */
export function sparseRun(folder) {
  const L = 4;
  write(folder, { model: { layers: L }, settings: { layers: [0, L] } }, {
    "calibration.rank_mass": table(["lens", "layer", "rank", "mean_probability", "cumulative_probability"], [0, L].flatMap((layer) => [1, 10, 100].map((rank) => ["logit", layer, rank, 0.1, 1 - 1 / (1 + rank)]))),
  });
}

/** Items of a task, one record each. */
export function itemRun(folder) {
  const rows = range(4), token = (id, text) => ({ id, text });
  const readout = (id) => ({ top_ids: rows.map((layer) => [id + layer, 1]), top_tokens: rows.map((layer) => [` w${id + layer}`, "b"]), top_logprobs: rows.map(() => [-0.1, -3]),
    final_rank: [40, 9, 2, 1], target_rank: [40, 9, 2, 1], entropy: [3, 2, 1, 1], kl_final: [3, 2, 1, 0] });
  write(folder, { model: { layers: 3 }, settings: { keep: "all" } }, {}, range(60).map((i) => ({
    document: i, window: 0, position: 7, item: `q${i}`, token: token(500, " is"), target: token(i + 3, ` w${i + 3}`), final: token(i + 3, ` w${i + 3}`), lenses: { logit: readout(i) } })));
}

/** A corpus run with an interval beside every mean, watched tokens, and counts of a file; layer 0 is far from the others. */
export function boundedRun(folder, { L = 6, scale = 1, ...run } = {}) {
  const layers = range(L + 1), lenses = ["logit", "tuned"], buckets = ["top_1_10", "top_11_100", "rest"];
  const each = (...lists) => lists.reduce((all, list) => all.flatMap((row) => list.map((value) => [...row, value])), [[]]);
  const differences = ["kl_final", "kl_reverse", "entropy", "cross_entropy", "top1_agreement", "top1_accuracy"];
  write(folder, { model: { layers: L }, lenses: lenses.map((name) => ({ name, type: name, path: null })), tokenizer: { kind: "byte-level BPE", size: 1000 },
    inputs: [{ path: "made/text.txt", sha256: "ab12", documents: 4, tokens: 200 }],
    settings: { experiments: ["trajectory", "frequency"], positions: "all", token_counts: "counts/of-a-file.json", buckets: [10, 100] }, counts: { documents: 4, positions: 120, records: 0, dropped: {} }, ...run }, {
    "lens.quality": table(["lens", "layer", "positions", ...measures("kl_final", "entropy", "cross_entropy", "top1_agreement", "top1_accuracy", "final_rank_mean"), "final_rank_median", "targets"],
      each(lenses, layers).map(([lens, layer]) => [lens, layer, 120, ...bounded(scale * (layer === L ? 0 : layer === 0 ? 40 : 1 - 0.1 * layer)), ...bounded(3), ...bounded(4), ...bounded(layer / L), ...bounded(0.3), ...bounded(1 + 90 * (L - layer)), 2, 118])),
    "lens.difference": table(["lens", "baseline", "layer", "positions", ...measures(...differences)], layers.map((layer) => ["tuned", "logit", layer, 120, ...differences.flatMap(() => [layer - L, layer - L - 1, layer - L + 1])])),
    "frequency.corpus": table(["bucket", "count", ...measures("share")], buckets.map((bucket, i) => [bucket, 500 - 100 * i, [0.42, 0.33, 0.25][i], null, null]), { count: "tokens" }),
    "frequency.targets": table(["bucket", "count", "share"], buckets.map((bucket, i) => [bucket, [60, 40, 20][i], [0.5, 1 / 3, 1 / 6][i]]), { count: "tokens" }),
    "frequency.top1_share": table(["lens", "layer", "bucket", "count", ...measures("share")], each(lenses, layers, buckets).map(([lens, layer, bucket]) => [lens, layer, bucket, 40, ...bounded({ top_1_10: 0.7, top_11_100: 0.2, rest: 0.1 }[bucket])])),
    "settling.depth": table(["lens", "layer", "count", ...measures("share")], each(lenses, layers).map(([lens, layer]) => [lens, layer, 120 / (L + 1), ...bounded(1 / (L + 1))])),
    "settling.first_hit": table(["lens", "threshold", "layer", "count", ...measures("share")], each(lenses, [1, 5], layers).map(([lens, threshold, layer]) => [lens, threshold, layer, 120 / (L + 1), ...bounded(1 / (L + 1))])),
    "watch.rank": table(["lens", "layer", "token", "count", ...measures("mean_rank"), "median_rank", ...measures("mean_logprob")], each(lenses, layers, [" Paris", " Rome"]).map(([lens, layer, token]) => [lens, layer, token, 120, ...bounded(300 - 30 * layer), 100 - layer, -3, -4, -2])),
    "watch.difference": table(["lens", "layer", "pair", "count", ...measures("mean_difference")], each(lenses, layers).map(([lens, layer]) => [lens, layer, " Paris,  Rome", 120, layer - 3, layer - 3.5, layer - 2.5])),
  });
}

/** Puts into the page of three runs what the program knows of their differences: of the second, none of the third. */
export function withDifferences(file) {
  const page = fs.readFileSync(file, "utf8");
  fs.writeFileSync(file, page.replace(/(<script type="application\/json" id="data">)([^<]*)/, (_, opening, json) => {
    const data = JSON.parse(json), { rows } = data.runs[1].tables["lens.quality"];
    data.runs[1].difference = { paired: true, tables: { "lens.quality": table(["lens", "layer", ...measures("kl_final", "top1_agreement")],
      rows.map(([lens, layer]) => [lens, layer, 1 - layer, 0.5 - layer, 1.5 - layer, 0.1, 0.05, 0.15])) } };
    data.runs[2].difference = { paired: false, why: "other inputs" };
    return opening + JSON.stringify(data).replaceAll("<", "\\u003c");
  }));
}

const rowsUpTo = (L, value) => range(L + 1).map(value);

/** Two documents of JSON lines with two watched tokens, and windows that begin somewhere. */
export function watchedRun(folder) {
  const L = 3, token = (id, text) => ({ id, text });
  const readout = { top_ids: rowsUpTo(L, (layer) => [layer, 7]), top_tokens: rowsUpTo(L, (layer) => [` w${layer}`, "b"]), top_logprobs: rowsUpTo(L, () => [-0.1, -3]),
    final_rank: [9, 4, 2, 1], target_rank: null, entropy: [3, 2, 1, 1], kl_final: [3, 2, 1, 0],
    watched: [{ text: " he", id: 5, rank: [30, 9, 3, 2], logprob: [-9, -4, -1, -0.5] }, { text: " she", id: 6, rank: [50, 20, 12, 3], logprob: [-9, -5, -2, -1] }] };
  const record = (document, window, position, item) => ({ document, window, position, item, input: 0, input_document: document, window_start: 3 * window,
    token: token(50 + position, ` t${position}`), target: null, final: token(3, " w3"), lenses: { logit: readout } });
  write(folder, { model: { layers: L }, settings: { positions: "all" }, counts: { documents: 5, windows: 6, positions: 20, records: 15, records_omitted: 5, dropped: {} } }, {},
    [...range(5).map((i) => record(0, 0, i, 17)), ...range(5).map((i) => record(1, 1, i, "second")), ...range(5).map((i) => record(1, 2, i, "second"))]);
}

/** One window of 300 tokens through 25 layers. */
export function largeRun(folder) {
  const L = 24, token = (id) => ({ id, text: ` t${id}` });
  const readout = (id) => ({ top_ids: rowsUpTo(L, (layer) => [(id + layer) % 300, 1]), top_tokens: rowsUpTo(L, (layer) => [` t${(id + layer) % 300}`, " t1"]), top_logprobs: rowsUpTo(L, () => [-0.1, -3]),
    final_rank: rowsUpTo(L, (layer) => 1 + L - layer), target_rank: null, entropy: rowsUpTo(L, () => 1), kl_final: rowsUpTo(L, (layer) => L - layer) });
  write(folder, { model: { layers: L }, settings: { positions: "all" }, counts: { documents: 1, windows: 1, positions: 300, records: 300, dropped: {} },
    inputs: range(2000).map((i) => ({ path: `texts/${i}.txt`, sha256: "0".repeat(64), documents: 1, tokens: 3 })), warnings: range(11).map((i) => `warning ${i}`) }, {},
    range(300).map((position) => ({ document: 0, window: 0, position, item: null, token: token(position), target: null, final: token((position + L) % 300), lenses: { logit: readout(position) } })));
}
