#!/usr/bin/env python3
"""Runs `depthlens analyze` on a text and compares every number it writes with transformers in float64. Run by hand.

    compare_with_transformers.py --depthlens build/bin/depthlens --model FOLDER --text FILE [--tokens 2000]
        [--lens logit] [--lens tuned:PATH] [--lens jacobian:PATH] [--max-length 256] [-- FURTHER FLAGS OF ANALYZE]

Needs torch, transformers, safetensors and numpy. Exit status 0 where all is within the contract's accuracy, else 1.

1. The text's first documents, up to --tokens tokens, are tokenized by transformers and cut into windows; the windows of
   records.jsonl must hold the same tokens. Where they do not, that fails and the rest is compared on the program's own.
   With a SentencePiece model, documents that name a special token (WikiText's <unk>), begin with a space or have two
   in a row are told apart and do not fail: transformers 5 differs there from the library and from transformers 4
   (see make_tokenizer_golden.py).
2. Each field of records.jsonl is compared with the model's float64 forward pass on the window: log-probabilities,
   entropies and divergences within 1e-3 nats; ids and ranks equal wherever the competing logits differ by more than
   1e-3. The column `float32` shows how far transformers' own float32 pass is from float64.
3. Each table of summary.json is computed again: from the records that passed step 2, so that counts must be equal and
   means are the records' own; only the mass of buckets, which no record has, comes from the float64 values. The CSV
   files must hold what summary.json holds, and run.json the numbers of documents, windows and positions.

`--self-test` needs no depthlens: transformers' float32 pass plays its part. `--run DIR` compares a run folder that is
there already, made with the same flags.
"""

import argparse
import csv
import itertools
import json
import math
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from golden_families import readout
from make_golden import Float64Arithmetic, blocks_and_final_norm, load_float64, states_and_logits

TOLERANCE = 1e-3  # nats, and logits where ids and ranks compete
EDGES = (10, 100, 1000)
BUCKETS = ("top_1_10", "top_11_100", "top_101_1000", "rest")
THRESHOLDS = (1, 5, 10)
REAL_FIELDS = ("top_logprobs", "final_logprob", "target_logprob", "entropy", "kl_final", "kl_reverse")
DISCRETE_FIELDS = ("top_ids", "final_rank", "target_rank", "settled_layer")
LENS_FIELDS = (*DISCRETE_FIELDS, *REAL_FIELDS, "top_tokens")
RECORD_FIELDS = ("document", "window", "position", "item", "token", "target", "final", "lenses")


# ---------------------------------------------------------------- text and windows


class Tokens:
    """transformers' tokenizer: ids, whether BOS is added, and the text of a single token."""

    def __init__(self, folder):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.is_sentencepiece = (folder / "tokenizer.model").exists() and not (folder / "tokenizer.json").exists()
        with_special = self.tokenizer("a").input_ids
        self.bos = with_special[0] if with_special[0] == self.tokenizer.bos_token_id else None
        self.added = {index: str(token) for index, token in self.tokenizer.added_tokens_decoder.items()}
        self.byte_of = None
        if "ByteLevel" in str(self.tokenizer.backend_tokenizer.decoder):
            kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
            others = [byte for byte in range(256) if byte not in kept]
            self.byte_of = {chr(byte): byte for byte in kept} | {chr(256 + i): byte for i, byte in enumerate(others)}

    def encode(self, text):
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def is_disputed(self, text):
        """Whether transformers 5 may differ from the SentencePiece library in this text."""
        return self.is_sentencepiece and (
            text.startswith(" ") or "  " in text or any(token in text for token in self.added.values()))

    def text(self, index):
        if index in self.added:
            return self.added[index]
        piece = self.tokenizer.convert_ids_to_tokens(index)
        if piece is None:  # the model's vocabulary is padded
            return ""
        if self.byte_of:
            return bytes(self.byte_of[character] for character in piece).decode("utf8", "replace")
        if len(piece) == 6 and piece.startswith("<0x"):
            return bytes([int(piece[3:5], 16)]).decode("utf8", "replace")
        return piece.replace("\u2581", " ")


