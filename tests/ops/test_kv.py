"""The KV store against a dictionary of what was given out, and its two layouts against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from editscore_kernels.kv import (
    NULL_PAGE,
    PAGE_TOKENS,
    KVStore,
    OutOfPagesError,
    pack_keys,
    pack_values,
    pair_size,
    unpack_keys,
    unpack_values,
)
from hypothesis import given, settings
from hypothesis import strategies as st

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


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["allocate", "retain", "free", "clear"]), st.integers(0, 7)), max_size=40))
def test_a_page_is_free_when_its_last_user_gave_it_back(actions: list[tuple[str, int]]) -> None:
    """Against a dictionary of users per page."""
    kv, users, poisoned = store(), dict.fromkeys(range(1, 9), 0), set[int]()
    for action, page in actions:
        if action == "allocate" and page <= kv.num_free:
            for new in kv.allocate(page).tolist():
                assert users[new] == 0
                assert not kv.k[:, new].any(), "what was poisoned is clean when it is given out"
                users[new] = 1
        elif page and users[page]:
            if action == "retain":
                kv.retain(np.asarray([page], np.int32))
                users[page] += 1
            elif action in ("free", "clear"):
                if action == "clear":
                    kv.k[:, page] = torch.nan
                    poisoned.add(page)
                users[page] -= 1
                assert kv.free([page], clear=action == "clear").tolist() == ([] if users[page] else [page])
                if not users[page]:
                    poisoned.discard(page)
        elif page and action == "retain":
            with pytest.raises(ValueError, match="pages"):
                kv.retain(np.asarray([page], np.int32))
    assert kv.num_free == sum(count == 0 for count in users.values())
    assert all(bool(torch.isnan(kv.k[:, page]).any()) == (page in poisoned) for page in users)


def test_slots_name_a_page_and_an_offset_and_nothing_for_the_null_page() -> None:
    slots = store().slots(np.asarray([3, 8, NULL_PAGE], np.int32), np.asarray([15, 0, 7], np.int32))
    assert slots.tolist() == [3 * PAGE_TOKENS + 15, 8 * PAGE_TOKENS, -1]
    assert slots.dtype == torch.int64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64], ids=str)
def test_packed_pages_hold_pairs_where_the_formula_says(dtype: torch.dtype) -> None:
    width, pair = 6, pair_size(dtype)
    assert pair * dtype.itemsize == max(4, dtype.itemsize), "a pair of 16-bit numbers fills 32 bits"
    x = torch.arange(2 * PAGE_TOKENS * width).view(2, PAGE_TOKENS, width).to(dtype)
    keys, values = pack_keys(x), pack_values(x)
    for t in range(PAGE_TOKENS):
        for d in range(width):
            assert torch.equal(keys.flatten(1)[:, (d // pair * PAGE_TOKENS + t) * pair + d % pair], x[:, t, d])
            assert torch.equal(values.flatten(1)[:, (t // pair * width + d) * pair + t % pair], x[:, t, d])
    assert torch.equal(unpack_keys(keys), x)
    assert torch.equal(unpack_values(values), x)


@pytest.mark.parametrize("shape", [(1, 2, 4, 9), (2, 1, 32, 3)])
def test_pages_begin_at_a_cache_line(shape: tuple[int, int, int, int]) -> None:
    kv = KVStore(*shape, torch.bfloat16, CPU)
    assert kv.k.data_ptr() % 64 == kv.v.data_ptr() % 64 == 0
    assert kv.layout == "packed"
    assert kv.k.shape == (shape[0], shape[3], shape[1], PAGE_TOKENS, shape[2])


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
