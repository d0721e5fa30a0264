"""The CUDA kernel of `gated_activation` on its host twin: the bits of the C++, nothing read or written elsewhere; bugs are noticed."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from activation_cases import DTYPES, KINDS, margin, random_input
from editscore_kernels import explain, gated_activation
from editscore_kernels._native import ELEMENT_TYPES
from editscore_kernels._native_activation import KINDS as KIND_NUMBERS
from editscore_kernels._native_cuda_activation import MAX_WIDTH, call_activation
from editscore_kernels.gated_activation import TABLE
from torch import Tensor
from twin_module import ROOT, load_twin

HAS_CPU = dict(explain("gated_activation"))["cpu"] == "yes"
# Whole vectors, a tail within one; two stretches of 512 bf16; elements one by one; nothing.
WIDTHS = (8, 520, 1009, 777, 1, 0)


def numbers(x: Tensor) -> int:
    """From the first element to the last, in elements."""
    return (len(x) - 1) * x.stride(0) + x.shape[1] if x.numel() else 0


def run_twin(x: Tensor, up: Tensor | None, kind: str, *, is_one_matrix: bool = False, **options: int) -> tuple[Tensor, Any]:
    """The result of the Python seat's call with the twin as its function, and the launch's counters."""
    twin, stats = load_twin("gated_activation"), []

    def launch(*arguments: int) -> None:
        stats.append(twin.gated_activation(*arguments, **options))

    gate_numbers = 0 if up is None or is_one_matrix else numbers(up)
    x_numbers = numbers(x) + (x.shape[1] if is_one_matrix else 0)
    return call_activation(launch, x, up, kind, x_numbers, gate_numbers), stats[0]


def same(got: Tensor, expected: Tensor) -> bool:
    """Bit for bit, but for which NaN a NaN is."""
    integers = torch.int32 if got.dtype == torch.float32 else torch.int16
    return bool(((got.view(integers) == expected.view(integers)) | (got.isnan() & expected.isnan())).all())


def expect(got: Tensor, x: Tensor, up: Tensor | None, kind: str) -> None:
    assert got.is_contiguous()
    gold = gated_activation(x.double(), None if up is None else up.double(), kind=kind, backend="reference")  # type: ignore[arg-type]
    assert bool(((got.double() - gold).abs() <= margin(gold, kind, x.dtype, is_gated=up is not None)).all())
    assert not HAS_CPU or same(got, gated_activation(x, up, kind=kind, backend="cpu"))  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_kernel_is_the_formula_and_has_the_bits_of_the_cpu(kind: str, dtype: torch.dtype, width: int) -> None:
    x, up = random_input(5, width, dtype)
    for gate in (up, None):
        if width:
            expect(run_twin(x, gate, kind, seed=width)[0], x, gate, kind)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_strided_rows(dtype: torch.dtype) -> None:
    """Halves of one matrix, rows of a wider one, rows that begin anywhere, one row for all, another stride within rows, no rows."""
    for width in (64, 72, 77):
        merged = torch.cat(random_input(5, width, dtype), dim=1)
        x, up = merged.chunk(2, dim=1)
        expect(run_twin(x, up, "silu", is_one_matrix=True)[0], x, up, "silu")
        wide_x, wide_up = (torch.cat((each, each), dim=1)[:, :width] for each in (x, up))
        expect(run_twin(wide_x, up.contiguous(), "gelu")[0], wide_x, up, "gelu")
        expect(run_twin(x.contiguous(), wide_up, "gelu")[0], x, wide_up, "gelu")
        late_x, late_up = (each.reshape(-1)[3 : 3 + 4 * width].view(4, width) for each in (x, up))
        expect(run_twin(late_x, late_up, "silu")[0], late_x, late_up, "silu")
        same_x = x[:1].contiguous().expand(4, -1)
        expect(run_twin(same_x, None, "silu")[0], same_x, None, "silu")
        turned = x.t().contiguous().t()
        got = call_activation(lambda *arguments: None, turned, None, "silu")
        assert got.is_contiguous(), "only the seat is asked here: it copies such rows"
    load_twin("gated_activation").gated_activation(0, 1, 0, 0, 0, 0, 64, 64, 64, 0, 0)


@pytest.mark.skipif(not HAS_CPU, reason="the compiled module is missing")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_any_bits(kind: str, dtype: torch.dtype) -> None:
    integers = torch.int32 if dtype == torch.float32 else torch.int16
    info = torch.iinfo(integers)
    x, up = torch.randint(info.min, info.max + 1, (2, 2, 3000), generator=torch.Generator().manual_seed(0)).to(integers).view(dtype)
    assert same(run_twin(x, up, kind)[0], gated_activation(x, up, kind=kind, backend="cpu"))  # type: ignore[arg-type]


def test_memory_is_read_in_whole_sectors() -> None:
    """Two bytes in, two bytes in, two bytes out, each 32-byte sector once."""
    x, up = random_input(4, 1024, torch.bfloat16)
    assert run_twin(x, up, "silu")[1].global_sectors == 3 * x.numel() * 2 // 32


@functools.cache
def cases() -> tuple[tuple[Tensor, Tensor | None, str], ...]:
    wide = torch.cat(random_input(3, 777, torch.float16, seed=1), dim=1)[:, :777]
    vectors, gate = random_input(3, 1032, torch.bfloat16)
    roomy = torch.cat((gate, gate), dim=1)[:, :1032]
    elements, element_gate = random_input(3, 777, torch.float16)
    return (
        (vectors, gate, "silu"),
        (vectors, roomy, "silu"),
        (roomy, gate, "gelu"),
        (wide, element_gate, "silu"),
        (elements, None, "silu"),
    )


def complaint(case: tuple[Tensor, Tensor | None, str], mutant: int) -> str | None:
    try:
        expect(run_twin(*case, mutant=mutant)[0], *case)
    except (load_twin("gated_activation").Fault, AssertionError) as error:
        return str(error) or "other numbers"
    return None


# 1, 10: a load's and a store's tail one step too far; 2, 5, 8: another's stride for x, up, out; 3: operands swapped; 4: rows without end;
# 6: not rounded before the product; 7: stretches that overlap; 9: the low half of a word twice.
@pytest.mark.parametrize("mutant", range(11))
def test_every_bug_is_noticed(mutant: int) -> None:
    noticed = [complaint(case, mutant) for case in cases()]
    assert any(noticed) == (mutant > 0), noticed


def test_every_bug_of_the_source_is_tried() -> None:
    source = Path(ROOT / "csrc" / "cuda" / "gated_activation.cuh").read_text()
    assert [n for n in range(1, 100) if f"mutant({n})" in source] == list(range(1, 11))


def test_tensors_of_the_cpu_are_told_why_not() -> None:
    cuda = next(candidate for candidate in TABLE.candidates if candidate.backend == "cuda")
    x = torch.zeros(1, 1)
    assert cuda.why_not(x, None, "silu") == "x is on cpu"
    with pytest.raises(ValueError, match=r"^x: "):
        cuda.run(x, None, "silu")
    with pytest.raises(ValueError, match=r"^up: "):
        call_activation(lambda *arguments: None, x, x[:0], "silu")
    assert MAX_WIDTH == 1 << 30
    assert set(KIND_NUMBERS) == set(KINDS)
    assert set(ELEMENT_TYPES) == set(DTYPES)