def first_documents(path, tokens, limit):
    """Documents (runs of lines that are not blank, as they are) until `limit` tokens are reached, and the part of the
    text that holds them, as it is."""
    documents, part, count = [], [], 0
    lines = path.read_text(encoding="utf8").split("\n")
    for blank, group in itertools.groupby(lines, key=lambda line: not line.strip()):
        group = list(group)
        part += group
        if not blank:
            documents.append("\n".join(group))
            count += len(tokens.encode(documents[-1]))
            if count >= limit:
                break
    return documents, "\n".join(part) + "\n"


def cut_windows(documents, tokens, max_length):
    """[(document, ids)]: consecutive windows of at most max_length tokens, each starting with BOS where it is used."""
    start = [] if tokens.bos is None else [tokens.bos]
    step, windows = max_length - len(start), []
    for index, document in enumerate(documents):
        ids = tokens.encode(document)
        windows += [(index, start + ids[i:i + step]) for i in range(0, len(ids), step)]
    return windows


def bucket_of_tokens(windows, tokens, vocabulary):
    """The bucket 0 … 3 of every token, and the number of times each token occurs; BOS is not counted."""
    counts = Counter(itertools.chain.from_iterable(ids if tokens.bos is None else ids[1:] for _, ids in windows))
    order = sorted(counts, key=lambda index: (-counts[index], index))
    bucket = np.full(vocabulary, len(EDGES))
    bucket[order] = np.searchsorted(EDGES, np.arange(1, len(order) + 1))
    return bucket, counts


# ---------------------------------------------------------------- lenses


def named_lenses(requests):
    """[(name, type, path)] with the names of the contract: tuned, then tuned-2 …"""
    lenses, seen = [], Counter()
    for request in requests:
        name, _, rest = request.partition("=") if "=" in request.split(":")[0] else ("", "", request)
        kind, _, path = rest.partition(":")
        seen[kind] += not name
        lenses.append((name or (kind if seen[kind] == 1 else f"{kind}-{seen[kind]}"), kind, path))
    return lenses


def load_translators(kind, path, num_blocks, alignment, dtype):
    """{layer: state → state} for the layers that the lens changes; layer num_blocks never is."""
    if kind == "logit":
        return {}
    path = Path(path) / "params.pt" if Path(path).is_dir() else Path(path)
    stored = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu")
    if kind == "jacobian":
        maps = stored["J"] if "J" in stored else {
            int(key.removesuffix(".jacobian")): value for key, value in stored.items()}
        maps = {l + 1: value.to(dtype) for l, value in maps.items() if l + 1 < num_blocks}
        return {layer: lambda h, j=j: h @ j.T for layer, j in maps.items()}
    shift = 1 if alignment == "paper" else 0  # the paper's layer i uses translator i - 1
    weights = {i: (stored[f"{i}.weight"].to(dtype), stored[f"{i}.bias"].to(dtype)) for i in range(num_blocks)}
    return {i + shift: lambda h, w=w, b=b: h + h @ w.T + b
            for i, (w, b) in weights.items() if i + shift < num_blocks}


# ---------------------------------------------------------------- the reference


