"""The CUDA sampler's host twin as a backend: inside `twin_backend(...)`, `sample_tokens(..., backend="cuda")` runs the kernel's source on
the CPU, so that every test written for a backend can be run on it."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch
from editscore_kernels import sample_tokens
from editscore_kernels._dispatch import Candidate, OpTable
from editscore_kernels._native_cuda import call_sampler
from twin_module import load_twin

OP = sys.modules[sample_tokens.__module__]  # the package exports the function under the module's name


class Twin:
    """Runs rows on the twin with fixed options (seed of the schedule, mutant, warps) and keeps the counters of its last launch."""

    def __init__(self, **options: Any) -> None:
        self.module = load_twin("sample_tokens")
        self.num_warps = options.pop("num_warps", self.module.few_warps)
        self.options = options
        self.stats: Any = None

    def __call__(self, *arguments: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        def launch(*numbers: int) -> None:
            self.stats = self.module.sample_tokens(*numbers, **self.options)

        return call_sampler(launch, *arguments, extra=(self.num_warps,))


@contextlib.contextmanager
def twin_backend(**options: Any) -> Iterator[Twin]:
    """Seats the twin as the backend "cuda"."""
    twin, before = Twin(**options), OP.TABLE
    seated = Candidate("cuda", lambda: None, lambda *arguments: None, twin)
    OP.TABLE = OpTable(before.op, tuple(seated if seat.backend == "cuda" else seat for seat in before.candidates))
    try:
        yield twin
    finally:
        OP.TABLE = before
