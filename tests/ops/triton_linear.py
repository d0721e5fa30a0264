"""Tests of the batch-invariant layers in Triton, for a process of their own: `test_triton_linear.py` starts one with the interpreter.

On a machine with a GPU `python -m pytest tests/ops/triton_linear.py` runs the same cases there.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from editscore_kernels import BackendError, _triton
from editscore_kernels._triton import invariant_linear as kernel
from editscore_kernels._triton import rms_norm as norm_kernel
from editscore_kernels.invariant_linear import invariant_linear
from editscore_kernels.reference.rms_norm import rms_norm as norm_reference
from editscore_kernels.rms_norm import rms_norm
from tile_products import rows_of_a_tile_are_alike

__all__ = ["rows_of_a_tile_are_alike"]
pytestmark = pytest.mark.usefixtures("rows_of_a_tile_are_alike")

DEVICE = torch.device("cpu" if _triton.is_interpreted() else "cuda")
EPSILON = {torch.float32: 2.0**-23, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
DTYPES = list(EPSILON)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    return invariant_linear(x.to(DEVICE), weight.to(DEVICE), None if bias is None else bias.to(DEVICE), backend="triton").cpu()


def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return rms_norm(x.to(DEVICE), weight.to(DEVICE), 1e-6, backend="triton").cpu()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 33, 64), (63, 130, 96), (70, 64, 777), (1, 1, 1), (5, 1009, 20)], ids=str)
@pytest.mark.parametrize("has_bias", [False, True])
def test_linear_is_the_formula(shape: tuple[int, int, int], has_bias: bool, dtype: torch.dtype) -> None:
    """The law: at most twice torch's own error in the same dtype, plus the rounding of one result."""
    m, n, k = shape
    x, weight, bias = (random(*size, seed=i).to(dtype) for i, size in enumerate(((m, k), (n, k), (n,))))
    arguments = (x, weight, bias if has_bias else None)
    gold = F.linear(*(None if a is None else a.double() for a in arguments))  # type: ignore[arg-type]
    limit = 2 * (F.linear(*arguments).double() - gold).abs().max() + EPSILON[dtype] * (1 + gold.abs().max())  # type: ignore[arg-type]
    got = linear(*arguments)
    assert got.dtype == dtype and got.shape == (m, n)
    assert (got.double() - gold).abs().max() <= limit


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("columns", [130, kernel.WIDE_COLUMNS])
def test_a_row_is_the_same_in_any_company(columns: int, dtype: torch.dtype) -> None:
    """Any number of rows, any place in a tile and among tiles, any neighbours: the same bits. The width is no multiple of a block's."""
    x, weight, bias = random(150, 72).to(dtype), random(columns, 72, seed=1).to(dtype), random(columns, seed=2).to(dtype)
    together = linear(x, weight, bias)
    parts = [[0], [149], [64], range(63), range(60, 130)]
    for rows in (list(part) for part in (parts if columns < 1000 else parts[1:2])):
        assert torch.equal(linear(x[rows], weight, bias), together[rows])
    if columns < 1000:
        order = torch.randperm(150, generator=torch.Generator().manual_seed(3))
        assert torch.equal(linear(x[order], weight, bias), together[order])
        louder = torch.cat([x[:1], 1e3 * random(90, 72, seed=4).to(dtype)])
        assert torch.equal(linear(louder, weight, bias)[0], together[0])


def test_linear_edges() -> None:
    """No rows, no columns, leading dimensions, strided and misaligned rows, a neighbour of NaN."""
    x, weight = random(40, 24), random(10, 24, seed=1)
    whole = linear(x, weight)
    assert linear(x[:0], weight).shape == (0, 10) and linear(x, weight[:0]).shape == (40, 0)
    assert torch.equal(linear(x.view(5, 8, 24), weight), whole.view(5, 8, 10))
    assert torch.equal(linear(x.t().contiguous().t(), weight), whole)
    shifted = torch.empty(40 * 24 + 1)[1:].view(40, 24).copy_(x)
    assert torch.equal(linear(shifted, weight), whole)
    x[7] = torch.nan
    got = linear(x, weight)
    assert got[7].isnan().all() and torch.equal(got[8:], whole[8:]) and torch.equal(got[:7], whole[:7])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [1, 128, 777, 3584])
def test_norm_is_the_formula_and_knows_no_neighbours(width: int, dtype: torch.dtype) -> None:
    x, weight = (3 * random(9, width)).to(dtype), (1 + random(width, seed=1) / 4).to(dtype)
    gold = norm_reference(x.double(), weight.double(), 1e-6)
    limit = 2 * (norm_reference(x, weight, 1e-6).double() - gold).abs().max() + EPSILON[dtype] * (1 + gold.abs().max())
    got = norm(x, weight)
    assert (got.double() - gold).abs().max() <= limit
    for rows in ([4], [8, 0], list(range(8))):
        assert torch.equal(norm(x[rows], weight), got[rows])
    assert torch.equal(norm(x.view(3, 3, width), weight), got.view(3, 3, width))
    assert norm(x[:0], weight).shape == (0, width)


def test_the_number_of_rows_chooses_nothing() -> None:
    """What could make two batches run other machine code: the configuration, and the arguments that Triton compiles for."""
    assert kernel.config_of(torch.bfloat16, 3584) is kernel.CONFIGS[True, False]
    assert kernel.config_of(torch.bfloat16, 152_064) is kernel.CONFIGS[True, True]
    if not _triton.is_interpreted():
        (rows,) = (p for p in kernel._invariant_linear_fwd_kernel.params if p.name == "num_rows")
        assert rows.do_not_specialize


def test_what_it_cannot_do_it_says() -> None:
    x = torch.zeros(1, 4, dtype=torch.float64)
    assert kernel.why_not(x, x, None) == "x of torch.float64: the reference only"
    assert kernel.why_not(torch.zeros(1, 4, device="meta"), x, None) == "x is on meta"
    assert norm_kernel.why_not(torch.zeros(1, 20_000), x, 0.0) == "rows of 20000 numbers are longer than 16384"
    with pytest.raises(BackendError, match="float64: the reference only"):
        linear(x, x)
