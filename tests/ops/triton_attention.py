"""Tests of the Triton attention ops, for a process of their own: `test_triton_attention.py` starts one with the interpreter.

On a machine with a GPU `python -m pytest tests/ops/triton_attention.py` runs the same cases there.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from attention_cases import Case, Paths, attend, decode_paths, make_case, random_paths, redivided
from editscore_kernels import _triton
from editscore_kernels._triton import append_kv as append_kernel
from editscore_kernels._triton import shared_prefix_attention as kernel
from editscore_kernels.page_tables import BAD_TABLE, OK, PageTables, TableTensors
from editscore_kernels.reference.append_kv import append_kv as reference_append
from editscore_kernels.reference.shared_prefix_attention import shared_prefix_attention as reference
from padded_tables import padded
from tile_products import rows_of_a_tile_are_alike

__all__ = ["rows_of_a_tile_are_alike"]

DEVICE = torch.device("cpu" if _triton.is_interpreted() else "cuda")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
# The interpreter takes seconds for each of these; the kernels' text is the same for every dtype.
ONE_DTYPE_QUICKLY = [torch.float16, *(pytest.param(dtype, marks=pytest.mark.slow) for dtype in (torch.float32, torch.bfloat16))]
EPSILON = {torch.float32: 2.0**-23, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}


def run(case: Case, num_splits: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    tensors = (case.q, case.k_pages, case.v_pages)
    assert kernel.why_not(*(x.to(DEVICE) for x in tensors), case.tables.tensors(DEVICE), case.scale, "plain", num_splits) is None
    got = kernel.shared_prefix_attention(*(x.to(DEVICE) for x in tensors), case.tables.tensors(DEVICE), case.scale, "plain", num_splits)
    return tuple(x.cpu() for x in got)  # type: ignore[return-value]


def check(case: Case, dtype: torch.dtype) -> None:
    """The law: at most twice the error of the reference in the working precision, plus the rounding of one result."""
    rounded = case.to(dtype)
    out, lse = attend(rounded)
    plain = reference(rounded.q, rounded.k_pages, rounded.v_pages, rounded.tables.tensors(torch.device("cpu")), rounded.scale, "plain")[0]
    got, got_lse, status = run(rounded)
    assert got.dtype == dtype
    assert not status.any()
    assert (got.double() - out).abs().max() <= 2 * (plain.double() - out).abs().max() + EPSILON[dtype] * (1 + out.abs().max())
    seen = torch.isfinite(lse)
    assert torch.equal(torch.isfinite(got_lse), seen)
    torch.testing.assert_close(got_lse[seen].double(), lse[seen], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("heads", "head_dim"),
    [
        ((2, 3), 32),
        ((1, 7), 64),
        ((1, 4), 128),
        pytest.param((2, 1), 32, marks=pytest.mark.slow),
        pytest.param((1, 16), 128, marks=pytest.mark.slow),
    ],
)
def test_ragged_paths_are_the_formula(heads: tuple[int, int], head_dim: int, dtype: torch.dtype) -> None:
    """Leaves of no pages, sequences without a leaf, runs of successive positions, padding rows."""
    rng = np.random.default_rng(head_dim + heads[1])
    paths = random_paths(rng, num_leaves=3, num_seqs=5, max_leaf_pages=20, max_own=70, max_rows=30)
    check(make_case(paths, *heads, head_dim, 1), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_long_prompts_are_the_formula(dtype: torch.dtype) -> None:
    check(make_case(decode_paths([777, 1009, 16], 4, [1, 64, 33, 250]), 1, 3, 32, 1), dtype)


@pytest.mark.slow
def test_more_groups_than_are_read_at_once() -> None:
    check(make_case(decode_paths([16] * 300, 1, [1, 5]), 1, 2, 32, 1), torch.float16)


@pytest.mark.usefixtures("rows_of_a_tile_are_alike")
@pytest.mark.parametrize("dtype", ONE_DTYPE_QUICKLY, ids=str)
def test_a_row_is_bitwise_the_same_in_any_company_and_for_any_split(dtype: torch.dtype) -> None:
    case = make_case(decode_paths([600, 40, 0, 272], 4, [1, 17, 64, 300, 5]), 1, 3, 32, 5).to(dtype)
    together = run(case)
    for splits in (2, 7):
        assert all(torch.equal(a, b) for a, b in zip(run(case, splits), together, strict=True))
    for rows in (np.random.default_rng(5).permutation(16), np.arange(1, 16, 6), np.array([3])):
        for a, b in zip(run(some_rows(case, rows)), together, strict=True):
            assert torch.equal(a, b[torch.from_numpy(rows)])


@pytest.mark.usefixtures("rows_of_a_tile_are_alike")
@pytest.mark.parametrize("dtype", ONE_DTYPE_QUICKLY, ids=str)
def test_the_division_between_leaf_and_own_pages_changes_no_bit(dtype: torch.dtype) -> None:
    """A tree's prefill: whatever of a prompt its parents hold, and however many of its tokens come in one call."""
    case = make_case(Paths((304, 64), (0, 1, -1), (0,) * 9 + (1, 2), (*range(251, 260), 500, 333)), 1, 4, 32, 7).to(dtype)
    whole = run(case)[0]
    for pages in ([0, 0, 0], [5, 3, 20], [19, 35, 20]):
        assert torch.equal(run(redivided(case, np.asarray(pages)))[0], whole)
    for rows in (np.arange(4), np.arange(7, 11)):
        assert torch.equal(run(some_rows(case, rows), num_splits=2)[0], whole[torch.from_numpy(rows)])


