#!/usr/bin/env python3
"""What depthlens is measured against: PyTorch and transformers making the same numbers. Started by analyze.py.

    peers.py --model FOLDER --way WAY [--chunk 256] [--threads N] [--device cuda]

Says "ready" when the model is loaded. Then reads one JSON request a line from stdin, {"windows": [[id …] …]}, and answers each with
one line: seconds, peak memory (on a card: what torch took of its memory), and the means over positions of what depthlens writes to
lens.quality. The model stays loaded, and what is compiled stays compiled. On a card nothing waits for it but the end of a request,
which is waited for before the clock is stopped.

The ways: `eager` and `compiled` (the statistics through torch.compile), each in float32, bfloat16 (`eager-bf16`,
`compiled-bf16`) and, on cards, float32 with TF32 products (`compiled-tf32`, which PyTorch leaves off), decode the positions in chunks, so that memory stays bounded: per layer one product with the
unembedding, then ten best tokens, ranks and log-probabilities of the final guess and of the target, entropy and both
divergences. `sorted` is how scripts for single prompts do it: one prompt at a time, its last position, the whole
vocabulary sorted at every layer. `trajectory` is the tuned-lens package's PredictionTrajectory, one window at a time, with
its entropy, divergence, cross-entropy and ranks of the targets; it needs the packages tuned-lens and plotly.
"""

import argparse
import json
import os
import resource
import sys
import time

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

TOP_K = 10
WAYS = ("eager", "compiled", "eager-bf16", "compiled-bf16", "compiled-tf32", "sorted", "trajectory")
CHUNK = {"cpu": 256, "cuda": 2048}


def row_dot(a, b):
    """Σ_v a(v) b(v) of each row, without an array for the products."""
    return torch.linalg.vecdot(a, b)


def final_statistics(logits):
    """What the divergences need of the final layer; [P, V]."""
    logits = logits.float()
    log_p = torch.log_softmax(logits, -1)
    p = log_p.exp()
    return logits.argmax(-1), log_p, p, row_dot(p, log_p)


def eager_statistics(logits, watched, final_log_p, final_p, final_mean_log_p):
    """Of one layer: everything but the ten best. logits [P, V], watched [P, 2]."""
    logits = logits.float()
    own = logits.gather(1, watched)
    ranks = torch.stack([(logits > own[:, w, None]).sum(-1) + 1 for w in range(2)], 1)
    log_p = torch.log_softmax(logits, -1)
    kl_final = final_mean_log_p - row_dot(final_p, log_p)
    p = log_p.exp()
    mean_log_p = row_dot(p, log_p)
    return ranks, log_p.gather(1, watched), -mean_log_p, kl_final, mean_log_p - row_dot(p, final_log_p)


def fusible_statistics(logits, watched, final_log_p, final_p, final_mean_log_p):
    """The same as sums that a compiler can fuse into few passes over the logits."""
    logits = logits.float()
    own = logits.gather(1, watched)
    first = (logits > own[:, 0, None]).sum(-1) + 1
    second = (logits > own[:, 1, None]).sum(-1) + 1
    greatest = logits.amax(-1, keepdim=True)
    shifted = logits - greatest
    exponential = shifted.exp()
    total = exponential.sum(-1)
    log_total = total.log()
    mean_log_p = (exponential * shifted).sum(-1) / total - log_total
    kl_final = final_mean_log_p - ((final_p * shifted).sum(-1) - log_total)
    kl_reverse = mean_log_p - (exponential * final_log_p).sum(-1) / total
    return (torch.stack([first, second], 1), own - greatest - log_total[:, None], -mean_log_p, kl_final, kl_reverse)


