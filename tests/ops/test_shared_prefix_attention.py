"""`shared_prefix_attention`: every backend against a loop over rows in float64, and the bits that must not change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attention_backends import BACKENDS, Backend, run
from attention_cases import Case, Paths, attend, decode_paths, make_case, random_paths, redivided
from editscore_kernels.page_tables import PageTables
from hypothesis import given, settings
from hypothesis import strategies as st

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
EPSILON = {torch.float32: 2.0**-23, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}


def check(case: Case, backend: Backend, dtype: torch.dtype) -> None:
    """The law: at most twice the error of the reference in the working precision, plus the rounding of one result."""
    rounded = case.to(dtype)
    out, lse = attend(rounded)
    plain = run("reference", rounded)
    got = run(backend, rounded)
    assert got.out.dtype == dtype
    assert not got.status.any()
    floor = EPSILON[dtype] * (1 + out.abs().max() if out.numel() else 1)
    limit = 2 * (plain.out.double() - out).abs().max() + floor if out.numel() else floor
    assert out.numel() == 0 or (got.out.double() - out).abs().max() <= limit
    seen = torch.isfinite(lse)
    assert torch.equal(torch.isfinite(got.lse), seen)
    torch.testing.assert_close(got.lse[seen].double(), lse[seen], rtol=1e-5, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from([(1, 1), (2, 3), (1, 7), (2, 4), (1, 16), (3, 2)]),
    st.sampled_from([32, 64, 128]),
    st.sampled_from(DTYPES),
)
def test_every_backend_is_the_formula(seed: int, heads: tuple[int, int], head_dim: int, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(seed)
    paths = random_paths(rng, num_leaves=3, num_seqs=int(rng.integers(1, 7)), max_leaf_pages=20, max_own=70, max_rows=30)
    case = make_case(paths, *heads, head_dim, seed)
    for backend in BACKENDS:
        check(case, backend, dtype)


def test_the_reference_in_float64_is_the_formula() -> None:
    for seed in range(8):
        paths = random_paths(np.random.default_rng(seed), num_leaves=3, num_seqs=5, max_leaf_pages=36, max_own=300, max_rows=20)
        case = make_case(paths, 2, 3, 32, seed)
        out, lse = attend(case)
        for layout in ("plain", "packed"):
            got = run("reference", case, layout=layout)
            np.testing.assert_allclose(got.out.numpy(), out.numpy(), atol=1e-13)
            np.testing.assert_allclose(got.lse.numpy(), lse.numpy(), atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("heads", "head_dim"), [((4, 7), 128), ((8, 4), 128), ((2, 3), 32)], ids=["qwen2.5-7b", "qwen3-8b", "nano"])
def test_shapes_of_real_models(backend: Backend, dtype: torch.dtype, heads: tuple[int, int], head_dim: int) -> None:
    check(make_case(decode_paths([777, 1009, 16], 4, [1, 64, 33, 250]), *heads, head_dim, 1), backend, dtype)


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_row_is_bitwise_the_same_in_any_company_and_for_any_split(backend: Backend, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(5)
    case = make_case(decode_paths([600, 40, 512, 0, 300, 256, 1100, 16], 8, [1, 17, 64, 300, 5, 90]), 2, 3, 64, 5).to(dtype)
    together = run(backend, case)
    for splits in (1, 2, 7):
        assert torch.equal(run(backend, case, num_splits=splits).out, together.out)
    for rows in (rng.permutation(64), np.arange(0, 64, 5), *np.arange(0, 64, 7)[:, None]):
        got = run(backend, some_rows(case, rows))
        assert torch.equal(got.out, together.out[torch.from_numpy(rows)])
        assert torch.equal(got.lse, together.lse[torch.from_numpy(rows)])


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_division_between_leaf_and_own_pages_changes_no_bit(backend: Backend, dtype: torch.dtype) -> None:
    """A tree's prefill: whatever of a prompt its parents hold, and however many of its tokens come in one call."""
    case = make_case(Paths((304, 64), (0, 1, -1), (0,) * 30 + (1, 2), (*range(251, 281), 500, 333)), 1, 4, 64, 7).to(dtype)
    whole = run(backend, case)
    for pages in ([0, 0, 0], [16, 16, 16], [5, 3, 20], [17, 1, 2], [19, 35, 20]):
        assert torch.equal(run(backend, redivided(case, np.asarray(pages))).out, whole.out)
    for rows in (np.arange(7), np.arange(11, 12), np.arange(20, 32)):
        assert torch.equal(run(backend, some_rows(case, rows)).out, whole.out[torch.from_numpy(rows)])


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
def test_threads_change_no_bit(backend: Backend) -> None:
    case = make_case(decode_paths([600, 40, 512, 0, 300, 256, 1100, 16], 4, [1, 17, 64, 300]), 2, 3, 64, 9).to(torch.bfloat16)
    alone = run(backend, case)
    try:
        torch.set_num_threads(3)
        assert torch.equal(run(backend, case).out, alone.out)
        assert torch.equal(run(backend, some_rows(case, np.arange(3))).out, alone.out[:3]), "fewer units than threads: paths are cut"
    finally:
        torch.set_num_threads(1)


def some_rows(case: Case, rows: np.ndarray) -> Case:
    """The case with these rows only, in this order, over sequences renumbered in the order in which they come."""
    t = case.tables
    seqs, index = np.unique(t.row_seq[rows], return_inverse=True)
    tables = PageTables(
        t.leaf_pages, t.leaf_lengths, t.own_pages[seqs], t.seq_leaf[seqs], index.astype(np.int32), t.row_lengths[rows], pages=t.pages
    )
    return Case(case.q[torch.from_numpy(rows)], case.k_pages, case.v_pages, tables, case.scale)


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
def test_edges(backend: Backend) -> None:
    """No rows, only padding, a row that sees nothing, strided queries, scores that would overflow without the maximum."""
    empty = make_case(Paths((), (), (), ()), 2, 2, 32, 0).to(torch.float32)
    assert run(backend, empty).out.shape == (0, 4, 32)
    nothing = make_case(Paths((0, 32), (0, -1, 1), (-1, 0, 1, 2), (0, 0, 0, 0)), 2, 2, 32, 0).to(torch.float32)
    got = run(backend, nothing)
    assert not got.out[:3].any() and bool((got.lse[:3] == -torch.inf).all())
    assert bool(got.out[3].any()), "a leaf alone is enough"
    case = make_case(decode_paths([40, 300], 3, [3, 20]), 2, 2, 32, 1).to(torch.float32)
    strided = Case(case.q.transpose(0, 1).contiguous().transpose(0, 1), case.k_pages, case.v_pages, case.tables, case.scale)
    assert torch.equal(run(backend, strided).out, run(backend, case).out)
    loud = Case(case.q * 300, case.k_pages, case.v_pages, case.tables, 1.0)
    torch.testing.assert_close(run(backend, loud).out.double(), attend(loud)[0], rtol=0, atol=5e-3)


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
def test_torch_knows_the_op(backend: Backend) -> None:
    case = make_case(decode_paths([40], 2, [3, 20]), 1, 2, 32, 1).to(torch.float32)
    layout = backend.layout
    arguments = (case.q, *case.pages(layout), *case.tables.tensors(case.q.device), case.scale, layout, 0, backend.name)
    with backend.environment():
        torch.library.opcheck(torch.ops.editscore.shared_prefix_attention.default, arguments)
        compiled = torch.compile(lambda *a: torch.ops.editscore.shared_prefix_attention(*a)[0] + 1, fullgraph=True, backend="eager")
        assert torch.equal(compiled(*arguments), run(backend, case).out + 1)
