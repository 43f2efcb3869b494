#!/usr/bin/env python3
"""Seconds of a step of lens training, and memory: `depthlens train-lens` beside tuned-lens' recipe in PyTorch.

    train_lens.py --model FOLDER --text FILE [--tokens 1024] [--length 512] [--rounds 5] [--ways WAY …] [--device cuda]
    train_lens.py --model FOLDER --text FILE --quality [--steps 60] [--tokens 16384]

The peer is the recipe as the tuned-lens package runs it: the model's hidden states without gradient, then for each layer
translator, final norm, unembedding, KL to the model's output, backward; joint clipping; SGD with Nesterov's momentum. Ways:
float32, autocast (bfloat16, as upstream), and both with the loss of a layer through torch.compile. All programs take the
same number of tokens in windows of the same length, one after the other in every round; loading and compiling are not
counted. With --quality, both train in float32 (and depthlens in its fastest way too) on the same number of tokens, and
the KL per layer on the same held-out text is compared.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import PROGRAM, machine, print_table, run

WAYS = ("float32", "autocast", "float32 compiled", "autocast compiled")
GIB = 1 << 30


def windows_of(tokenizer, text, length, count):
    """The text as one stream, each document after an EOS, cut into windows."""
    ids = []
    for document in text.split("\n\n"):
        if document.strip():
            ids.append(next((i for i in (tokenizer.eos_token_id, tokenizer.bos_token_id) if i is not None), 0))
            ids += tokenizer(document.strip("\n"), add_special_tokens=False).input_ids
        if len(ids) >= length * count:
            break
    if len(ids) < length * count:
        raise SystemExit(f"the text is too short: it has {len(ids)} tokens, and {length * count} are needed")
    return [ids[first : first + length] for first in range(0, length * count, length)]


class Peer:
    """tuned-lens' recipe on one model."""

    def __init__(self, folder, way, steps, device):
        import torch
        from transformers import AutoModelForCausalLM

        self.torch, self.autocast, self.device = torch, way.startswith("autocast"), torch.device(device)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval().requires_grad_(False)
        self.model.to(self.device).float()
        inner = self.model.base_model
        self.norm = getattr(inner, "final_layer_norm", None) or getattr(inner, "norm", None) or inner.ln_f
        self.head = self.model.get_output_embeddings()
        self.blocks = getattr(inner, "layers", None) or inner.h
        d, layers = self.model.config.hidden_size, self.model.config.num_hidden_layers
        self.lens = torch.nn.ModuleList(torch.nn.Linear(d, d) for _ in range(layers)).to(self.device)
        for parameter in self.lens.parameters():
            torch.nn.init.zeros_(parameter)
        self.optimizer = torch.optim.SGD(self.lens.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: max(0, steps - step) / steps)
        self.layer_loss = torch.compile(self.loss, dynamic=False) if way.endswith("compiled") else self.loss

    def loss(self, hidden, weight, bias, final_logprobs):
        torch = self.torch
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            translated = hidden + torch.nn.functional.linear(hidden, weight, bias)
            logits = self.head(self.norm(translated))
            logprobs = logits.log_softmax(-1)  # autocast computes this in float32
            return (final_logprobs.exp() * (final_logprobs - logprobs)).sum(-1).mean()

    def states(self, window):
        """What enters each block, and the model's logits."""
        torch, states = self.torch, []
        hooks = [block.register_forward_pre_hook(
            lambda _, args, kwargs: states.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True)
            for block in self.blocks]
        with torch.no_grad():
            logits = self.model(torch.tensor([window], device=self.device), use_cache=False).logits
        for hook in hooks:
            hook.remove()
        return states, logits

    def step(self, windows):
        for window in windows:
            states, logits = self.states(window)
            final_logprobs = logits.log_softmax(-1)
            for hidden, translator in zip(states, self.lens):
                loss = self.layer_loss(hidden, translator.weight, translator.bias, final_logprobs)
                (loss / len(windows)).backward()
        self.torch.nn.utils.clip_grad_norm_(self.lens.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)
        self.schedule.step()

    def wait(self):
        if self.device.type == "cuda":
            self.torch.cuda.synchronize(self.device)

    def save(self, folder):
        """As the tuned-lens package does."""
        folder.mkdir(parents=True)
        self.torch.save(self.lens.cpu().state_dict(), folder / "params.pt")
        config = self.model.config
        (folder / "config.json").write_text(json.dumps({
            "base_model_name_or_path": "peer", "d_model": config.hidden_size,
            "num_hidden_layers": config.num_hidden_layers, "bias": True, "base_model_revision": None,
            "unembed_hash": None, "lens_type": "linear_tuned_lens"}))


