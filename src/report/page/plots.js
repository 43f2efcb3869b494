// What is drawn of which table. A plot is one entry:
//
//   table, y      the column of the values; several as {column: name}, told apart by the dimension `measure`;
//                 a regular expression takes all columns that it matches
//   x             a column, "layer" if none is given; `category: true` takes its values as words
//   series        dimensions told apart by colour; facets: by panel. Of a comparison, runs and lenses are the series
//                 and all other dimensions the panels.
//   kind          line (with bands where y_low and y_high exist), bars, stack, dots, matrix (with `rows`)
//   centre        of a matrix: the value in the middle of a diverging scale; baseline: a column that is taken off;
//                 count: the column that tells how many a value is a mean of, "count" if none is given
//   scale         log or linear; share: values are parts of 1; ranks: logarithmic from 1
//   depth         values are layers: relative in a comparison of models of different depth
//   ordered       the series are an order, told by lightness: "rising" or "falling"
//   order, cumulative   by which column the points of a curve are ordered; whether their values are summed up
//   few           dimension of which a few values, evenly spaced, are drawn
//   atMost        {dimension: n}: the plot is drawn where there are no more values

const RANK = { scale: "log", least: 1 };
const SHARE = { share: true };

const PLOTS = [
  { table: "lens.quality", y: "kl_final", title: "Distance from the model's output", yTitle: "KL(final ‖ layer), nats", series: ["lens"] },
  { table: "lens.quality", y: "top1_agreement", ...SHARE, title: "Guesses that are the final ones", yTitle: "share of positions", series: ["lens"] },
  { table: "lens.quality", y: "entropy", title: "Uncertainty", yTitle: "entropy, nats", series: ["lens"] },
  { table: "lens.quality", y: "cross_entropy", title: "Surprise at the token that follows", yTitle: "cross-entropy, nats", series: ["lens"] },
  { table: "lens.quality", y: "final_rank_mean", ...RANK, title: "Rank of what the model says in the end", yTitle: "mean rank of the final token", series: ["lens"] },
  { table: "lens.quality", y: "top1_accuracy", ...SHARE, title: "Guesses that are the token that follows", yTitle: "share of targets", series: ["lens"] },
  { table: "lens.bits_per_byte", y: "kl_final", title: "Distance from the model's output, per byte of text", yTitle: "KL(final ‖ layer), bits per byte", series: ["lens"] },
  { table: "lens.bits_per_byte", y: "cross_entropy", title: "Surprise at the text, per byte", yTitle: "cross-entropy, bits per byte", series: ["lens"] },
  { table: "lens.transfer", kind: "matrix", y: "kl_final", rows: "translator", scale: "log", title: "Each translator on each layer", yTitle: "translator", valueTitle: "KL(final ‖ layer), nats", facets: ["lens"] },

  { table: "frequency.top1_share", kind: "stack", y: "share", ...SHARE, title: "How frequent are the guesses?", yTitle: "share of positions", series: ["bucket"], ordered: "falling", facets: ["lens"], wide: true,
    note: "The layer's first guess, by its rank in the table of token counts." },
  { table: "frequency.mean_probability", kind: "stack", y: "probability", ...SHARE, title: "Where is the probability?", yTitle: "mean probability", series: ["bucket"], ordered: "falling", facets: ["lens"], wide: true,
    note: "All probability that a layer gives, by the rank of the tokens in the table of counts." },
  { table: "frequency.corpus", kind: "bars", x: "bucket", category: true, y: "share", ...SHARE, title: "The text itself", yTitle: "share of tokens", series: [] },
  { table: "calibration.frequency_bias", y: "kl_corpus", title: "Distance from the frequencies of the text", yTitle: "KL(text ‖ mean prediction), nats", series: ["bucket"], facets: ["lens"], wide: true,
    note: "Between how often each token occurs and how probable the layer makes it on average, and which tokens it is due to." },

  { table: "flips.by_bucket", y: "flip_rate", ...SHARE, title: "Guesses that a later layer overturns", yTitle: "share of guesses", series: ["bucket"], ordered: "falling", facets: ["lens"], wide: true,
    note: "By the frequency of the guessed token: how many of a layer's first guesses are not the final one." },
  { table: "flips.changes", y: "share", ...SHARE, title: "Guesses that differ from the layer before", yTitle: "share of positions", series: ["lens"] },

  { table: "settling.depth", kind: "bars", y: "share", ...SHARE, title: "Where guesses become final", yTitle: "share of positions", series: [], facets: ["lens"], wide: true,
    note: "First layer from which on the first guess stays the final one." },
  { table: "settling.first_hit", y: "share", ...SHARE, cumulative: true, title: "When the final token first comes near the top", yTitle: "share of positions, up to the layer", series: ["threshold"], facets: ["lens"], wide: true },

  { table: "pos.rank", y: "mean_rank", ...RANK, title: "Rank of the word, by class", yTitle: "mean rank", series: ["class"], facets: ["lens"], wide: true },
  { table: "pos.rank", y: "mean_reciprocal_rank", title: "Mean reciprocal rank, by class", yTitle: "mean of 1 / rank", series: ["class"], facets: ["lens"], wide: true },
  { table: "pos.rank", y: "top1_rate", ...SHARE, title: "Words guessed first, by class", yTitle: "share of words", series: ["class"], facets: ["lens"], wide: true },
  { table: "pos.earliest", kind: "dots", x: "class", category: true, y: "mean_layer", depth: true, title: "Where a word first comes near the top", yTitle: "mean layer", series: ["bucket"], facets: ["lens", "threshold"], wide: true },

  { table: "facts.rank", y: "mean_rank", ...RANK, title: "Rank of the tokens of an answer", yTitle: "mean rank", series: ["answer_position"], facets: ["lens", "answer_length"], wide: true },
  { table: "facts.rank", y: "top1_rate", ...SHARE, title: "Answer tokens guessed first", yTitle: "share of answers", series: ["answer_position"], facets: ["lens", "answer_length"], wide: true },
  { table: "facts.earliest", kind: "dots", x: "answer_position", category: true, y: "mean_layer", depth: true, title: "Where an answer's token first comes near the top", yTitle: "mean layer", series: ["threshold"], facets: ["lens", "answer_length"], wide: true },

  { table: "choices.option", y: "mean_rank", ...RANK, title: "Rank of the options", yTitle: "mean rank", series: ["option"], facets: ["lens"], wide: true },
  { table: "choices.option", y: "mean_probability", title: "Probability of the options", yTitle: "mean probability", ...SHARE, series: ["option"], facets: ["lens"], wide: true },
  { table: "choices.option", y: "leads", ...SHARE, title: "The option that leads", yTitle: "share of items", series: ["option"], facets: ["lens"], wide: true },
  { table: "choices.accuracy", y: { accuracy: "the right option leads", options_in_top: "all options near the top" }, ...SHARE, title: "First the options, then the right one", yTitle: "share of items", series: ["measure"], facets: ["lens"], wide: true },

  { table: "calibration.early_exit", x: "mean_layer", xTitle: "mean layer at which the reading stops", depth: true, order: "threshold", y: "agreement", ...SHARE, title: "Leaving early", yTitle: "agreement with the final guess", series: ["criterion"], facets: ["lens"], wide: true,
    note: "Each point is a threshold of the criterion." },
  { table: "calibration.rank_mass", x: "rank", xTitle: "rank", xLog: true, y: "cumulative_probability", ...SHARE, title: "Probability of the first guesses together", yTitle: "cumulative probability", series: ["layer"], facets: ["lens"], few: "layer", ordered: "rising", wide: true },

  { table: "patching.effect", kind: "matrix", y: "restored", rows: "position", count: "restored_count", centre: 0, title: "What a patched state restores", yTitle: "token", valueTitle: "restored: 0 as without a patch, 1 as in the source's own run", facets: ["lens"], wide: true,
    note: "How far the state of one token, put from the source's run into the target's, moves the output from the target's answer to the source's. Means over n pairs. Values above 1 overshoot, those below 0 go the other way." },
  { table: "patching.effect", kind: "matrix", y: "log_probability_difference", rows: "position", baseline: "clean_target", centre: 0, title: "Change by a patched state", yTitle: "token", valueTitle: "change of the log-probability difference, nats", facets: ["lens"], wide: true,
    note: "Of log p(source's answer) − log p(target's answer), against the run without a patch, whose colour is that of 0." },
  { table: "patching.effect", y: "restored", title: "Restored, by layer", yTitle: "restored (0: no effect, 1: all)", series: ["position"], facets: ["lens"], atMost: { position: 8 } },
  { table: "patching.effect", y: "kl", title: "Effect on the whole distribution", yTitle: "KL(unpatched ‖ patched), nats", series: ["position"], facets: ["lens"], atMost: { position: 8 } },
  { table: "exit.accuracy", y: "accuracy", ...SHARE, title: "Right answers when the reading stops at a layer", yTitle: "share of items", series: ["lens"] },
  { table: "exit.accuracy", y: "kl_final", title: "Distance from the model's output on the task", yTitle: "KL(final ‖ layer), nats", series: ["lens"] },
];

