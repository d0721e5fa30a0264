"""`sample_tokens`: edges with a defined answer, bad input, and what torch asks of an op."""

import math
from typing import Any

import pytest
import torch
from editscore_kernels import BackendError, sample_tokens
from editscore_kernels.reference import sample_tokens as reference
from sampling_cases import BACKENDS, DTYPES, FIELDS, random_logits, random_mask, run

INFINITY = float("inf")


@pytest.mark.parametrize("name", BACKENDS)
def test_rows_that_cannot_be_drawn_say_so_and_leave_the_others_alone(name: str) -> None:
    x = random_logits(6, 70)
    x[0, 3] = math.nan
    x[1, 69] = INFINITY
    x[2] = -INFINITY
    x[4, 40:] = -INFINITY
    mask = torch.full((6, 3), -1, dtype=torch.int32)
    mask[3] = 0
    mask[4, 0] = 0
    mask[4, 1] = 1 << 8  # token 40 alone, and its logit is -inf
    got = run(name, x, mask=mask, option_ids=[0, 1], top_k=20, request=torch.arange(6))
    assert got.status.tolist() == [2, 2, 1, 1, 1, 0]
    assert got.token.tolist()[:5] == [-1] * 5
    for field in ("logprob_raw", "logprob", "option_logprob"):
        assert getattr(got, field)[:5].isnan().all()
        assert getattr(got, field)[5:].isfinite().all()
    alone = run(name, x[5:], mask=mask[5:], option_ids=[0, 1], top_k=20, request=5)
    assert all(torch.equal(getattr(alone, field), getattr(got, field)[5:]) for field in FIELDS)


def test_a_row_without_filters_keeps_every_weight_beside_a_row_with_them() -> None:
    """Twenty thousand equal logits weigh more than a float64 can count to; the last token weighs 1."""
    x = torch.zeros(2, 20_001)
    x[:, -1] = -27.7  # exp(-27.7) is between 2^-40 and 2^-39
    weight = reference.weights(x, torch.zeros(2), torch.ones(2, dtype=torch.float64))
    top_p = torch.tensor([1.0, 0.9], dtype=torch.float64)
    ids, kept = reference._filter(x, weight, torch.tensor([0, 20_001]), top_p)
    assert weight[0, -1] == 1
    assert int(weight[0].sum()) > 2**53
    assert torch.equal(kept[0], weight[0].gather(0, ids[0]))
    assert not torch.equal(kept[1], weight[1].gather(0, ids[1]))


@pytest.mark.parametrize("name", BACKENDS)
def test_a_masked_nan_still_counts(name: str) -> None:
    x = torch.tensor([[0.0, math.nan, -math.nan]])
    assert run(name, x, mask=torch.tensor([[1]], dtype=torch.int32)).status.tolist() == [2]
    assert run(name, x, temperature=0.0).status.tolist() == [2]


@pytest.mark.parametrize("name", BACKENDS)
def test_greedy_takes_the_lowest_id_and_minus_zero_is_zero(name: str) -> None:
    x = torch.tensor([[1.0, 3.0, 3.0, 2.0], [-0.0, 0.0, -1.0, -0.0], [0.0, -0.0, -INFINITY, 0.0]])
    got = run(name, x, temperature=0.0, top_k=2, top_p=0.5)
    assert got.token.tolist() == [1, 0, 0]
    assert got.logprob.tolist() == [0.0, 0.0, 0.0]
    torch.testing.assert_close(got.logprob_raw, x.log_softmax(1).gather(1, got.token[:, None])[:, 0])
    mask = torch.tensor([[0b1100]] * 3, dtype=torch.int32)
    assert run(name, x, temperature=0.0, mask=mask).token.tolist() == [2, 3, 3]


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_ties_at_the_edge_of_a_filter_are_broken_by_id(name: str, dtype: torch.dtype) -> None:
    draws = 2000
    x = torch.zeros(draws, 10, dtype=dtype)
    x[:, 0::2] *= -1.0
    requests = torch.arange(draws)
    assert set(run(name, x, top_k=3, request=requests).token.tolist()) == {0, 1, 2}
    for top_p, kept in ((0.1, 1), (0.3, 3), (0.3 + 5e-14, 4), (0.6, 6), (0.61, 7), (1.0, 10)):
        assert set(run(name, x, top_p=top_p, request=requests).token.tolist()) == set(range(kept))
    x[:, 7] = 1.0
    assert set(run(name, x, top_k=3, request=requests).token.tolist()) == {0, 1, 7}


