"""Tables of pages: what is refused when they are built, and the order in which rows are worked on."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from editscore_kernels import append_kv, shared_prefix_attention
from editscore_kernels.kv import KVStore
from editscore_kernels.page_tables import PageTables

CPU = torch.device("cpu")
GOOD: dict[str, Any] = {
    "leaf_pages": [[1]],
    "leaf_lengths": [16],
    "own_pages": [[2, 3]],
    "seq_leaf": [0],
    "row_seq": [0],
    "row_lengths": [20],
}


def tables(pages: KVStore | int = 9, **changes: Any) -> PageTables:
    return PageTables(**{name: np.asarray(value, np.int32) for name, value in (GOOD | changes).items()}, pages=pages)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("leaf_lengths", [17]),
        ("leaf_lengths", [32]),
        ("leaf_lengths", [-16]),
        ("leaf_lengths", [16, 16]),
        ("leaf_pages", [[9]]),
        ("leaf_pages", [[-1]]),
        ("leaf_pages", [1]),
        ("own_pages", [[2, 9]]),
        ("row_lengths", [-1]),
        ("row_lengths", [33]),
        ("row_lengths", [1, 1]),
        ("row_seq", [1]),
        ("row_seq", [-2]),
        ("seq_leaf", [1]),
        ("seq_leaf", [0, 0]),
    ],
)
def test_a_wrong_table_is_named(name: str, value: Any) -> None:
    tables()
    with pytest.raises(ValueError, match=name):
        tables(**{name: value})


def test_tables_of_another_type_are_refused() -> None:
    with pytest.raises(ValueError, match=r"row_seq: expected an int32 array of 1 dimensions, got int64 \[1\]"):
        PageTables(**{k: np.asarray(v, np.int64 if k == "row_seq" else np.int32) for k, v in GOOD.items()}, pages=9)


def test_a_freed_page_is_refused_when_the_table_is_built() -> None:
    kv = KVStore(1, 1, 4, 9, torch.float32, CPU)
    pages = kv.allocate(3)
    changes = {"leaf_pages": [[pages[0]]], "own_pages": [pages[1:]]}
    tables(kv, **changes)
    kv.free(pages[2:])
    with pytest.raises(ValueError, match="own_pages: names a page that is not allocated"):
        tables(kv, **changes)


def test_prompts_with_a_common_beginning_are_neighbours_the_longest_first() -> None:
    leaf_pages = [[1, 2, 0, 0], [5, 6, 7, 8], [1, 3, 4, 0], [5, 6, 0, 0], [9, 0, 0, 0]]
    built = tables(
        12,
        leaf_pages=leaf_pages,
        leaf_lengths=[32, 64, 48, 32, 16],
        own_pages=np.zeros((8, 1)),
        seq_leaf=[0, 1, 2, 3, 4, -1, 1, 0],
        row_seq=[0, 1, 2, 3, -1, 4, 5, 6, 7, 7],
        row_lengths=[1] * 10,
    ).tensors(CPU)
    rows, starts = built.group_rows.tolist(), built.group_starts.tolist()
    groups = [rows[a:b] for a, b in itertools.pairwise(starts)]
    assert groups == [[1, 7], [3], [2], [0, 8, 9], [5], [6]]


def test_no_rows_make_no_groups() -> None:
    empty = tables(own_pages=np.zeros((0, 1)), seq_leaf=[], row_seq=[], row_lengths=[]).tensors(CPU)
    assert empty.group_rows.tolist() == []
    assert empty.group_starts.tolist() == [0]


def arguments() -> dict[str, Any]:
    pages = torch.zeros(9, 2, 16, 4)
    return {"q": torch.zeros(1, 4, 4), "k_pages": pages, "v_pages": pages.clone(), "tables": tables()}


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("q", {"q": torch.zeros(1, 3, 4)}),
        ("q", {"q": torch.zeros(1, 4)}),
        ("q", {"q": torch.zeros(1, 4, 4, dtype=torch.int32)}),
        ("tables", {"q": torch.zeros(2, 4, 4)}),
        ("k_pages", {"k_pages": torch.zeros(9, 2, 8, 4)}),
        ("k_pages", {"k_pages": torch.zeros(9, 2, 16, 4, dtype=torch.bfloat16)}),
        ("v_pages", {"v_pages": torch.zeros(8, 2, 16, 4)}),
        ("v_pages", {"v_pages": torch.zeros(9, 2, 4, 16).transpose(2, 3)}),
        ("layout", {"layout": "tiled"}),
        ("num_splits", {"num_splits": -1}),
        ("backend", {"backend": "gpu"}),
    ],
)
def test_a_wrong_argument_is_named(name: str, change: dict[str, Any]) -> None:
    shared_prefix_attention(**arguments())
    with pytest.raises(ValueError, match=name):
        shared_prefix_attention(**(arguments() | change))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("k", {"k": torch.zeros(2, 2, 5)}),
        ("v", {"v": torch.zeros(2, 2, 4, dtype=torch.bfloat16)}),
        ("slots", {"slots": torch.tensor([1.0, 2.0])}),
        ("slots", {"slots": torch.tensor([1, 144])}),
        ("k_pages", {"k_pages": torch.zeros(9, 2, 8, 4)}),
        ("layout", {"layout": "tiled"}),
    ],
)
def test_a_wrong_argument_of_append_kv_is_named(name: str, change: dict[str, Any]) -> None:
    good = {"k": torch.zeros(2, 2, 4), "v": torch.zeros(2, 2, 4), "slots": torch.tensor([1, 143])}
    good |= {"k_pages": torch.zeros(9, 2, 16, 4), "v_pages": torch.zeros(9, 2, 16, 4)}
    append_kv(**good)
    with pytest.raises(ValueError, match=name):
        append_kv(**(good | change))
