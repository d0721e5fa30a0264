"""The KV store against a dictionary, and attention over its pages against a loop over rows in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from editscore_kernels.kv import NULL_PAGE, PAGE_TOKENS, KVStore, OutOfPagesError, PageTables
from editscore_kernels.reference.shared_prefix_attention import shared_prefix_attention
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

CPU = torch.device("cpu")


def store(num_pages: int = 9, dtype: torch.dtype = torch.float32, heads: int = 2, width: int = 4) -> KVStore:
    return KVStore(2, heads, width, num_pages, dtype, CPU)


def test_pages_are_given_once_and_come_back() -> None:
    kv = store()
    first, second = kv.allocate(5), kv.allocate(3)
    assert sorted([*first, *second]) == list(range(1, 9)), "every page but the null page, each once"
    with pytest.raises(OutOfPagesError):
        kv.allocate(1)
    kv.free(first)
    assert kv.num_free == 5
    with pytest.raises(ValueError, match="pages"):
        kv.free(first[:1])
    with pytest.raises(ValueError, match="pages"):
        kv.free([second[0], second[0]])
    with pytest.raises(ValueError, match="pages"):
        kv.free([NULL_PAGE])
    assert sorted(kv.allocate(5)) == sorted(first)


def test_tokens_are_written_where_their_slots_say() -> None:
    kv, generator = store(dtype=torch.float64), torch.Generator().manual_seed(0)
    pages, offsets = np.asarray([3, 3, 8], np.int32), np.asarray([0, 15, 7], np.int32)
    k, v = torch.randn(2, 3, 2, 4, generator=generator, dtype=torch.float64)
    kv.append(1, k, v, kv.flat_slots(pages, offsets))
    for i in range(3):
        assert torch.equal(kv.k[1, pages[i], :, offsets[i]], k[i])
        assert torch.equal(kv.v[1, pages[i], :, offsets[i]], v[i])
    assert not kv.k[0].any(), "other layers are untouched"
    assert torch.count_nonzero(kv.k[1]) == k.numel()


def test_a_copied_page_is_independent() -> None:
    kv = store()
    kv.k[:, 2], kv.v[:, 2] = 1.0, 2.0
    kv.copy_pages(np.asarray([2, 2], np.int32), np.asarray([5, 6], np.int32))
    kv.k[:, 2] = 9.0
    assert bool((kv.k[:, 5:7] == 1).all() and (kv.v[:, 5:7] == 2).all())


def test_clearing_removes_what_is_not_finite() -> None:
    kv = store()
    pages = kv.allocate(2)
    kv.k[:, pages[0]] = torch.nan
    kv.free(pages[:1], clear=True)
    assert bool(torch.isfinite(kv.k).all())


@dataclass
class Case:
    tables: PageTables
    kv: KVStore
    q: Tensor


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Random leaves, sequences and rows over random pages; some rows are prompts, some decode, some append several tokens."""
    heads, group, width = draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, 3, 4])), draw(st.sampled_from([4, 32]))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    leaf_pages = [draw(st.integers(0, 3)) for _ in range(draw(st.integers(1, 3)))]
    lengths, counts, leaves = [], [], []
    for _ in range(draw(st.integers(1, 5))):
        if draw(st.booleans()):
            lengths.append(draw(st.integers(1, 40)))
            counts.append(lengths[-1])
            leaves.append(-1)
        else:
            lengths.append(draw(st.integers(1, 40)))
            counts.append(draw(st.integers(1, min(3, lengths[-1]))))
            leaves.append(draw(st.integers(-1, len(leaf_pages) - 1)))
    order = rng.permutation(np.arange(1, 64)).astype(np.int32)
    kv = store(64, torch.float64, heads, width)
    kv.allocate(63)
    kv.k.copy_(torch.from_numpy(rng.normal(size=kv.k.shape)))
    kv.v.copy_(torch.from_numpy(rng.normal(size=kv.v.shape)))
    leaf_table, own_table, taken = np.zeros((len(leaf_pages), 4), np.int32), np.zeros((len(lengths), 3), np.int32), 0
    for table, sizes in ((leaf_table, leaf_pages), (own_table, [-(-n // PAGE_TOKENS) for n in lengths])):
        for i, n in enumerate(sizes):
            table[i, :n] = order[taken : taken + n]
            taken += n
    row_seq = np.repeat(np.arange(len(lengths)), counts)
    row_lengths = np.concatenate([np.arange(n - c, n) + 1 for n, c in zip(lengths, counts, strict=True)])
    padding = draw(st.integers(0, 3))
    tables = PageTables(
        leaf_table,
        np.asarray(leaf_pages, np.int32) * PAGE_TOKENS,
        own_table,
        np.asarray(leaves, np.int32),
        np.pad(row_seq, (0, padding), constant_values=-1).astype(np.int32),
        np.pad(row_lengths, (0, padding), constant_values=1).astype(np.int32),
    )
    return Case(tables, kv, torch.from_numpy(rng.normal(size=(len(row_seq) + padding, heads * group, width))))


def gold(case: Case, scale: float) -> Tensor:
    """One row, one head and one key at a time, as the formula stands."""
    out = torch.zeros_like(case.q)
    group = case.q.shape[1] // case.kv.k.shape[2]
    t = case.tables
    for r, seq in enumerate(t.row_seq):
        if seq < 0:
            continue
        leaf = t.seq_leaf[seq]
        path = [(page, 16) for page in (t.leaf_pages[leaf, : t.leaf_lengths[leaf] // 16] if leaf >= 0 else [])]
        path += [(page, min(16, t.row_lengths[r] - 16 * i)) for i, page in enumerate(t.own_pages[seq]) if t.row_lengths[r] > 16 * i]
        for h in range(case.q.shape[1]):
            k = torch.cat([case.kv.k[0, page, h // group, :n] for page, n in path])
            v = torch.cat([case.kv.v[0, page, h // group, :n] for page, n in path])
            out[r, h] = torch.softmax(scale * (k @ case.q[r, h]), 0) @ v
    return out


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_attention_is_its_formula(case: Case) -> None:
    out = shared_prefix_attention(case.q, case.kv.k[0], case.kv.v[0], case.tables, scale=0.4)
    np.testing.assert_allclose(out.numpy(), gold(case, 0.4).numpy(), atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(case=cases())
def test_attention_in_working_precision(case: Case) -> None:
    expected = gold(case, 0.4)
    for dtype, floor in ((torch.float32, 2e-6), (torch.bfloat16, 2e-2)):
        case.tables.derived.clear()
        k, v, q = (x.to(dtype) for x in (case.kv.k[0], case.kv.v[0], case.q))
        exact = Case(case.tables, case.kv, q.double())
        exact.kv.k[0], exact.kv.v[0] = k.double(), v.double()
        expected = gold(exact, 0.4)
        out = shared_prefix_attention(q, k, v, case.tables, scale=0.4)
        assert out.dtype == dtype
        np.testing.assert_allclose(out.double().numpy(), expected.numpy(), atol=floor)


def test_a_row_is_bitwise_the_same_in_any_company() -> None:
    """Eight prompts of four passes, all lengths different, against each pass computed alone (float32)."""
    rng, group, heads, width = np.random.default_rng(3), 3, 2, 32
    kv = store(256, torch.float32, heads, width)
    kv.allocate(255)
    kv.k.copy_(torch.from_numpy(rng.normal(size=kv.k.shape)))
    kv.v.copy_(torch.from_numpy(rng.normal(size=kv.v.shape)))
    leaf_pages = np.arange(1, 33, dtype=np.int32).reshape(8, 4)
    leaf_lengths = (np.arange(8, dtype=np.int32) % 5) * PAGE_TOKENS
    own_pages = np.arange(33, 33 + 96, dtype=np.int32).reshape(32, 3)
    seq_leaf = np.repeat(np.arange(8, dtype=np.int32), 4)
    lengths = rng.integers(1, 49, 32).astype(np.int32)
    q = torch.from_numpy(rng.normal(size=(32, heads * group, width))).float()

    def attend(rows: np.ndarray) -> Tensor:
        sequences = np.arange(len(rows), dtype=np.int32)
        tables = PageTables(leaf_pages, leaf_lengths, own_pages[rows], seq_leaf[rows], sequences, lengths[rows])
        return shared_prefix_attention(q[torch.from_numpy(rows)], kv.k[0], kv.v[0], tables, scale=width**-0.5)

    together = attend(np.arange(32))
    for rows in (rng.permutation(32), np.arange(0, 32, 5), *np.arange(32).reshape(32, 1)):
        assert torch.equal(attend(rows), together[torch.from_numpy(rows)])


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"leaf_lengths": [17]}, "leaf_lengths"),
        ({"leaf_lengths": [64]}, "leaf_lengths"),
        ({"row_lengths": [0]}, "row_lengths"),
        ({"row_lengths": [33]}, "row_lengths"),
        ({"row_seq": [1]}, "row_seq"),
        ({"seq_leaf": [1]}, "seq_leaf"),
    ],
)
def test_tables_are_checked_when_they_are_built(changes: dict[str, list[int]], name: str) -> None:
    tables = {"leaf_pages": [[1]], "leaf_lengths": [16], "own_pages": [[2, 3]], "seq_leaf": [0], "row_seq": [0], "row_lengths": [20]}
    PageTables(**{key: np.asarray(value, np.int32) for key, value in tables.items()})
    with pytest.raises(ValueError, match=name):
        PageTables(**{key: np.asarray(value, np.int32) for key, value in (tables | changes).items()})


def test_a_freed_page_in_a_table_is_named() -> None:
    kv = store()
    pages = kv.allocate(2)
    tables = PageTables(*(np.asarray(x, np.int32) for x in ([[pages[0]]], [16], [[pages[1]]], [0], [0], [3])))
    tables.check_pages(kv)
    kv.free(pages[:1])
    with pytest.raises(ValueError, match="leaf_pages"):
        tables.check_pages(kv)


def test_a_query_of_another_shape_is_refused() -> None:
    kv = store()
    pages = kv.allocate(1)
    tables = PageTables(*(np.asarray(x, np.int32) for x in (np.zeros((0, 1)), [], [[pages[0]]], [-1], [0], [3])))
    with pytest.raises(ValueError, match="q"):
        shared_prefix_attention(torch.zeros(2, 2, 4), kv.k[0], kv.v[0], tables, scale=1.0)