@pytest.mark.parametrize("name", BACKENDS)
def test_filters_that_are_off_change_nothing(name: str) -> None:
    x = random_logits(50, 77)
    x[:, 5] = -INFINITY
    plain = run(name, x, request=torch.arange(50))
    full = torch.full((50, 3), -1, dtype=torch.int32)
    for changes in ({"top_k": 77}, {"top_k": 10**9}, {"top_k": 0}, {"top_p": 1.0}, {"mask": full}, {"mask": full.repeat(1, 2)}):
        got = run(name, x, request=torch.arange(50), **changes)
        assert all(torch.equal(getattr(got, field), getattr(plain, field)) for field in FIELDS), changes
    assert not (plain.token == 5).any()


@pytest.mark.parametrize("name", BACKENDS)
def test_a_mask_shorter_than_the_vocabulary_allows_nothing_beyond_it(name: str) -> None:
    x = torch.zeros(500, 100)
    got = run(name, x, mask=torch.full((500, 2), -1, dtype=torch.int32), request=torch.arange(500))
    assert set(got.token.tolist()) == set(range(64))
    torch.testing.assert_close(got.logprob, torch.full((500,), -math.log(64)))
    torch.testing.assert_close(got.logprob_raw, torch.full((500,), -math.log(100)))


@pytest.mark.parametrize("name", BACKENDS)
def test_every_layout_of_rows_is_read(name: str) -> None:
    big, mask = random_logits(16, 300), random_mask(16, 500)
    changes: dict[str, Any] = {"request": torch.arange(8), "top_k": 5}
    for view, words in (
        (big[:8, 11:211], mask[:8, 3:10]),
        (big[::2, ::3], mask[::2, ::2]),
        (big.T[:8], mask.T[:8, :1]),
        (big[3:4].expand(8, -1), mask[:1].expand(8, -1)),
    ):
        got = run(name, view, mask=words, **changes)
        same = run(
            name, view.clone(memory_format=torch.contiguous_format), mask=words.clone(memory_format=torch.contiguous_format), **changes
        )
        assert all(torch.equal(getattr(got, field), getattr(same, field)) for field in FIELDS)


@pytest.mark.parametrize("name", BACKENDS)
def test_no_rows(name: str) -> None:
    got = run(name, torch.empty(0, 9), option_ids=[1, 2], mask=torch.empty(0, 1, dtype=torch.int32))
    assert [tuple(getattr(got, field).shape) for field in FIELDS] == [(0,), (0,), (0,), (0,), (0, 2)]


def test_hashes_are_64_bits_however_they_come() -> None:
    x = random_logits(3, 1000)
    hashes = [2**64 - 1, 2**63, 12]
    expected = run("cpu", x, request=hashes).token.tolist()
    assert run("cpu", x, request=torch.tensor([-1, -(2**63), 12])).token.tolist() == expected
    assert run("cpu", x, request=torch.tensor(hashes, dtype=torch.uint64)).token.tolist() == expected
    assert [int(run("cpu", x[r : r + 1], request=hashes[r]).token) for r in range(3)] == expected


def test_seed_request_and_position_draw_apart() -> None:
    x = torch.zeros(4000, 1000)
    base = run("cpu", x, request=torch.arange(4000)).token
    for changes in ({"seed": 43}, {"position": 1}, {"request": torch.arange(4000) + 2**32}):
        other = run("cpu", x, **({"request": torch.arange(4000)} | changes)).token
        assert int((other == base).sum()) < 20, "one in a thousand by chance"