class Reference:
    """transformers' forward pass and the lenses' logits, in one arithmetic."""

    def __init__(self, folder, lenses, alignment, dtype):
        self.dtype = dtype
        self.mode = Float64Arithmetic if dtype == torch.float64 else torch.no_grad
        self.model = (load_float64(folder) if dtype == torch.float64 else
                      AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval())
        blocks, self.norm = blocks_and_final_norm(self.model)
        self.num_blocks = len(blocks)
        self.translators = {name: load_translators(kind, path, self.num_blocks, alignment, dtype)
                            for name, kind, path in lenses}

    @torch.no_grad()
    def logits(self, ids):
        """The model's logits [T, V], and a generator of (lens, layer, logits [T, V]); all in float64."""
        with self.mode():
            states, logits = states_and_logits(self.model, ids)
        assert states.dtype == logits.dtype == self.dtype
        final = logits.double()

        def decoded():
            for name, translators in self.translators.items():
                for layer in range(self.num_blocks):
                    with self.mode(), torch.no_grad():
                        h = states[layer]
                        h = translators[layer](h) if layer in translators else h
                        logits = readout(self.model, self.norm, h)
                    assert logits.dtype == self.dtype
                    yield name, layer, logits.double()  # outside of the mode, which would else reach into the caller
                yield name, self.num_blocks, final

        return final, decoded()


def layer_values(logits, log_final, final_ids, targets, bucket, top_ids):
    """The real fields of one lens and layer, as arrays over positions; targets [T - 1], top_ids [T, K]."""
    log_p = torch.log_softmax(logits, -1)
    p = log_p.exp()
    at = torch.arange(len(final_ids))
    target_logprob = torch.full((len(final_ids),), math.nan, dtype=torch.float64)
    target_logprob[:-1] = log_p[at[:-1], targets]
    mass = torch.zeros(len(final_ids), len(BUCKETS), dtype=torch.float64).index_add_(1, bucket, p)
    return {
        "top_logprobs": log_p.gather(1, top_ids),
        "final_logprob": log_p[at, final_ids],
        "target_logprob": target_logprob,
        "entropy": -(p * log_p).sum(-1),
        "kl_final": (log_final.exp() * (log_final - log_p)).sum(-1),
        "kl_reverse": (p * (log_p - log_final)).sum(-1),
        "bucket_mass": mass,
    }


def ranks(logits, ids, slack=0.0):
    """1 + the number of logits greater than that of ids [T] by more than `slack`."""
    own = logits[torch.arange(len(ids)), ids][:, None]
    return 1 + (logits > own + slack).sum(-1)


# ---------------------------------------------------------------- records


def read_windows(path):
    """[(document, [record …])] of records.jsonl, in its order."""
    with path.open(encoding="utf8") as file:
        records = (json.loads(line) for line in file)
        return [(key[0], list(group))
                for key, group in itertools.groupby(records, key=lambda r: (r["document"], r["window"]))]


def stacked(records, lens, field, dtype):
    """[L+1, T, …] (settled_layer: [T]) of one field; null becomes NaN or -1."""
    null = math.nan if dtype == float else -1

    def filled(value):
        return [filled(v) for v in value] if isinstance(value, list) else null if value is None else value

    values = [r["lenses"][lens][field] for r in records]
    num_layers = len(records[0]["lenses"][lens]["entropy"])
    values = np.array([filled([None] * num_layers if value is None else value) for value in values], dtype=dtype)
    return values if values.ndim == 1 else np.moveaxis(values, 0, 1)


class Findings:
    """The largest difference per field, where it was met, and what passes."""

    def __init__(self):
        self.rows = {}

    def add(self, field, difference, limit, place="", float32=None):
        difference = math.inf if math.isnan(difference) else float(difference)
        row = self.rows.setdefault(field, [-1.0, limit, "", None])
        if difference > row[0]:
            row[0], row[2] = difference, place
        if float32 is not None:
            row[3] = max(row[3] or 0.0, float32)

    def fail(self, field, place):
        self.add(field, math.inf, 0, place)

    def print(self, title):
        print(f"\n{title:44} {'largest':>10} {'allowed':>9} {'float32':>9}         where")
        for field, (difference, limit, place, float32) in self.rows.items():
            other = "" if float32 is None else f"{float32:.1e}"
            verdict = "PASS" if difference <= limit else "FAIL"
            print(f"{field:44} {difference:10.2e} {limit:9.0e} {other:>9}  {verdict}  {place}")
        return all(row[0] <= row[1] for row in self.rows.values())


