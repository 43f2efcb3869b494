#!/usr/bin/env python3
"""Says in a few lines what a run folder of `depthlens analyze` shows; the last step of tools/demo.sh.

    summarise_demo.py RUN_FOLDER

Reads run.json and summary.json (see the project's docs on the output); needs Python 3.8 and nothing else.
"""

import json
import sys
from pathlib import Path

BAR_WIDTH = 40  # characters of a bar for 100 %


def read_json(path: Path):
    try:
        return json.loads(path.read_text(encoding="utf8"))
    except OSError as error:
        sys.exit(f"summarise_demo.py: error: {path} cannot be read ({error.strerror}); expected a finished run folder")
    except ValueError as error:
        sys.exit(f"summarise_demo.py: error: {path} is not JSON ({error})")


def all_rows_of(summary, name):
    """The rows of a table as dictionaries by column; [] where it is absent."""
    table = summary.get("tables", {}).get(name, {"columns": [], "rows": []})
    return [dict(zip(table["columns"], row)) for row in table["rows"]]


def rows_of(summary, name):
    """Of its first lens only, where it has lenses."""
    rows = all_rows_of(summary, name)
    return [row for row in rows if row.get("lens") == rows[0].get("lens")]


def percent(share):
    return f"{100 * share:3.0f} %"


def flip_rates(summary):
    """Of all predictions of a layer, the share that is not the final one: {layer: share}."""
    counts, flipped = {}, {}
    for row in rows_of(summary, "flips.by_bucket"):
        counts[row["layer"]] = counts.get(row["layer"], 0) + row["count"]
        flipped[row["layer"]] = flipped.get(row["layer"], 0) + row["flipped"]
    return {layer: flipped[layer] / counts[layer] for layer in counts if counts[layer]}


def print_shares(summary, bar):
    """The table of layers; returns False where the run did not measure it."""
    rows = rows_of(summary, "frequency.top1_share")
    if not rows:
        return False
    bucket = rows[0]["bucket"]  # the most frequent tokens come first
    shares = {row["layer"]: row["share"] for row in rows if row["bucket"] == bucket}
    flips = flip_rates(summary)
    print(f"Share of the guesses that are {words_of(bucket)} of these texts,")
    print("and share of the guesses that a later layer overturns:\n")
    print("  layer  frequent  overturned")
    for layer, share in sorted(shares.items()):
        overturned = percent(flips[layer]) if layer in flips else "  –  "
        print(f"  {layer:5}     {percent(share)}       {overturned}  {bar * round(BAR_WIDTH * share)}")
    peak, last = max(shares, key=shares.get), max(shares)
    line = f"\nFrequent tokens peak at layer {peak} with {percent(shares[peak]).strip()}; "
    line += f"the model's output has {percent(shares[last]).strip()}"
    of_text = [row["share"] for row in rows_of(summary, "frequency.corpus") if row["bucket"] == bucket]
    print(line + (f", the text itself {percent(of_text[0]).strip()}." if of_text else "."))
    return True


def words_of(bucket):
    edge = bucket.rsplit("_", 1)[-1]
    return "one of the ten most frequent tokens" if edge == "10" else f"among the {edge} most frequent tokens"


def print_settling(summary):
    rows = sorted(rows_of(summary, "settling.depth"), key=lambda row: row["layer"])
    total = sum(row["count"] for row in rows)
    if not total:
        return
    mean = sum(row["layer"] * row["count"] for row in rows) / total
    last = rows[-1]["layer"]
    print(f"A guess becomes final, never to change again, at layer {mean:.1f} of {last} on average:")
    quarters, settled, parts = [], 0, [0.25, 0.5, 0.75]
    for row in rows:
        settled += row["count"]
        while parts and settled >= parts[0] * total:
            quarters.append(f"{percent(parts.pop(0)).strip()} are settled by layer {row['layer']}")
    print(f"{', '.join(quarters)}.")


def print_lenses(summary):
    """How far each layer is from the model's output, through every lens of the run."""
    rows = all_rows_of(summary, "lens.quality")
    lenses = list(dict.fromkeys(row["lens"] for row in rows))
    if len(lenses) < 2:
        return
    kl = {(row["lens"], row["layer"]): row["kl_final"] for row in rows}
    last = max(row["layer"] for row in rows)
    print("\nHow far a layer is from the model's output (KL divergence in nats, less is nearer), read directly by the logit")
    print("lens, or after a translation that was trained for the layer:\n")
    print("  layer" + "".join(f"{lens:>10}" for lens in lenses))
    for layer in (layer for layer in (0, 1, 2, 4, 6, 8, 10, 11) if layer < last):
        print(f"  {layer:5}" + "".join(f"{kl[lens, layer]:10.2f}" for lens in lenses))
    first, second = (sum(kl[lens, layer] for layer in range(last // 2)) for lens in lenses[:2])
    print(f"\nIn the first half of the layers the {lenses[1]} lens has {percent(second / first).strip()} of the divergence of"
          f" the {lenses[0]} lens.")


def main():
    if len(sys.argv) != 2:
        sys.exit("Usage: summarise_demo.py RUN_FOLDER")
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    folder = Path(sys.argv[1])
    run, summary = read_json(folder / "run.json"), read_json(folder / "summary.json")
    bar = "█" if (sys.stdout.encoding or "").lower().replace("-", "") == "utf8" else "#"

    model, counts = run.get("model", {}), run.get("counts", {})
    print(f"\ndepthlens read {counts.get('documents', '?')} documents ({counts.get('positions', '?')} positions)",
          f"with a model of {model.get('layers', '?')} blocks")
    print("and asked after every block: if the model had to stop here, which token would it guess next?")
    print("Layer 0 is the bare token, the last layer is the model's real output.\n")
    if run.get("status") != "complete":
        print(f"The run is {run.get('status', 'damaged')}: what follows tells of a part of the texts only.\n")
    try:
        if not print_shares(summary, bar):
            print("The run has no table frequency.top1_share.")
        print_settling(summary)
        print_lenses(summary)
    except (AttributeError, KeyError, TypeError) as error:
        sys.exit(f"summarise_demo.py: error: {folder / 'summary.json'} has not the expected tables ({error!r})")

    print("\nTo look further:")
    for name, words in [("report.html", "pictures, for any browser"), ("tables", "every table as CSV"),
                        ("summary.json", "the same in one file"), ("records.jsonl", "every position, layer by layer"),
                        ("run.json", "what was run")]:
        if (folder / name).exists():
            print(f"  {str(folder / name):24} {words}")


if __name__ == "__main__":
    main()
