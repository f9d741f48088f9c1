"""Peak extra memory and time of the fused output layer: 152,000 words, 80,000 tokens, forward and backward on the CPU.

    OMP_NUM_THREADS=1 python -m benchmarks.output_layer_memory                  # hidden 64, float32
    OMP_NUM_THREADS=1 python -m benchmarks.output_layer_memory --dtype bfloat16 --tokens 4000

Resident memory is sampled every 10 ms; `extra` is its peak less what is resident before the call, less the two gradients that
any method has to return. Naive logits alone would take tokens x words x 4 bytes.
"""

import argparse
import threading
import time
from pathlib import Path

import torch

from trainers.token_logprobs import token_logprobs

PAGE = 4096


def resident_bytes() -> int:
    """Resident set of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


class PeakMemory:
    """Samples the resident set in a thread until it is left; `peak` is the most it saw, bytes."""

    def __enter__(self) -> "PeakMemory":
        self.peak = resident_bytes()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self.peak = max(self.peak, resident_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=80_000)
    parser.add_argument("--words", type=int, default=152_000)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    dtype = getattr(torch, arguments.dtype)
    hidden = torch.randn(arguments.tokens, arguments.hidden).to(dtype).requires_grad_()
    weight = (torch.randn(arguments.words, arguments.hidden) * 0.1).to(dtype).requires_grad_()
    targets = torch.randint(0, arguments.words, (arguments.tokens,))
    token_logprobs(hidden[:2], targets[:2], weight).sum().backward()  # warm up: thread pools, libraries
    hidden.grad = weight.grad = None
    before = resident_bytes()
    began, began_cpu = time.perf_counter(), time.process_time()
    with PeakMemory() as memory:
        token_logprobs(hidden, targets, weight).mean().backward()
    wall, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    peak = memory.peak - before
    gradients = hidden.grad.nbytes + weight.grad.nbytes
    naive = arguments.tokens * arguments.words * 4
    print(
        f"{arguments.tokens:,} tokens x {arguments.words:,} words, hidden {arguments.hidden}, {arguments.dtype}: "
        f"peak {peak / 2**20:,.0f} MiB above before, {(peak - gradients) / 2**20:,.0f} MiB extra "
        f"beside {gradients / 2**20:,.0f} MiB of gradients; one float32 logits tensor would be {naive / 2**30:,.1f} GiB; "
        f"{wall:.0f} s wall, {cpu:.0f} CPU-s"
    )


if __name__ == "__main__":
    main()