@pytest.mark.parametrize("num_splits", [1, 2])
def test_padding_of_a_captured_graph_changes_no_bit(num_splits: int) -> None:
    case = make_case(decode_paths([304, 64], 4, [1, 40, 17]), 1, 3, 32, 2).to(torch.float16)
    wide, tables = padded(case)
    tensors = (wide.q, case.k_pages, case.v_pages, TableTensors(*(table.to(DEVICE) for table in tables)))
    got = kernel.shared_prefix_attention(*(x.to(DEVICE) for x in tensors[:3]), tensors[3], case.scale, "plain", num_splits)
    for field, plain in zip(got, run(case, num_splits), strict=True):
        assert torch.equal(field.cpu()[: len(case.q)], plain)
    assert not got[0][len(case.q) :].any() and not got[2].any()


def some_rows(case: Case, rows: np.ndarray) -> Case:
    """The case with these rows only, in this order, over sequences renumbered in the order in which they come."""
    t = case.tables
    seqs, index = np.unique(t.row_seq[rows], return_inverse=True)
    tables = PageTables(
        t.leaf_pages, t.leaf_lengths, t.own_pages[seqs], t.seq_leaf[seqs], index.astype(np.int32), t.row_lengths[rows], pages=t.pages
    )
    return replace(case, q=case.q[torch.from_numpy(rows)], tables=tables)


def test_edges() -> None:
    """No rows, only padding, a row that sees nothing, strided queries, scores that would overflow without the maximum."""
    assert run(make_case(Paths((), (), (), ()), 2, 2, 32, 0).to(torch.float32))[0].shape == (0, 4, 32)
    for splits in (1, 3):
        out, lse, _ = run(make_case(Paths((0, 32), (0, -1, 1), (-1, 0, 1, 2), (0, 0, 0, 0)), 2, 2, 32, 0).to(torch.float32), splits)
        assert not out[:3].any()
        assert bool((lse[:3] == -torch.inf).all())
        assert bool(out[3].any()), "a leaf alone is enough"
    case = make_case(decode_paths([40, 300], 3, [3, 20]), 2, 2, 32, 1).to(torch.float32)
    strided = replace(case, q=case.q.transpose(0, 1).contiguous().transpose(0, 1))
    assert torch.equal(run(strided)[0], run(case)[0])
    loud = replace(case, q=case.q * 300, scale=1.0)
    torch.testing.assert_close(run(loud)[0].double(), attend(loud)[0], rtol=0, atol=5e-3)


@pytest.mark.parametrize(
    ("table", "place", "value"),
    [
        ("leaf_pages", (0, 1), 10**6),
        ("own_pages", (1, 0), -5),
        ("leaf_lengths", 0, 10**6),
        ("row_lengths", 1, 10**6),
        ("seq_leaf", 1, 99),
        ("row_seq", 1, 77),
    ],
)
def test_a_table_changed_on_the_device_is_said_and_nothing_is_read_outside(table: str, place: object, value: int) -> None:
    case = make_case(decode_paths([32, 64], 2, [3, 20]), 1, 2, 32, 1).to(torch.float32)
    tables = case.tables.tensors(DEVICE)
    good = run(case)
    getattr(tables, table)[place] = value  # the tensors are kept by the tables, so this is what the kernel sees
    out, _, status = run(case)
    assert status.tolist() == ([BAD_TABLE] * 2 if table.startswith("leaf") else [OK, BAD_TABLE]) + [OK, OK]
    assert torch.equal(out[2:], good[0][2:])
    assert bool(out.isfinite().all())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_append_kv_writes_what_the_reference_writes(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    for num_heads, head_dim in ((2, 32), (3, 24)):
        k, v = torch.randn(2, 5, num_heads, head_dim, generator=generator).to(dtype)
        v = v.transpose(1, 2).contiguous().transpose(1, 2)
        slots = torch.tensor([17, -1, 3, 79, 64])
        expected = [torch.zeros(5, num_heads, 16, head_dim, dtype=dtype) for _ in range(2)]
        got = [x.to(DEVICE) for x in torch.zeros(2, 6, num_heads, 16, head_dim, dtype=dtype)]
        reference_append(k, v, *expected, slots, "plain")
        append_kernel.append_kv(k.to(DEVICE), v.to(DEVICE), got[0][:5], got[1][:5], slots.to(DEVICE), "plain")
        outside = torch.full_like(slots, 5 * 16)  # the next page: a kernel that trusts slots would write it
        append_kernel.append_kv(k.to(DEVICE), v.to(DEVICE), got[0][:5], got[1][:5], outside.to(DEVICE), "plain")
        for pages, wanted in zip(got, expected, strict=True):
            assert torch.equal(pages[:5].cpu(), wanted)
            assert not pages[5].any()
    empty = torch.zeros(0, 2, 32, dtype=dtype, device=DEVICE)
    append_kernel.append_kv(empty, empty, got[0], got[1], torch.zeros(0, dtype=torch.int64, device=DEVICE), "plain")


def test_what_it_cannot_do_it_says() -> None:
    def answer(dtype: torch.dtype, heads: int, head_dim: int, layout: str) -> str | None:
        q, pages = torch.zeros(1, heads, head_dim, dtype=dtype, device="meta"), torch.zeros(2, 1, 16, head_dim, dtype=dtype, device="meta")
        return kernel.why_not(q, pages, pages, None, 1.0, layout, 0)  # type: ignore[arg-type]

    assert answer(torch.float64, 1, 32, "plain") == "q of torch.float64: the reference only"
    assert answer(torch.float32, 1, 96, "plain") == "head dimension 96 is not one of 32, 64, 128"
    assert answer(torch.float32, 17, 32, "plain") == "17 query heads per key head are more than 16"
    assert answer(torch.float32, 1, 32, "packed") == "pages are in the packed layout, this kernel reads plain ones"
    assert answer(torch.float32, 1, 32, "plain") == "q is on meta"