class Peer:
    def __init__(self, folder, way, chunk, device):
        self.way, self.device = way, torch.device(device)
        self.chunk = chunk or CHUNK[self.device.type]
        dtype = torch.bfloat16 if way.endswith("bf16") else torch.float32
        torch.backends.cuda.matmul.allow_tf32 = way.endswith("tf32")
        # Converted where it is quick.
        config = AutoConfig.from_pretrained(folder)
        self.cap = getattr(config, "final_logit_softcapping", None)
        capped = getattr(config, "attn_logit_softcapping", None)  # which sdpa has not
        self.model = AutoModelForCausalLM.from_pretrained(
            folder, dtype="auto", attn_implementation="eager" if capped else "sdpa").eval()
        self.model.to(self.device).to(dtype)
        self.base = self.model.base_model
        self.norm = self.base.final_layer_norm if hasattr(self.base, "final_layer_norm") else self.base.norm
        self.head = self.model.get_output_embeddings()
        self.num_layers = self.model.config.num_hidden_layers
        self.statistics, self.final_statistics = eager_statistics, final_statistics
        if way.startswith("compiled"):
            self.statistics = torch.compile(fusible_statistics, dynamic=False)
            self.final_statistics = torch.compile(final_statistics, dynamic=False)

    def logits(self, states):
        logits = self.head(states)
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)

    def states(self, windows):
        """[tokens, d] of each layer, the last one normed; windows of one length make one batch."""
        ids = torch.tensor(windows, device=self.device)
        hidden = self.base(ids, output_hidden_states=True, use_cache=False).hidden_states
        return [state.flatten(0, 1) for state in hidden]

    def batches(self, windows, most=4096):
        batch = []
        for window in windows:
            if batch and (len(batch[0]) != len(window) or (len(batch) + 1) * len(window) > most):
                yield batch
                batch = []
            batch.append(window)
        yield batch

    def run(self, windows):
        totals = torch.zeros(self.num_layers + 1, 5, dtype=torch.float64, device=self.device)
        num_positions = num_targets = 0
        for batch in self.batches(windows):
            states = self.states(batch)
            targets = torch.tensor([[*window[1:], -1] for window in batch], device=self.device).flatten()
            for first in range(0, len(targets), self.chunk):
                part = [state[first:first + self.chunk] for state in states]
                count = len(part[0])
                totals += self.decode(part, targets[first:first + self.chunk], count)
                num_positions += count
            num_targets += sum(len(window) - 1 for window in batch)
        totals[:, :4] /= num_positions
        totals[:, 4] /= num_targets
        return totals

    def decode(self, states, targets, count):
        if count < self.chunk:  # compiled code is for one shape
            states = [torch.cat([state, state.new_zeros(self.chunk - count, state.shape[1])]) for state in states]
            targets = torch.cat([targets, targets.new_full((self.chunk - count,), -1)])
        final_logits = self.logits(states[-1])
        final_ids, *final = self.final_statistics(final_logits)
        watched = torch.stack([final_ids, targets.clamp(min=0)], 1)
        totals = torch.empty(len(states), 5, dtype=torch.float64, device=self.device)
        has_target = (targets >= 0).double()
        for layer, state in enumerate(states):
            logits = final_logits if layer == self.num_layers else self.logits(self.norm(state))
            best = logits.topk(TOP_K)
            ranks, log_p, entropy, kl_final, kl_reverse = self.statistics(logits, watched, *final)
            best.values.float() + (log_p[:, :1] - logits.gather(1, watched[:, :1]))  # their log-probabilities
            for column, value in enumerate((kl_final, kl_reverse, entropy, ranks[:, 0])):
                totals[layer, column] = value[:count].double().sum()
            totals[layer, 4] = -(log_p[:, 1].double() * has_target).sum()
        return totals

    def run_sorted(self, prompts):
        totals = torch.zeros(self.num_layers + 1, 5, dtype=torch.float64)
        for prompt in prompts:
            hidden = self.base(torch.tensor([prompt], device=self.device), output_hidden_states=True, use_cache=False).hidden_states
            log_final = torch.log_softmax(self.logits(hidden[-1][0, -1]), -1)
            final_id = int(log_final.argmax())
            for layer, state in enumerate(hidden):
                state = state[0, -1]
                logits = self.logits(state if layer == self.num_layers else self.norm(state))
                log_p = torch.log_softmax(logits, -1)
                p = log_p.exp()
                order = p.sort(descending=True).indices
                rank = int((order == final_id).nonzero()) + 1
                order[:TOP_K].tolist(), log_p[order[:TOP_K]].tolist()
                values = ((log_final.exp() * (log_final - log_p)).sum(), (p * (log_p - log_final)).sum(),
                          -(p * log_p).sum(), rank, 0)
                totals[layer] += torch.tensor([float(value) for value in values], dtype=torch.float64)
        return totals / len(prompts)

    def run_trajectory(self, windows):
        from tuned_lens.nn.lenses import LogitLens
        from tuned_lens.plotting.prediction_trajectory import PredictionTrajectory
        lens = LogitLens.from_model(self.model)
        totals = torch.zeros(self.num_layers + 1, 5, dtype=torch.float64)
        num_positions = num_targets = 0
        for window in windows:
            trajectory = PredictionTrajectory.from_lens_and_model(lens, self.model, window,
                                                                  targets=[*window[1:], window[-1]])
            trajectory.rank()
            num_positions += len(window)
            num_targets += len(window) - 1
            for column, statistic in ((0, trajectory.forward_kl()), (2, trajectory.entropy())):
                totals[:, column] += torch.from_numpy(statistic.stats).double().sum(-1)
            totals[:, 4] += torch.from_numpy(trajectory.cross_entropy().stats)[:, :-1].double().sum(-1)
        totals[:, :4] /= num_positions
        totals[:, 4] /= num_targets
        return totals

    @torch.inference_mode()
    def answer(self, windows):
        started, started_cpu = time.perf_counter(), time.process_time()
        run = {"sorted": self.run_sorted, "trajectory": self.run_trajectory}.get(self.way, self.run)
        means = run(windows)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            peak = torch.cuda.max_memory_allocated(self.device)
        return {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - started_cpu,
                "means": means.tolist(), "peak_bytes": peak}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--way", choices=WAYS, required=True)
    parser.add_argument("--chunk", type=int, help=f"positions that are decoded at once; default: {CHUNK}")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    disable_progress_bar()
    torch.set_num_threads(options.threads)
    peer = Peer(options.model, options.way, options.chunk, options.device)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(peer.answer(json.loads(line)["windows"])), flush=True)


if __name__ == "__main__":
    main()
