"""Tests of the Triton sampler, for a process of their own: `test_triton_sample_tokens.py` starts one with the interpreter.

On a machine with a GPU `python -m pytest tests/ops/triton_sampling.py` runs the same cases there. Every token must be the reference's,
which `test_sample_tokens.py` compares with a textbook's.
"""

import math
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from editscore_kernels import SampledTokens, _triton, sample_tokens
from editscore_kernels._triton import sample_tokens as kernel
from editscore_kernels._triton.token_weights import draw_words, scale_uniform, token_weight
from editscore_kernels.reference import philox
from editscore_kernels.reference.sample_tokens import LOG2_E, weights
from plain_sampler import philox as plain_philox
from sampling_cases import DTYPES, FIELDS, assert_same, random_logits, random_mask

DEVICE = "cpu" if _triton.is_interpreted() else "cuda"
# Tiles of 64 tokens and a list of 128, so that rows of a few hundred are many tiles and lists run over.
SMALL = kernel.SamplerConfig(64, 128, 1)


def draw(logits: torch.Tensor, backend: str = "triton", **changes: Any) -> SampledTokens:
    arguments: dict[str, Any] = {"temperature": 0.7, "top_k": 0, "top_p": 1.0, "seed": 42, "request": 7, "position": 0} | changes
    device = DEVICE if backend == "triton" else "cpu"
    placed = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in arguments.items()}
    return SampledTokens(*(field.cpu() for field in sample_tokens(logits.to(device), **placed, backend=backend)))


@pytest.fixture(params=["its own tiles", "small tiles"])
def tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "small tiles":
        monkeypatch.setattr(kernel, "CONFIGS", {"narrow": SMALL, "wide": SMALL})


@triton.jit
def _weights_kernel(x_ptr, best, scale, weight_ptr, COUNT: tl.constexpr):
    places = tl.arange(0, COUNT)
    tl.store(weight_ptr + places, token_weight(tl.load(x_ptr + places), best, scale))


@triton.jit
def _words_kernel(seed_ptr, request_ptr, position_ptr, total_ptr, word_ptr, scaled_ptr):
    i = tl.program_id(0)
    high, low = draw_words(tl.load(seed_ptr + i), tl.load(request_ptr + i), tl.load(position_ptr + i))
    tl.store(word_ptr + 2 * i, high.to(tl.int64))
    tl.store(word_ptr + 2 * i + 1, low.to(tl.int64))
    tl.store(scaled_ptr + i, scale_uniform(high, low, tl.load(total_ptr + i)))


def test_weights_are_the_same_integers() -> None:
    """Tokens alone would not show a fused multiply-add: it moves a weight by one part in ten million."""
    count = 1 << 14
    for temperature in (0.05, 0.7, 1.0, 31.0):
        x = random_logits(1, count, scale=5.0)
        x[0, :3] = torch.tensor([-torch.inf, -3e38, 30.0])
        expected = weights(x, torch.tensor([30.0]), torch.tensor([temperature], dtype=torch.float64))[0]
        got = torch.empty(count, dtype=torch.int64, device=DEVICE)
        _weights_kernel[(1,)](x.to(DEVICE), 30.0, LOG2_E / temperature, got, COUNT=count, enable_fp_fusion=False)
        assert torch.equal(got.cpu(), expected)


def test_philox_is_the_textbooks() -> None:
    generator = torch.Generator().manual_seed(1)
    seed, request, position = torch.randint(-(2**63), 2**63 - 1, (3, 20), generator=generator)
    total = torch.randint(1, 2**62, (20,), generator=generator)
    words, scaled = torch.empty(20, 2, dtype=torch.int64, device=DEVICE), torch.empty(20, dtype=torch.int64, device=DEVICE)
    _words_kernel[(20,)](*(x.to(DEVICE) for x in (seed, request, position, total)), words, scaled)
    for i in range(20):
        halves = [(int(x[i]) % 2**64 % 2**32, int(x[i]) % 2**64 >> 32) for x in (position, request, seed)]
        high, low, _, _ = plain_philox([*halves[0], *halves[1]], list(halves[2]))
        assert words[i].tolist() == [high, low]
        assert int(scaled[i]) == (high * 2**32 + low) * int(total[i]) >> 64
    assert torch.equal(torch.stack(philox.draw_words(seed, request, position), 1), words.cpu())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("vocabulary", [1, 33, pytest.param(400, marks=pytest.mark.slow)])
