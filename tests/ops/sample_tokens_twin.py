"""The CUDA sampler's host twin as a backend: inside `twin_backend(...)`, `sample_tokens(..., backend="cuda")` runs the kernel's source on
the CPU, so that every test written for a backend can be run on it."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch
from editscore_kernels import sample_tokens
from editscore_kernels._dispatch import Candidate, OpTable
from twin_module import load_twin

LOGIT_TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
OP = sys.modules[sample_tokens.__module__]  # the package exports the function under the module's name
KEYS = ("temperature", "top_k", "top_p", "seed", "request", "position")


class Twin:
    """Runs rows on the twin with fixed options (seed of the schedule, mutant, warps) and keeps the counters of its last launch."""

    def __init__(self, **options: Any) -> None:
        self.module = load_twin("sample_tokens")
        self.num_warps = options.pop("num_warps", self.module.few_warps)
        self.options = options
        self.stats: Any = None

    def __call__(self, logits: torch.Tensor, *rest: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        *columns, mask, option_ids = rest
        logits = logits if logits.stride(1) == 1 or logits.shape[1] == 1 else logits.contiguous()
        if mask is not None and mask.stride(1) != 1 and mask.shape[1] > 1:
            mask = mask.contiguous()
        rows, num_options = len(logits), 0 if option_ids is None else option_ids.shape[1]
        token, status = torch.full((rows,), -7), torch.full((rows,), -7, dtype=torch.int32)
        raw, filtered, options = torch.full((rows,), 7.0), torch.full((rows,), 7.0), torch.full((rows, num_options), 7.0)
        self.stats = self.module.sample_tokens(
            *(logits.data_ptr(), LOGIT_TYPES[logits.dtype], rows, logits.shape[1], logits.stride(0)),
            *(column.data_ptr() for column in columns if column is not None),
            *((0, 0, 0) if mask is None else (mask.data_ptr(), mask.shape[1], mask.stride(0))),
            *(0 if option_ids is None else option_ids.data_ptr(), num_options),
            *(result.data_ptr() for result in (token, raw, filtered, status, options)),
            self.num_warps,
            **self.options,
        )
        return token, raw, filtered, status, options


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