def serve(options):
    """A peer in a process of its own: a step for each line on stdin, its seconds on stdout, at the end its memory."""
    import torch
    from transformers import AutoTokenizer

    torch.set_num_threads(options.threads)
    count = options.tokens // options.length
    try:
        tokenizer = AutoTokenizer.from_pretrained(options.model)
        windows = windows_of(tokenizer, options.text.read_text("utf8"), options.length, count)
    except Exception:  # a tokenizer that transformers cannot load here: a step takes as long on any tokens
        windows = torch.randint(10000, (count, options.length)).tolist()
    peer = Peer(options.model, options.serve, 1000, options.device)
    peer.step(windows)  # compiles
    peer.wait()
    print("ready", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        peer.step(windows)
        peer.wait()
        print(time.perf_counter() - started, flush=True)
    print(torch.cuda.max_memory_allocated() if options.device != "cpu" else
          resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def ours(options, folder, steps, *flags):
    """Seconds of the steps alone, and the peak of memory."""
    measured = run(["train-lens", "--model", options.model, "--input", options.text, "--out", folder, "--overwrite",
                    "--steps", steps, "--tokens-per-step", options.tokens, "--max-length", options.length,
                    "--threads", options.threads, "--device", options.device, "--checkpoint-every", 0, "--quiet", "--add-bos", "no", *flags])
    record = json.loads((Path(folder) / "training.json").read_text())
    return record["volatile"]["training_seconds"], measured.peak_bytes


def speed(options):
    arguments = [sys.executable, __file__, "--model", options.model, "--text", options.text, "--tokens", options.tokens,
                 "--length", options.length, "--threads", options.threads, "--device", options.device]
    peers = {way: subprocess.Popen(list(map(str, [*arguments, "--serve", way])), stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True) for way in options.ways}
    for way, peer in peers.items():
        if peer.stdout.readline().strip() != "ready":
            raise SystemExit(f"the peer '{way}' ended")
    # On a card a step is short beside the first one, in which things get ready: two lengths, of which the difference counts.
    few, many = (2, 12) if options.device != "cpu" else (0, 2)
    seconds, peaks = {way: [] for way in options.ways}, {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            for way, peer in peers.items():
                peer.stdin.write("\n")
                peer.stdin.flush()
                seconds[way].append(float(peer.stdout.readline()))
            for name, flags in (("depthlens", ()), ("depthlens bfloat16", ("--dtype", "bfloat16")),
                                ("depthlens float32", ("--dtype", "float32"))):
                whole = ("--validation-tokens", 0, "--epochs", 1000, *flags)
                first = ours(options, folder, few, *whole)[0] if few else 0
                taken, peaks[name] = ours(options, folder, many, *whole)
                seconds.setdefault(name, []).append((taken - first) / (many - few))
    for way, peer in peers.items():
        peer.stdin.close()
        peaks[way] = int(peer.stdout.read().split()[-1])
        peer.wait()

    def peak_of(way):
        # On a card the peers tell what they took of its memory, which depthlens does not.
        return "" if options.device != "cpu" and way not in peers else f"{peaks[way] / GIB:.2f}"

    print(f"{machine(options.device)}; {options.tokens} tokens a step in windows of {options.length}, {options.threads} threads")
    print()
    print_table(["", "seconds a step, minimum", "median", "peak, GiB"],
                [[way, f"{min(values):.4f}", f"{statistics.median(values):.4f}", peak_of(way)] for way, values in seconds.items()],
                options.markdown)


def quality(options):
    import torch
    from transformers import AutoTokenizer

    torch.set_num_threads(options.threads)
    text = options.text.read_text("utf8")
    cut = text.find("\n\n", len(text) * 9 // 10)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "train.txt").write_text(text[:cut], "utf8")
        (folder / "held_out.txt").write_text(text[cut:][:100_000], "utf8")
        options.text = folder / "train.txt"
        per_step = options.tokens // options.length
        windows = windows_of(AutoTokenizer.from_pretrained(options.model), text[:cut], options.length,
                             per_step * options.steps)
        peer = Peer(options.model, "float32", options.steps, options.device)
        for step in range(options.steps):
            peer.step(windows[step * per_step : (step + 1) * per_step])
        peer.save(folder / "peer")
        ours(options, folder / "ours", options.steps)
        ours(options, folder / "ours32", options.steps, "--dtype", "float32")
        subprocess.run([str(PROGRAM), "analyze", "--model", str(options.model), "--input", folder / "held_out.txt",
                        "--out", folder / "out", "--records", "none", "--experiment", "trajectory", "--add-bos", "no",
                        "--lens", "logit", *[part for name in ("peer", "ours", "ours32")
                                             for part in ("--lens", f"{name}=tuned:{folder / name}")]], check=True)
        table = json.loads((folder / "out" / "summary.json").read_text())["tables"]["lens.quality"]
        kl = {(row[0], row[1]): row[table["columns"].index("kl_final")] for row in table["rows"]}
    layers = max(layer for _, layer in kl)
    print(f"{options.steps} steps of {options.tokens} tokens; KL(final || layer) on held-out text, nats")
    print(f"{'layer':>5}{'logit':>10}{'peer':>10}{'depthlens':>12}{'float32':>10}{'depthlens / peer':>18}")
    for layer in range(layers):
        values = [kl[name, layer] for name in ("logit", "peer", "ours", "ours32")]
        print(f"{layer:5}{values[0]:10.4f}{values[1]:10.4f}{values[2]:12.4f}{values[3]:10.4f}"
              f"{values[2] / values[1]:18.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=1024, help="tokens of a step")
    parser.add_argument("--length", type=int, default=512, help="tokens of a window")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--quality", action="store_true")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--serve", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tokens % options.length:
        parser.error("--tokens of a step must be a multiple of --length: peers take whole windows")
    if options.serve:
        serve(options)
    elif options.quality:
        quality(options)
    else:
        speed(options)


if __name__ == "__main__":
    main()
