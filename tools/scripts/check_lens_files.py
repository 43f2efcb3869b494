#!/usr/bin/env python3
"""Opens lens files that depthlens wrote with the libraries that others use, and compares every bit.

    check_lens_files.py [--program build/bin/depthlens]

Needs torch, safetensors, numpy and transformers; tuned-lens too, where it is installed (made with torch 2.13,
safetensors 0.8, tuned-lens 0.2). Run by hand when you touch a writer. For the golden lenses, and for others of every
element type made here, it runs `depthlens convert-lens` through all formats and checks that

- torch.load opens params.pt and Jacobian archives as it is called by default (weights_only=True), with
  map_location="cpu" and with mmap=True; safetensors opens the rest
- tensors have the types and bits of the originals, configurations and other fields are equal
- tuned_lens.TunedLens.from_unembed_and_pretrained loads the folder and finds its unembed_hash right.
"""

import argparse
import json
import logging
import subprocess
import tempfile
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "tests" / "golden" / "models"
VARIANTS = ("gpt2", "neox-parallel", "llama-gqa-sharded")


def convert(program, source, target, *flags):
    subprocess.run([program, "convert-lens", source, target, "--quiet", *flags], check=True)
    return target


def same(a, b):
    """Equal in type and in every bit, through lists and dictionaries."""
    if isinstance(a, torch.Tensor):
        return (a.dtype == b.dtype and a.shape == b.shape and b.is_contiguous()
                and torch.equal(a.contiguous().view(-1).view(torch.uint8), b.view(-1).view(torch.uint8)))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or a != a and b != b)


def load_everyhow(file):
    """torch.load in every way that users call it; all must agree."""
    loaded = torch.load(file)
    for options in ({"map_location": "cpu"}, {"mmap": True}, {"weights_only": False}):
        assert same(loaded, torch.load(file, **options)), options
    return loaded


def load_safetensors(file):
    with safe_open(file, "pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata()


def check_tuned(program, folder, work):
    state = torch.load(folder / "params.pt")
    config = json.loads((folder / "config.json").read_text())
    file = convert(program, folder, work / "x.safetensors")
    tensors, metadata = load_safetensors(file)
    assert same(dict(state), tensors)
    assert metadata["d_model"] == str(config["d_model"]) and metadata["lens_type"] == "tuned"
    back = convert(program, file, work / "back")
    again = load_everyhow(back / "params.pt")
    assert isinstance(again, OrderedDict) and list(again) == list(state) and same(state, again)
    assert json.loads((back / "config.json").read_text()) == config
    old = load_everyhow(convert(program, back, work / "old", "--legacy-keys") / "params.pt")
    assert list(old)[0] == "input_translator.weight" and same(list(state.values()), list(old.values()))
    convert(program, work / "old", work / "new")
    assert same(state, load_everyhow(work / "new" / "params.pt"))
    return back


def check_jacobian(program, file, work):
    original = torch.load(file)
    tensors, _ = load_safetensors(convert(program, file, work / "j.safetensors"))
    assert same({f"{block}.jacobian": jacobian for block, jacobian in original["J"].items()}, tensors)
    assert same(original, load_everyhow(convert(program, work / "j.safetensors", work / "j.pt")))
    assert same(original, load_everyhow(convert(program, file, work / "j2.pt")))


def check_upstream(folder, variant):
    try:
        from tuned_lens import TunedLens
        from tuned_lens.nn.unembed import Unembed
    except ImportError as error:
        return f"tuned-lens cannot be imported ({error})"
    from transformers import AutoModelForCausalLM
    warnings = []
    handler = logging.Handler()
    handler.emit = lambda record: warnings.append(record.getMessage())
    logging.getLogger().addHandler(handler)
    model = AutoModelForCausalLM.from_pretrained(MODELS / variant, dtype=torch.float64)
    lens = TunedLens.from_unembed_and_pretrained(Unembed(model), str(folder))
    logging.getLogger().removeHandler(handler)
    state = torch.load(folder / "params.pt")
    assert same({key: value.double() for key, value in state.items()}, dict(lens.layer_translators.state_dict()))
    assert not [warning for warning in warnings if "hash" in warning], warnings
    return f"loaded by tuned-lens, {len(lens)} translators, warnings: {warnings or 'none'}"


def made_up(work):
    """Lenses that the golden ones do not cover: every type, no biases, views, odd values and metadata."""
    odd = torch.tensor([[0.0, -0.0, 65504.0], [6e-8, -1.5, 1e-3], [1.0, 2.0, 3.0]])
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        for bias in (True, False):
            folder = work / f"{dtype}-{bias}"
            folder.mkdir()
            state = OrderedDict()
            for i in range(12):
                state[f"{i}.weight"] = (odd * (i + 1)).to(dtype).t()
                if bias:
                    state[f"{i}.bias"] = odd.to(dtype)[:, 1]
            state._metadata = OrderedDict([("", {"version": 1})])
            torch.save(state, folder / "params.pt")
            (folder / "config.json").write_text(json.dumps(
                {"base_model_name_or_path": "naïve", "d_model": 3, "num_hidden_layers": 12, "bias": bias,
                 "base_model_revision": None, "unembed_hash": None, "lens_type": "linear_tuned_lens", "own": [1]}))
            yield folder, None
        file = work / f"{dtype}.pt"
        torch.save({"J": {l: (odd * l).to(dtype) for l in (0, 2, 11)}, "n_prompts": 1000, "source_layers": [0, 2, 11],
                    "d_model": 3, "metadata": {"model": "gpt2", "seed": 2**40, "rate": 0.1, "nan": float("nan"),
                                               "per_layer": {0: 0.5, 2: None}, "list": [True, [], {}, "ö"]}}, file)
        yield None, file


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=Path, default=ROOT / "build" / "bin" / "depthlens")
    program = parser.parse_args().program
    for variant in VARIANTS:
        with tempfile.TemporaryDirectory() as work:
            back = check_tuned(program, MODELS / variant / "lens" / "tuned", Path(work))
            check_jacobian(program, MODELS / variant / "lens" / "jacobian.pt", Path(work))
            print(f"{variant}: {check_upstream(back, variant)}")
    with tempfile.TemporaryDirectory() as sources:
        for folder, file in made_up(Path(sources)):
            with tempfile.TemporaryDirectory() as work:
                if folder:
                    check_tuned(program, folder, Path(work))
                else:
                    check_jacobian(program, file, Path(work))
            print(f"{(folder or file).name}: equal")


if __name__ == "__main__":
    main()