def largest(a, b):
    """Largest absolute difference; a NaN on both sides is equal, on one side infinite."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.shape != b.shape or (np.isnan(a) != np.isnan(b)).any():
        return math.inf
    return float(np.nanmax(np.abs(a - b), initial=0.0))


def compare_tokens(documents, windows, own_windows, tokens, findings):
    """The windows of each document; disputed ones do not count."""
    def by_document(windows):
        return {document: [ids for _, ids in group] for document, group in itertools.groupby(windows, lambda w: w[0])}

    mine, own = by_document(windows), by_document(own_windows)
    findings.add("documents whose tokens differ", 0, 0)
    different = [document for document in range(len(documents)) if mine.get(document) != own.get(document)]
    excused = [document for document in different if tokens.is_disputed(documents[document])]
    if tokens.is_sentencepiece:
        findings.add("the same, disputed", len(excused), math.inf)
    for document in different:
        if document not in excused:
            print(f"transformers: {str(mine.get(document))[:300]}\ndepthlens:    {str(own.get(document))[:300]}")
    findings.add("documents whose tokens differ", len(different) - len(excused), 0)
    findings.add("documents that the program has too many", len(own.keys() - range(len(documents))), 0)


def compare_window(records, ids, reference, single, bucket, tokens, findings, collected):
    """Checks the records of one window and adds what the tables need to collected[lens][field]."""
    ids = torch.as_tensor(ids)
    place = f"document {records[0]['document']} window {records[0]['window']}"
    for t, record in enumerate(records):
        target = record["target"]["id"] if record["target"] else None
        lenses = {tuple(sorted(fields)) for fields in record["lenses"].values()}
        if not set(record) >= set(RECORD_FIELDS) or lenses != {tuple(sorted(LENS_FIELDS))}:
            findings.fail("fields of a record", f"{place} position {t}")
        if list(record["lenses"]) != list(reference.translators):
            findings.fail("names of the lenses", f"{place} position {t}")
        if record["position"] != t or record["item"] is not None or (
                target != (int(ids[t + 1]) if t + 1 < len(ids) else None)):
            findings.fail("position, item, target", f"{place} position {t}")
    findings.add("position, item, target", 0, 0)
    final_ids = torch.tensor([r["final"]["id"] for r in records])
    final, decoded = reference.logits(ids)
    single_final, single_decoded = single.logits(ids)
    log_final, log_single = torch.log_softmax(final, -1), torch.log_softmax(single_final, -1)
    at = torch.arange(len(ids))
    findings.add("final.id (logit gap)", (final.max(-1).values - final[at, final_ids]).max(), TOLERANCE, place)
    discrete = {}
    for (lens, layer, logits), (_, _, logits32) in zip(decoded, single_decoded):
        if lens not in discrete:
            missing = [f for f in LENS_FIELDS if f not in records[0]["lenses"].get(lens, {})]
            if missing:
                findings.fail(f"{lens}: fields", f"{place}: no {', '.join(missing)}")
                return
            discrete[lens] = {
                **{f: stacked(records, lens, f, int) for f in DISCRETE_FIELDS},
                **{f: stacked(records, lens, f, float) for f in REAL_FIELDS}}
        theirs = discrete[lens]
        here, top = f"{place} layer {layer}", torch.as_tensor(theirs["top_ids"][layer])
        top_k = top.shape[-1]
        values = layer_values(logits, log_final, final_ids, ids[1:], bucket, top)
        values32 = layer_values(logits32, log_single, final_ids, ids[1:], bucket, top)
        for field in REAL_FIELDS:
            findings.add(f"{lens}.{field}", largest(theirs[field][layer], values[field]), TOLERANCE, here,
                         largest(values32[field], values[field]))
        gap = (logits.gather(1, top) - logits.topk(top_k).values).abs().max()
        if any(len(set(row)) < top_k for row in top.tolist()):
            gap = math.inf
        findings.add(f"{lens}.top_ids (logit gap)", gap, TOLERANCE, here)
        if (np.diff(theirs["top_logprobs"][layer]) > 0).any():
            findings.fail(f"{lens}.top_ids (logit gap)", f"{here}: not in falling order")
        for field, watched, count in (("final_rank", final_ids, len(ids)), ("target_rank", ids[1:], len(ids) - 1)):
            own = torch.as_tensor(theirs[field][layer])
            low = ranks(logits[:count], watched, TOLERANCE)
            high = ranks(logits[:count], watched, -TOLERANCE) - 1  # the token itself is counted there
            outside = torch.maximum(low - own[:count], own[:count] - torch.maximum(high, low))
            worst = int(outside.max()) if count else 0
            findings.add(f"{lens}.{field} (beyond near ties)", max(0, worst), 0, here)
        for field in ("entropy", "kl_final", "kl_reverse", "target_logprob"):
            collected[lens][field][layer].append(theirs[field][layer])
        collected[lens]["bucket_mass"][layer].append(values["bucket_mass"].numpy())
    for lens, theirs in discrete.items():
        agrees = theirs["top_ids"][..., 0] == final_ids.numpy()
        settled = [min(i for i in range(len(agrees)) if agrees[i:, t].all()) if agrees[-1, t] else -2 for t in at]
        findings.add(f"{lens}.settled_layer", largest(theirs["settled_layer"], settled), 0, place)
        if (theirs["final_rank"][-1] != 1).any():
            findings.fail(f"{lens}.final_rank (beyond near ties)", f"{place}: not 1 at the model's output")
        if (theirs["target_rank"][:, -1] != -1).any():
            findings.fail(f"{lens}.target_rank (beyond near ties)", f"{place}: not null at the last position")
        for layer in range(reference.num_blocks + 1):
            for field in ("final_rank", "target_rank"):
                collected[lens][field][layer].append(theirs[field][layer])
            collected[lens]["top1"][layer].append(theirs["top_ids"][layer, :, 0])
        collected[lens]["settled_layer"][0].append(theirs["settled_layer"])
        collected[lens]["final"][0].append(final_ids.numpy())
        collected[lens]["target"][0].append(np.append(ids[1:].numpy(), -1))
        wrong = 0
        for record in records:
            own = record["lenses"][lens]
            pairs = [(record[name]["id"], record[name]["text"])
                     for name in ("token", "target", "final") if record[name] is not None]
            pairs += zip(itertools.chain(*own["top_ids"]), itertools.chain(*own["top_tokens"]))
            wrong += sum(tokens.text(index) != text for index, text in pairs)
        findings.add(f"{lens}.token texts (number that differ)", wrong, 0, place)


# ---------------------------------------------------------------- tables


def make_tables(collected, bucket, counts):
    """{table: ([key columns], {key: {column: (value, tolerance)}})} of all tables of the default experiments."""
    exact, mean, mass = 0.0, 1e-6, 1e-5  # records hold float32, of seven digits
    tables = defaultdict(dict)
    total = sum(counts.values())
    in_bucket = Counter()
    for index, count in counts.items():
        in_bucket[bucket[index]] += count
    for b, name in enumerate(BUCKETS):
        tables["frequency.corpus"][name,] = {"count": (in_bucket[b], exact), "share": (in_bucket[b] / total, 1e-9)}
    for lens, fields in collected.items():
        values = {field: np.stack([np.concatenate(layers[i]) for i in sorted(layers)])
                  for field, layers in fields.items()}
        top1, final, target = values["top1"], values["final"][0], values["target"][0]
        num_layers, positions = top1.shape
        has_target = target >= 0
        for layer in range(num_layers):
            own = top1[layer]
            tables["lens.quality"][lens, layer] = {
                "positions": (positions, exact),
                **{f: (values[f][layer].mean(), mean) for f in ("kl_final", "kl_reverse", "entropy")},
                "cross_entropy": (-np.nanmean(values["target_logprob"][layer]), mean),
                "top1_agreement": ((own == final).mean(), 1e-9),
                "top1_accuracy": ((own == target)[has_target].mean(), 1e-9),
                "final_rank_mean": (values["final_rank"][layer].mean(), 1e-6),
                "final_rank_median": (np.median(values["final_rank"][layer]), exact),
                "targets": (int(has_target.sum()), exact)}
            for b, name in enumerate(BUCKETS):
                mine = bucket[own] == b
                count, flipped = int(mine.sum()), int((mine & (own != final)).sum())
                tables["frequency.top1_share"][lens, layer, name] = {
                    "count": (count, exact), "share": (count / positions, 1e-9)}
                tables["frequency.mean_probability"][lens, layer, name] = {
                    "probability": (values["bucket_mass"][layer, :, b].mean(), mass)}
                tables["flips.by_bucket"][lens, layer, name] = {
                    "count": (count, exact), "flipped": (flipped, exact),
                    "flip_rate": (flipped / count if count else None, 1e-9)}
            if layer:
                changed = int((own != top1[layer - 1]).sum())
                tables["flips.changes"][lens, layer] = {
                    "changed": (changed, exact), "share": (changed / positions, 1e-9)}
            settled = int((values["settled_layer"][0] == layer).sum())
            tables["settling.depth"][lens, layer] = {"count": (settled, exact), "share": (settled / positions, 1e-9)}
        for threshold in THRESHOLDS:
            first = (values["final_rank"] <= threshold).argmax(0)
            for layer in range(num_layers):
                count = int((first == layer).sum())
                tables["settling.first_hit"][lens, threshold, layer] = {
                    "count": (count, exact), "share": (count / positions, 1e-9)}
    keys = {"frequency.corpus": ["bucket"], "settling.first_hit": ["lens", "threshold", "layer"],
            **{name: ["lens", "layer"] for name in ("lens.quality", "flips.changes", "settling.depth")},
            **{name: ["lens", "layer", "bucket"]
               for name in ("frequency.top1_share", "frequency.mean_probability", "flips.by_bucket")}}
    return {name: (keys[name], rows) for name, rows in tables.items()}


def compare_tables(summary, expected, findings):
    if summary.get("schema_version") != 1:
        findings.fail("schema_version", f"found {summary.get('schema_version')}")
    if not summary["tables"].keys() >= expected.keys():
        findings.fail("names of the tables", f"found {list(summary['tables'])}, expected {list(expected)}")
    for name, (key_columns, rows) in expected.items():
        table = summary["tables"].get(name)
        wanted = key_columns + list(next(iter(rows.values())))
        # Intervals, and the number of targets, are checked by tests of their own.
        others = [column for column in (table["columns"] if table else [])
                  if not column.endswith(("_low", "_high")) and column != "targets"]
        if sorted(column for column in wanted if column != "targets") != sorted(others):
            findings.fail(name, f"found {others}, expected {wanted}")
            continue
        found = [dict(zip(table["columns"], row)) for row in table["rows"]]
        found = {tuple(row[column] for column in key_columns): row for row in found}
        if len(found) != len(table["rows"]):
            findings.fail(f"{name}: rows", "two rows with the same key")
        if found.keys() != rows.keys():
            findings.fail(f"{name}: rows", f"missing or not expected: {sorted(found.keys() ^ rows.keys(), key=str)[:3]}")
        for key, columns in rows.items():
            if key not in found:
                continue
            for column, (value, tolerance) in columns.items():
                own = found[key][column]
                if value is None or own is None:  # a rate of nothing
                    difference = 0.0 if value is own else math.inf
                else:
                    difference = abs(own - value)
                findings.add(f"{name}: {column}", difference, tolerance, str(key))


def compare_csv(run, summary, findings):
    """The CSV files must hold the tables of summary.json."""
    files = {path.stem: path for path in (run / "tables").glob("*.csv")}
    findings.add("tables/*.csv (files too many or few)", len(files.keys() ^ summary["tables"].keys()), 0)
    different = 0
    for name in files.keys() & summary["tables"].keys():
        with files[name].open(encoding="utf8", newline="") as file:
            columns, *rows = csv.reader(file)
        table = summary["tables"][name]
        different += columns != table["columns"] or len(rows) != len(table["rows"])
        for own, row in zip(rows, table["rows"]):
            different += own != ["" if value is None else value if isinstance(value, str) else text
                                 for value, text in zip(row, own)]
            different += any(float(text) != value for value, text in zip(row, own) if isinstance(value, (int, float)))
    findings.add("tables/*.csv (rows that differ)", different, 0)


def compare_run(run, windows, num_documents, vocabulary, findings):
    record = json.loads((run / "run.json").read_text(encoding="utf8"))
    positions = sum(len(ids) for _, ids in windows)
    expected = {"documents": num_documents, "windows": len(windows), "tokens": positions, "positions": positions,
                "records": positions, "records_omitted": 0}
    for key, value in expected.items():
        findings.add(f"run.json: counts.{key}", abs(record["counts"][key] - value), 0)
    findings.add("run.json: model.vocab_size", abs(record["model"]["vocab_size"] - vocabulary), 0)
    findings.add("run.json: self-check", record["self_check"]["final_layer_max_abs_error"], TOLERANCE)


# ---------------------------------------------------------------- without the program


def write_self_test(folder, windows, single, bucket, tokens, counts, top_k=10):
    """A run folder as depthlens would write it, from transformers' float32 pass."""
    collected = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    number = Counter()
    with (folder / "records.jsonl").open("w", encoding="utf8") as out:
        for document, ids in windows:
            ids = torch.as_tensor(ids)
            final, decoded = single.logits(ids)
            log_final, final_ids = torch.log_softmax(final, -1), final.argmax(-1)
            lenses = defaultdict(lambda: defaultdict(list))
            for lens, layer, logits in decoded:
                top_ids = logits.sort(descending=True, stable=True).indices[:, :top_k]
                values = layer_values(logits, log_final, final_ids, ids[1:], bucket, top_ids)
                values["top_ids"] = top_ids
                values["final_rank"] = ranks(logits, final_ids)
                values["target_rank"] = ranks(logits, torch.cat([ids[1:], ids[:1]]))
                values["target_rank"][-1] = -1
                values["top1"] = values["top_ids"][:, 0]
                for field, value in values.items():
                    lenses[lens][field].append(value)
                    collected[lens][field][layer].append(value.numpy())
            for lens in lenses:
                agrees = torch.stack(lenses[lens]["top1"]) == final_ids
                settled = len(agrees) - torch.cumprod(agrees.flip(0).int(), 0).sum(0)
                collected[lens]["settled_layer"][0].append(settled.numpy())
                collected[lens]["final"][0].append(final_ids.numpy())
                collected[lens]["target"][0].append(np.append(ids[1:].numpy(), -1))
                lenses[lens]["settled_layer"] = settled
            for t in range(len(ids)):
                record = {"document": document, "window": number[document], "position": t, "item": None}
                last = t + 1 == len(ids)
                target = None if last else ids[t + 1]
                for name, index in (("token", ids[t]), ("target", target), ("final", final_ids[t])):
                    record[name] = None if index is None else {"id": int(index), "text": tokens.text(int(index))}
                record["lenses"] = {}
                for lens, fields in lenses.items():
                    own = {f: [v[t].tolist() for v in values] for f, values in fields.items()
                           if f in LENS_FIELDS and f != "settled_layer"}
                    own["top_tokens"] = [[tokens.text(index) for index in row] for row in own["top_ids"]]
                    own["settled_layer"] = int(fields["settled_layer"][t])
                    if last:
                        own |= {f: [None] * len(own[f]) for f in ("target_rank", "target_logprob")}
                    record["lenses"][lens] = own
                out.write(json.dumps(record) + "\n")
            number[document] += 1
    tables = {}
    for name, (key_columns, rows) in make_tables(collected, bucket.numpy(), counts).items():
        values = [[*key, *(None if value is None else float(value) for value, _ in columns.values())]
                  for key, columns in rows.items()]
        tables[name] = {"columns": key_columns + list(next(iter(rows.values()))), "units": {}, "rows": values}
    (folder / "summary.json").write_text(json.dumps({"schema_version": 1, "tables": tables}))


