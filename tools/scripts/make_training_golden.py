#!/usr/bin/env python3
"""Writes tests/golden/training: ten steps of lens training on tiny checkpoints, in float64 with PyTorch's own autograd
and optimizers.

    make_training_golden.py [--out tests/golden/training]

Needs what make_golden.py needs, and the checkpoints that it made. Each file NAME.safetensors holds the windows, and what
follows from them:

    windows           I64 [steps, windows, T]   tokens; every step sees windows of its own
    loss              F64 [steps, L]            mean before the step: KL(final || layer), or cross-entropy
    gradient_norm     F64 [steps]               of all layers together, before it is clipped
    weights, biases   F32 [L, d, d], [L, d]     after the last step

The lens is h + W h + b, zeros at first, decoded by the model's own norm and unembedding. Muon is written out here: PyTorch
has none of its own with these constants.
"""

import argparse
from pathlib import Path

import torch
from transformers.utils.logging import disable_progress_bar

from make_golden import Float64Arithmetic, blocks_and_final_norm, load_float64, states_and_logits, write_safetensors

STEPS, WINDOWS, LENGTH = 10, 3, 12

# name: checkpoint, optimizer, loss, damping (tokens, factor, mode)
RUNS = {
    "sgd-kl": ("gpt2", "sgd", "kl", None),
    "adam-ce": ("llama-gqa-sharded", "adam", "ce", None),
    "muon-kl": ("neox-parallel", "muon", "kl", None),
    "sgd-kl-damped": ("llama-gqa-sharded", "sgd", "kl", ([1, 4, 9], 0.001, "position")),
}


def orthogonalised(x):
    y = x / x.norm()
    for _ in range(5):
        square = y @ y.T
        y = 3.4445 * y + (-4.7750 * square + 2.0315 * square @ square) @ y
    return y


class Muon(torch.optim.Optimizer):
    def __init__(self, weights, lr, momentum, weight_decay):
        super().__init__(weights, {"lr": lr})
        self.momentum, self.weight_decay = momentum, weight_decay

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state.setdefault(weight, {"momentum": torch.zeros_like(weight)})
                state["momentum"].lerp_(weight.grad, 1 - self.momentum)
                update = weight.grad.lerp(state["momentum"], self.momentum)
                weight.mul_(1 - group["lr"] * self.weight_decay)
                for matrix, change in zip(weight, update):
                    matrix.sub_(group["lr"] * orthogonalised(change))


def optimizers(kind, weights, biases):
    if kind == "sgd":
        return [torch.optim.SGD([weights, biases], lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)], 0
    if kind == "adam":
        return [torch.optim.Adam([weights, biases], lr=1e-3, weight_decay=1e-3, amsgrad=True)], STEPS // 5
    return [Muon([weights], 1e-2, 0.95, 1e-3), torch.optim.AdamW([biases], lr=1e-3, weight_decay=1e-3)], 0


def train(folder, kind, loss_kind, damping):
    generator = torch.Generator().manual_seed(20)
    model = load_float64(folder)
    _, norm = blocks_and_final_norm(model)
    head = model.get_output_embeddings()
    num_layers, d, vocab_size = model.config.num_hidden_layers, model.config.hidden_size, model.config.vocab_size
    windows = torch.randint(vocab_size, (STEPS, WINDOWS, LENGTH), generator=generator)
    weights = torch.zeros(num_layers, d, d, dtype=torch.float64, requires_grad=True)
    biases = torch.zeros(num_layers, d, dtype=torch.float64, requires_grad=True)
    rules, warmup = optimizers(kind, weights, biases)
    rates = [rule.param_groups[0]["lr"] for rule in rules]
    losses, norms = [], []
    for step in range(STEPS):
        scale = (step + 1) / (warmup + 1) if step < warmup else (STEPS - step) / (STEPS - warmup)
        for rule, rate in zip(rules, rates):
            rule.param_groups[0]["lr"] = rate * scale
        total, reported, positions = 0, torch.zeros(num_layers, dtype=torch.float64), 0
        for window in windows[step]:
            states, logits = states_and_logits(model, window)
            logprobs = logits.log_softmax(-1)
            weight = torch.ones(LENGTH, dtype=torch.float64)
            if damping is not None:
                tokens, factor, _ = damping
                weight[torch.isin(logits.argmax(-1), torch.tensor(tokens))] = factor
            for layer in range(num_layers):
                h = states[layer]
                layer_logprobs = head(norm(h + h @ weights[layer].T + biases[layer])).log_softmax(-1)
                if loss_kind == "kl":
                    loss = (logprobs.exp() * (logprobs - layer_logprobs)).sum(-1)
                else:
                    loss = -layer_logprobs[:-1].gather(1, window[1:, None])[:, 0]
                total = total + (loss * weight[: len(loss)]).sum()
                reported[layer] += loss.detach().sum()
            positions += len(loss)
        gradients = torch.autograd.grad(total / positions, [weights, biases])
        weights.grad, biases.grad = gradients
        norms.append(torch.nn.utils.clip_grad_norm_([weights, biases], 1.0))
        losses.append(reported / positions)
        for rule in rules:
            rule.step()
    return {
        "windows": windows,
        "loss": torch.stack(losses),
        "gradient_norm": torch.stack(norms),
        "weights": weights.detach().float(),
        "biases": biases.detach().float(),
    }


def main():
    golden = Path(__file__).resolve().parents[2] / "tests" / "golden"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=golden / "training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bar()
    options.out.mkdir(exist_ok=True)
    for name, (checkpoint, *settings) in RUNS.items():
        with Float64Arithmetic():
            tensors = train(golden / "models" / checkpoint, *settings)
        write_safetensors(options.out / f"{name}.safetensors", tensors)
        print(name, "mean loss", tensors["loss"][0].mean().item(), "to", tensors["loss"][-1].mean().item(),
              "norms", tensors["gradient_norm"][[0, -1]].tolist())


if __name__ == "__main__":
    main()