/** Sections in the order of the page: tables by the first part of their names. */
const SECTIONS = [
  { id: "lens", title: "Lenses", text: "How near each layer comes to the model's own output. Layer 0 is the embedding, the last layer is the output itself, whatever the lens." },
  { id: "frequency", title: "Frequent tokens", text: "Early layers tend to guess what is frequent anywhere. Shares of the guesses, and of all probability, by how frequent the tokens are." },
  { id: "flips", title: "Overturned guesses", text: "How many of a layer's guesses do not survive." },
  { id: "settling", title: "Settling", text: "At which layer the final guess appears, and from where on it stays." },
  { id: "calibration", title: "Calibration", text: "How much a layer's own certainty tells about whether it is right already." },
  { id: "pos", title: "Word classes", text: "Words of different classes, as the layers see them coming. Bands are 95 % bootstrap intervals." },
  { id: "facts", title: "Answers of several tokens", text: "Each token of an answer, with the tokens before it in place. Bands are 95 % bootstrap intervals." },
  { id: "choices", title: "Multiple choice", text: "The options of a question and the right one among them. Bands are 95 % bootstrap intervals." },
  { id: "patching", title: "Patched states", text: "What changes in the output when a state of one prompt, the source, is put into the run of another, the target. Tokens go by their place among those in which the prompts differ. Bands are 95 % bootstrap intervals over pairs." },
  { id: "exit", title: "Stopping early", text: "What a task loses when its answer is read from an earlier layer." },
];
/** Tables that stand in a section of another name. */
const SECTION_OF = { "calibration.frequency_bias": "frequency" };
