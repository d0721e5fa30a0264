"""`rms_norm` against what transformers' classes compute it with.

    python -m benchmarks.ops.bench_rms_norm [--rounds 5] [--threads 1 2] [--no-save]

Cases: rows x width of a language model's norm (192 samples decoding, a prefill of 2,048 tokens), the norm of single heads, and one row of
16, which shows what a call costs. `torch`: float32, squares, mean, rsqrt, two products. `roof`: one copy of as many bytes as x has.
"""

import torch
from editscore_kernels import rms_norm
from torch import Tensor

from benchmarks.harness import Bench
from benchmarks.ops.cpu_op import DTYPES, compare, main

CASES = {"decode 192x896": (192, 896), "prefill 2048x896": (2048, 896), "heads 3072x128": (3072, 128), "call 1x16": (1, 16)}
# Against float64, in units of the result: two roundings of bfloat16, and for float32 the sum's last bits too.
TOLERANCE = {"bf16": 2.0**-7, "fp32": 1e-6}
EPSILON = 1e-6


def composed(x: Tensor, weight: Tensor) -> Tensor:
    """The norm in torch, one function after the other."""
    wide = x.float()
    return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + EPSILON)).to(x.dtype)


def check(out: Tensor, x: Tensor, weight: Tensor, label: str, tolerance: float) -> None:
    """Equal to the reference in float64 within rounding."""
    gold = rms_norm(x.double(), weight.double(), EPSILON, backend="reference")
    if not bool(((out.double() - gold).abs() <= tolerance * gold.abs()).all()):
        raise AssertionError(f"{label}: not the reference's numbers")


def run_case(bench: Bench, case: str, dtype: str, backend: str, rounds: int) -> None:
    """One case: equal to the reference, then timed."""
    rows, width = CASES[case]
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(*shape, generator=generator).to(DTYPES[dtype]) for shape in ((rows, width), (width,)))
    label = f"{case} {dtype}"
    check(rms_norm(x, weight, EPSILON, backend=backend), x, weight, label, TOLERANCE[dtype])  # type: ignore[arg-type]
    subjects = {
        backend: lambda: rms_norm(x, weight, EPSILON, backend=backend),  # type: ignore[arg-type]
        "torch": lambda: composed(x, weight),
    }
    compare(bench, label, backend, subjects, x.numel() * x.element_size(), rounds)


if __name__ == "__main__":
    main("rms_norm", __doc__, CASES, run_case)
