"""Tests of the Triton `gated_activation`, for a process of their own: `test_triton_activation.py` starts one with the interpreter.

On a machine with a GPU `python -m pytest tests/ops/triton_activation.py` runs the same cases there.
"""

from __future__ import annotations

import pytest
import torch
from activation_cases import DTYPES, KINDS, margin, random_input
from editscore_kernels import _triton, explain
from editscore_kernels import gated_activation as op
from editscore_kernels._triton import gated_activation as kernel
from editscore_kernels.reference.gated_activation import gated_activation as reference
from torch import Tensor

DEVICE = torch.device("cpu" if _triton.is_interpreted() else "cuda")


def run(x: Tensor, up: Tensor | None, kind: str) -> Tensor:
    x, up = x.to(DEVICE), None if up is None else up.to(DEVICE)
    assert kernel.why_not(x, up, kind) is None
    return kernel.gated_activation(x, up, kind).cpu()


def same(got: Tensor, expected: Tensor) -> bool:
    """Bit for bit, but for which NaN a NaN is."""
    integers = torch.int32 if got.dtype == torch.float32 else torch.int16
    return bool(((got.view(integers) == expected.view(integers)) | (got.isnan() & expected.isnan())).all())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_formula_and_has_the_bits_of_the_cpu(kind: str, dtype: torch.dtype) -> None:
    """Rows longer than a program's stretch, odd widths, halves of one matrix, a last dimension of another stride."""
    has_cpu = dict(explain("gated_activation"))["cpu"] == "yes"
    for width in (1, 777, 1009, 2500):
        x, up = torch.cat(random_input(3, width, dtype, seed=width), dim=1).chunk(2, dim=1)
        turned = x.t().contiguous().t()
        for gate in (up, None):
            got = run(x, gate, kind)
            assert got.dtype == dtype
            assert got.is_contiguous()
            gold = reference(x.double(), None if gate is None else gate.double(), kind)
            assert bool(((got.double() - gold).abs() <= margin(gold, kind, dtype, is_gated=gate is not None)).all())
            assert same(run(turned, gate, kind), got)
            if has_cpu:
                assert same(got, op(x, gate, kind=kind, backend="cpu"))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of infinities in the interpreter
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_any_bits(kind: str, dtype: torch.dtype) -> None:
    """NaN, infinities, subnormals: those of the C++; and empty input. The interpreter misreads subnormals of bfloat16: left out there."""
    integers = torch.int32 if dtype == torch.float32 else torch.int16
    info = torch.iinfo(integers)
    generator = torch.Generator().manual_seed(0)
    x, up = torch.randint(info.min, info.max + 1, (2, 2, 3000), generator=generator).to(integers).view(dtype)
    x[0, :4] = torch.tensor([torch.inf, -torch.inf, torch.nan, -0.0])
    if dict(explain("gated_activation"))["cpu"] == "yes":
        act, expected = (op(x, gate, kind=kind, backend="cpu") for gate in (None, up))
        got = run(x, up, kind)
        if dtype == torch.bfloat16:
            small = [(each != 0) & (each.abs() < torch.finfo(dtype).smallest_normal) for each in (x, up, act, expected)]
            got = torch.where(torch.stack(small).any(dim=0), expected, got)
        assert same(got, expected)
    for shape in ((0, 5), (5, 0)):
        assert run(torch.zeros(shape, dtype=dtype), None, kind).shape == shape


def test_what_it_cannot_do_it_says() -> None:
    assert kernel.why_not(torch.zeros(1, 1, dtype=torch.float64), None, "silu") == "x of torch.float64: the reference only"
    wide = torch.zeros(1, 1, device="meta").expand(1, kernel.MAX_WIDTH + 1)
    assert "columns" in (kernel.why_not(wide, None, "silu") or "")
    assert kernel.why_not(torch.zeros(1, 1, device="meta"), None, "silu") == "x is on meta"