def test_random_rows(tiles: None, dtype: torch.dtype, vocabulary: int) -> None:
    """Every filter with every other, masked and not, on steep and nearly flat rows."""
    generator = torch.Generator().manual_seed(vocabulary)
    rows = 8

    def pick(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64)[torch.randint(len(values), (rows,), generator=generator)]

    for mask, scale in ((None, 3.0), (random_mask(rows, vocabulary), 0.02)):
        logits = (random_logits(rows, vocabulary, seed=3) * scale).to(dtype)
        logits[:, vocabulary // 2] = -torch.inf
        keys = {name: torch.randint(-(2**63), 2**63 - 1, (rows,), generator=generator) for name in ("seed", "request", "position")}
        arguments = keys | {
            "temperature": pick([0.0, 1e-4, 0.7, 1.0, 30.0]),
            "top_k": pick([0, 0, 1, 5, 60, 100, 10**6]).long(),
            "top_p": pick([1e-9, 0.3, 0.9, 0.999, 1.0, 1.0]),
            "mask": mask,
            "option_ids": torch.tensor([0, vocabulary - 1, -1] * 6),
        }
        assert_same(draw(logits, **arguments), draw(logits, "reference", **arguments))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_row_of_two_wide_tiles(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "NARROW_VOCABULARY", 0)
    logits = random_logits(4, 3001).to(dtype)
    arguments = {
        "temperature": torch.tensor([1.0, 0.7, 1.3, 0.0]),
        "top_k": torch.tensor([0, 20, 0, 300]),
        "top_p": torch.tensor([1.0, 0.9, 0.95, 1.0], dtype=torch.float64),
        "request": torch.arange(4),
    }
    assert_same(draw(logits, **arguments), draw(logits, "reference", **arguments))


def test_ties_at_the_edge_of_a_filter_are_broken_by_id(tiles: None) -> None:
    """150 equal logits: more than a list of 128 holds, so the row itself is searched. 0 and -0 are equal."""
    logits = torch.zeros(12, 150, dtype=torch.bfloat16)
    logits[:, ::2] *= -1.0
    logits[:, 140] = 1.0
    top_k, top_p = torch.tensor([3, 0, 75, 0, 149, 7] * 2), torch.tensor([1.0, 0.1, 0.5, 0.9, 1.0, 0.999] * 2, dtype=torch.float64)
    arguments = {"top_k": top_k, "top_p": top_p, "request": torch.arange(12), "temperature": 1.0}
    expected = draw(logits, "reference", **arguments)
    assert_same(draw(logits, **arguments), expected)
    assert set(expected.token[::6].tolist()) <= {0, 1, 140}, "the case is what it says"


def test_rows_that_cannot_be_drawn_say_so(tiles: None) -> None:
    x = random_logits(7, 70)
    x[0, 3] = math.nan
    x[1, 69] = torch.inf
    x[2] = -torch.inf
    x[4, 40:] = -torch.inf
    x[6, 69] = -math.nan  # the mask does not allow it, and it still counts
    mask = torch.full((7, 3), -1, dtype=torch.int32)
    mask[3] = 0
    mask[4] = torch.tensor([0, 1 << 8, 0])  # token 40 alone, and its logit is -inf
    mask[6, 2] = 0
    got = draw(x, mask=mask, option_ids=[0, 1], top_k=20, request=torch.arange(7))
    assert got.status.tolist() == [2, 2, 1, 1, 1, 0, 2]
    assert (got.token[got.status != 0] == -1).all()
    for field in ("logprob_raw", "logprob", "option_logprob"):
        assert torch.equal(getattr(got, field).isnan().reshape(7, -1).all(1), got.status != 0)
    assert_same(got, draw(x, "reference", mask=mask, option_ids=[0, 1], top_k=20, request=torch.arange(7)))


def test_greedy_takes_the_lowest_id_and_minus_zero_is_zero() -> None:
    x = torch.tensor([[1.0, 3.0, 3.0, 2.0], [-0.0, 0.0, -1.0, -0.0], [0.0, -0.0, -torch.inf, 0.0]])
    assert draw(x, temperature=0.0, top_k=2, top_p=0.5).token.tolist() == [1, 0, 0]
    assert draw(x, temperature=0.0, mask=torch.tensor([[0b1100]] * 3, dtype=torch.int32)).token.tolist() == [2, 3, 3]


def test_every_layout_of_rows_and_a_short_mask(tiles: None) -> None:
    big, mask = random_logits(16, 300).bfloat16(), random_mask(16, 500)
    for view, words in (
        (big[:4, 11:211], mask[:4, 3:6]),
        (big[::4, ::3], mask[::4, ::2]),
        (big[3:4].expand(4, -1), mask[:1].expand(4, -1)),
    ):
        arguments = {"request": torch.arange(4), "top_k": 5, "mask": words}
        assert_same(draw(view, **arguments), draw(view.contiguous(), "reference", **arguments))
    got = draw(torch.empty(0, 9), option_ids=[1, 2])
    assert [tuple(getattr(got, field).shape) for field in FIELDS] == [(0,), (0,), (0,), (0,), (0, 2)]


def test_a_row_does_not_know_its_batch() -> None:
    logits, rows = random_logits(6, 200).bfloat16(), torch.arange(6)
    per_row = {"top_k": rows * 4, "top_p": torch.linspace(0.5, 1, 6, dtype=torch.float64), "request": rows, "position": rows * 2**33}
    whole = draw(logits, **per_row)
    for part in (torch.tensor([5]), torch.tensor([4, 1, 2])):
        got = draw(logits[part], **{name: value[part] for name, value in per_row.items()})
        assert all(torch.equal(getattr(got, field), getattr(whole, field)[part]) for field in FIELDS)


def test_what_it_cannot_do_it_says() -> None:
    assert kernel.why_not(torch.zeros(1, 1, dtype=torch.float64)) == "logits of torch.float64: the reference only"
    other = torch.zeros(1, 1, device="meta")
    assert kernel.why_not(other) == "logits is on meta"