def test_a_gradient_is_neither_taken_nor_needed() -> None:
    x = random_logits(2, 9).requires_grad_()
    assert not run("cpu", x).logprob.requires_grad


BAD: list[tuple[str, dict[str, Any]]] = [
    ("logits", {"logits": torch.zeros(5)}),
    ("logits", {"logits": torch.zeros(2, 5, dtype=torch.int64)}),
    ("logits", {"logits": torch.zeros(2, 0)}),
    ("temperature", {"temperature": -0.1}),
    ("temperature", {"temperature": math.nan}),
    ("temperature", {"temperature": INFINITY}),
    ("temperature", {"temperature": 1e-9}),
    ("temperature", {"temperature": torch.ones(3)}),
    ("temperature", {"temperature": torch.ones(2, 1)}),
    ("top_k", {"top_k": -1}),
    ("top_k", {"top_k": torch.tensor([1.5, 2.5])}),
    ("top_k", {"top_k": 2.5}),
    ("top_p", {"top_p": 0.0}),
    ("top_p", {"top_p": 1.1}),
    ("top_p", {"top_p": math.nan}),
    ("seed", {"seed": 2**64}),
    ("seed", {"seed": "7"}),
    ("request", {"request": [1, 2, 3]}),
    ("request", {"request": [1, -(2**63) - 1]}),
    ("position", {"position": torch.zeros(2, dtype=torch.bool)}),
    ("mask", {"mask": torch.zeros(2, 1)}),
    ("mask", {"mask": torch.zeros(1, 1, dtype=torch.int32)}),
    ("mask", {"mask": torch.zeros(2, 0, dtype=torch.int32)}),
    ("option_ids", {"option_ids": [5]}),
    ("option_ids", {"option_ids": [-2]}),
    ("option_ids", {"option_ids": torch.zeros(3, 1, dtype=torch.int64)}),
    ("option_ids", {"option_ids": torch.zeros(2, 1)}),
    ("temperature", {"temperature": torch.ones(2, device="meta")}),
]


@pytest.mark.parametrize(("argument", "change"), BAD, ids=lambda value: value if isinstance(value, str) else "")
def test_bad_input_names_the_argument(argument: str, change: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {
        "logits": torch.zeros(2, 5),
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "seed": 0,
        "request": 0,
        "position": 0,
    }
    with pytest.raises(ValueError, match=rf"^{argument}: "):
        sample_tokens(**(arguments | change))


def test_float64_runs_on_the_reference_and_nowhere_else() -> None:
    x = random_logits(3, 50).double()
    assert run("reference", x).logprob.dtype == torch.float64
    with pytest.raises(BackendError, match=r"cpu: logits of torch.float64"):
        run("cpu", x)


@pytest.mark.parametrize("name", ["reference", "cpu"])
def test_opcheck(name: str) -> None:
    x = random_logits(4, 40)
    rows = torch.arange(4)
    ones = torch.ones(4, dtype=torch.float64)
    for mask, options in ((None, None), (random_mask(4, 40), torch.zeros(4, 2, dtype=torch.int64))):
        arguments = (x, ones, rows, ones, rows, rows, rows, mask, options, name)
        torch.library.opcheck(torch.ops.editscore.sample_tokens.default, arguments)


def test_compiles_into_a_whole_graph() -> None:
    def step(x: torch.Tensor, request: torch.Tensor, position: int) -> torch.Tensor:
        return sample_tokens(x * 2, temperature=0.7, top_k=20, top_p=0.9, seed=42, request=request, position=position).token + 1

    x, request = random_logits(5, 200), torch.arange(5)
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for position in range(3):
        assert torch.equal(compiled(x, request, position), step(x, request, position))


@pytest.mark.slow  # the C++ that inductor writes takes a compiler half a minute
def test_compiles_with_inductor() -> None:
    def step(x: torch.Tensor) -> torch.Tensor:
        return sample_tokens(x * 2, temperature=0.7, top_k=20, top_p=0.9, seed=42, request=1, position=0).token + 1

    x = random_logits(5, 200)
    assert torch.equal(torch.compile(step, fullgraph=True)(x), step(x))