# ---------------------------------------------------------------- main


def run_program(options, text, out):
    command = [options.depthlens, "analyze", "--model", options.model, "--input", text, "--out", out,
               "--max-records", "0", "--max-length", options.max_length, "--lens-alignment", options.lens_alignment,
               *itertools.chain.from_iterable(("--lens", lens) for lens in options.lens), *options.further]
    command = [str(part) for part in command]
    print(" ".join(command), flush=True)
    if (status := subprocess.run(command).returncode) != 0:
        raise SystemExit(f"depthlens ended with status {status}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depthlens", type=Path, default=Path("build/bin/depthlens"))
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--lens", action="append", help="as depthlens takes it; repeatable (default: logit)")
    parser.add_argument("--lens-alignment", choices=["trained", "paper"], default="trained")
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--self-test", action="store_true")
    parser.add_argument("--run", type=Path)
    parser.add_argument("further", nargs="*", metavar="FURTHER FLAGS")
    options = parser.parse_args()
    options.lens = options.lens or ["logit"]
    return options


def main():
    options = parse_arguments()
    disable_progress_bar()
    tokens, lenses = Tokens(options.model), named_lenses(options.lens)
    documents, text = first_documents(options.text, tokens, options.tokens)
    windows = cut_windows(documents, tokens, options.max_length)
    load = [Reference(options.model, lenses, options.lens_alignment, dtype) for dtype in (torch.float64, torch.float32)]
    vocabulary = load[0].model.get_output_embeddings().weight.shape[0]
    print(f"{len(documents)} documents, {len(windows)} windows, {sum(len(ids) for _, ids in windows)} positions")
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        run = options.run or scratch / "run"
        if options.self_test:
            run.mkdir()
            bucket, counts = bucket_of_tokens(windows, tokens, vocabulary)
            write_self_test(run, windows, load[1], torch.as_tensor(bucket), tokens, counts)
        elif not options.run:
            (scratch / "text.txt").write_text(text, encoding="utf8")
            run_program(options, scratch / "text.txt", run)
        recorded = read_windows(run / "records.jsonl")
        summary = json.loads((run / "summary.json").read_text(encoding="utf8"))
        in_folder = Findings()
        own_windows = [(document, [r["token"]["id"] for r in records]) for document, records in recorded]
        if not options.self_test:
            compare_csv(run, summary, in_folder)
            compare_run(run, own_windows, len(documents), vocabulary, in_folder)
    findings = Findings()
    compare_tokens(documents, windows, own_windows, tokens, findings)
    numbered = Counter()
    for document, records in recorded:
        if any(record["window"] != numbered[document] for record in records):
            findings.fail("number of a window", f"document {document}")
        numbered[document] += 1
    bucket, counts = bucket_of_tokens(own_windows, tokens, vocabulary)
    collected = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for (_, records), (_, ids) in zip(recorded, own_windows):
        compare_window(records, ids, *load, torch.as_tensor(bucket), tokens, findings, collected)
    good = findings.print("records.jsonl")
    findings = in_folder
    if good or all(lens in collected for lens, _, _ in lenses):
        compare_tables(summary, make_tables(collected, bucket, counts), findings)
    good = findings.print("run.json, summary.json and tables") and good
    print("\nall within the contract's accuracy" if good else "\nFAIL")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
