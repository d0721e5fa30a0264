"""`PreparedAttention`: the op for the layers of a step, and what it refuses after its first call."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from attention_backends import BACKENDS, Backend, run
from attention_cases import Case, attend, decode_paths, make_case
from editscore_kernels import BackendError, PreparedAttention


def cases(num_layers: int) -> list[Case]:
    """The same tables over other queries and pages, as layers have them."""
    paths = decode_paths([300, 40, 0], 3, [1, 20, 64])
    first = make_case(paths, 2, 3, 32, 1)
    others = [make_case(paths, 2, 3, 32, seed) for seed in range(2, num_layers + 1)]
    width = max(len(case.k_pages) for case in [first, *others])
    assert all(len(case.k_pages) == width for case in others)
    layers = [Case(case.q, case.k_pages, case.v_pages, first.tables, first.scale) for case in [first, *others]]
    return [case.to(torch.float32) for case in layers]


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
def test_every_layer_gets_the_bits_of_the_op(backend: Backend) -> None:
    layers = cases(3)
    prepared = PreparedAttention(layers[0].tables, layout=backend.layout, backend=backend.name)  # type: ignore[arg-type]
    for case in layers:
        expected = run(backend, case)
        with backend.environment():
            got = prepared(case.q, *case.pages(backend.layout))
        assert torch.equal(got.out, expected.out)
        assert torch.equal(got.lse, expected.lse)
        torch.testing.assert_close(got.out.double(), attend(case)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS, ids=str)
def test_lengths_that_grow_in_place_are_seen(backend: Backend) -> None:
    case = cases(1)[0]
    tensors = case.tables.tensors(case.q.device)
    prepared = PreparedAttention(tensors, layout=backend.layout, backend=backend.name)  # type: ignore[arg-type]
    with backend.environment():
        before = prepared(case.q, *case.pages(backend.layout)).out.clone()
        tensors.row_lengths[0] += 1
        after = prepared(case.q, *case.pages(backend.layout)).out
    assert not torch.equal(after[0], before[0])
    assert torch.equal(after[1:], before[1:])


def test_what_is_unlike_the_first_call_is_refused() -> None:
    case = cases(1)[0]
    pages = case.pages("packed")
    prepared = PreparedAttention(case.tables, layout="packed", backend="cpu")
    prepared(case.q, *pages)
    for q, k, v in (
        (case.q[:-1], *pages),
        (case.q.double(), *pages),
        (case.q, pages[0][:-1], pages[1]),
        (case.q, pages[0], pages[1].double()),
    ):
        with pytest.raises(ValueError, match="prepared for"):
            prepared(q, k, v)
    strided = pages[0].transpose(0, 1).contiguous().transpose(0, 1)
    with pytest.raises(ValueError, match="k_pages: expected a contiguous"):
        prepared(case.q, strided, pages[1])
    assert torch.equal(prepared(case.q, *pages).out, run("cpu", case, layout="packed").out), "and it still works"


def test_the_first_call_is_checked_as_the_op_is() -> None:
    case = cases(1)[0]
    with pytest.raises(ValueError, match="rows for"):
        PreparedAttention(case.tables, layout="packed")(case.q[:2], *case.pages("packed"))
    with pytest.raises(ValueError, match="backend: 'gpu'"):
        PreparedAttention(case.tables, backend="gpu")  # type: ignore[arg-type]
    with pytest.raises(BackendError, match="pages in plain layout"):
        PreparedAttention(case.tables, backend="cpu")(case.q, *case.pages("plain"))
    short = case.tables.tensors(case.q.device)._replace(seq_leaf=torch.zeros(1, dtype=torch.int32))
    with pytest.raises(ValueError, match="seq_leaf"):
        PreparedAttention(short, layout="packed", backend="cpu")(case.q, *case.pages("packed"))
    wrong = case.tables.tensors(case.q.device)._replace(row_seq=torch.from_numpy(np.zeros(len(case.q), np.int64)))
    with pytest.raises(ValueError, match="row_seq: expected int32"):
        PreparedAttention(wrong, layout="packed", backend="cpu")(case.q, *case.pages("packed"))
