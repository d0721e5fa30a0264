"""`sample_tokens`: every backend draws the reference's token, and the reference draws what a textbook says."""

import math
from typing import Any

import pytest
import torch
from editscore_kernels import _native
from editscore_kernels.reference.sample_tokens import LOG2_E
from editscore_kernels.reference.sample_tokens import weights as reference_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_sampler import sample, uniform
from sampling_cases import BACKENDS, DTYPES, FIELDS, NATIVE, assert_same, random_logits, random_mask, run
from scipy.stats import chisquare


@pytest.mark.parametrize("name", NATIVE)
def test_weights_are_the_same_integers(name: str) -> None:
    """Tokens alone would not show a fused multiply-add: it moves a weight by one part in ten million."""
    _, _, instruction_set = name.partition("-")
    for temperature in (0.05, 0.7, 1.0, 31.0):
        x = random_logits(1, 50_000, scale=5.0)
        x[0, :3] = torch.tensor([-torch.inf, -3e38, 30.0])
        expected = reference_weights(x, torch.tensor([30.0]), torch.tensor([temperature], dtype=torch.float64))[0]
        scale = float(torch.tensor(LOG2_E / temperature, dtype=torch.float32))
        with _native.use_instruction_set(instruction_set):
            for start, stop in [(0, 50_000), *((i * 37, i * 37 + 1 + i % 35) for i in range(1300))]:
                assert _native.sample_weights(x[0, start:stop], 30.0, scale) == int(expected[start:stop].sum())
    exact = torch.exp(random_logits(1, 50_000, scale=5.0).clamp(max=0).double()) * 2.0**40
    ours = reference_weights(random_logits(1, 50_000, scale=5.0).clamp(max=0), torch.zeros(1), torch.ones(1, dtype=torch.float64))
    assert ((ours - exact).abs() <= 3e-6 * exact + 1).all(), "exp itself, against float64"


rows_of_parameters = st.tuples(
    st.sampled_from([0.0, 1e-4, 0.1, 0.7, 1.0, 30.0, 65536.0]),
    st.sampled_from([0, 1, 2, 5, 20, 10**6]),
    st.sampled_from([1e-9, 0.3, 0.6, 0.9, 0.999, 1.0]),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 2**40),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(rows_of_parameters, max_size=5),
    st.sampled_from([1, 2, 31, 32, 33, 64, 65, 129, 200, 513, 1100]),
    st.sampled_from(DTYPES),
    st.sampled_from([0.0, 0.02, 3.0, 40.0]),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_every_backend_draws_the_same_token_and_it_is_right(
    parameters: list[tuple[Any, ...]], vocabulary: int, dtype: torch.dtype, scale: float, has_mask: bool, seed: int
) -> None:
    rows = len(parameters)
    logits = (random_logits(rows, vocabulary, seed) * scale).to(dtype)
    logits[:, seed % vocabulary] = -torch.inf
    mask = random_mask(rows, vocabulary, seed) if has_mask else None
    names = ("temperature", "top_k", "top_p", "seed", "request", "position")
    columns = zip(*parameters, strict=True) if rows else [()] * 6
    arguments = {name: torch.tensor(column) for name, column in zip(names, columns, strict=True)}
    if not rows:
        arguments = {"top_k": 0}
    reference = run("reference", logits, **arguments, mask=mask, option_ids=[0, vocabulary - 1, -1])
    for name in NATIVE:
        assert_same(run(name, logits, **arguments, mask=mask, option_ids=[0, vocabulary - 1, -1]), reference)
    bits = None if mask is None else (mask[:, :, None] >> torch.arange(32)) & 1
    for r, (temperature, top_k, top_p, key, request, position) in enumerate(parameters):
        allowed = [True] * vocabulary if bits is None else bits[r].flatten()[:vocabulary].bool().tolist()
        plain = sample(logits[r].double().tolist(), allowed, temperature, top_k, top_p, uniform(key, request, position))
        if plain is None:
            assert (int(reference.status[r]), int(reference.token[r])) == (1, -1)
        elif not plain.is_close and temperature != 1e-4:  # at 1e-4 the margin of single precision is wider than the textbook's
            assert int(reference.token[r]) == plain.token
            assert float(reference.logprob[r]) == pytest.approx(plain.logprob, abs=1e-5)
            assert float(reference.logprob_raw[r]) == pytest.approx(plain.logprob_raw, abs=2e-6, rel=2e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vocabulary", [777, 1000, 1009, 20_000])
def test_large_rows_are_the_same_on_every_backend(vocabulary: int, dtype: torch.dtype) -> None:
    logits = random_logits(6, vocabulary).to(dtype)
    mask = random_mask(6, vocabulary)
    for scale in (0.01, 1.0):  # nearly flat rows make top-p keep thousands of tokens
        arguments = {
            "temperature": torch.tensor([1.0, 0.7, 1.3, 1.0, 0.0, 5.0]),
            "top_k": torch.tensor([0, 20, 0, 300, 0, 0]),
            "top_p": torch.tensor([1.0, 0.9, 0.95, 1.0, 1.0, 0.9999], dtype=torch.float64),
            "request": torch.arange(6),
        }
        for given_mask in (None, mask):
            expected = run("reference", logits * scale, **arguments, mask=given_mask)
            for name in NATIVE:
                assert_same(run(name, logits * scale, **arguments, mask=given_mask), expected)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vocabulary", [1, 32, 777, 1009, 20_000])
def test_log_probabilities_keep_the_test_law(name: str, dtype: torch.dtype, vocabulary: int) -> None:
    """err <= 2 * err(torch's own log_softmax in fp32) + floor, against float64."""
    logits = random_logits(8, vocabulary, scale=6.0).to(dtype)
    options = torch.randint(0, vocabulary, (8, 5), generator=torch.Generator().manual_seed(3))
    got = run(name, logits, option_ids=options, request=torch.arange(8), temperature=1.0)
    gold = logits.double().log_softmax(1)
    fp32 = logits.float().log_softmax(1)
    floor = 5e-7  # half a unit in the last place of a logarithm between 4 and 16, the result's own rounding
    for value, ids in (
        (got.option_logprob, options),
        (got.logprob_raw[:, None], got.token[:, None]),
        (got.logprob[:, None], got.token[:, None]),
    ):
        error = (value.double() - gold.gather(1, ids)).abs().max()
        assert error <= 2 * (fp32.double() - gold).abs().max() + floor
    exact = run("reference", logits.double(), option_ids=options, request=torch.arange(8), temperature=1.0)
    torch.testing.assert_close(
        exact.option_logprob, gold.gather(1, options), rtol=0, atol=vocabulary * 2.0**-40
    )  # each weight is cut to 2^-40
    assert torch.equal(exact.token, got.token)


@pytest.mark.parametrize(
    ("vocabulary", "temperature", "top_k", "top_p", "has_mask"),
    [(5, 1.0, 0, 1.0, False), (64, 0.7, 20, 0.9, False), (40, 2.0, 0, 0.8, True), (1000, 1.0, 0, 1.0, True), (33, 0.5, 7, 1.0, False)],
)
def test_draws_follow_the_distribution(vocabulary: int, temperature: float, top_k: int, top_p: float, has_mask: bool) -> None:
    """Chi-square over 10^5 draws against probabilities computed in float64 by sorting, over requests and over positions."""
    draws = 100_000
    row = random_logits(1, vocabulary, seed=vocabulary, scale=1.5)
    mask = random_mask(1, vocabulary) if has_mask else None
    x = row[0].double()
    if mask is not None:
        x[~((mask[0, :, None] >> torch.arange(32)) & 1).flatten()[:vocabulary].bool()] = -torch.inf
    probability = (x / temperature).softmax(0)
    order = probability.argsort(descending=True, stable=True)
    ranked = probability[order]
    ranked[top_k or vocabulary :] = 0
    ranked /= ranked.sum()
    ranked[ranked.cumsum(0) - ranked >= top_p] = 0
    expected = torch.zeros(vocabulary, dtype=torch.float64).scatter(0, order, ranked / ranked.sum())
    for keys in ({"request": torch.arange(draws), "position": 3}, {"request": 2**63 + 11, "position": torch.arange(draws)}):
        given_mask = None if mask is None else mask.expand(draws, -1)
        got = run("cpu", row.expand(draws, -1), temperature=temperature, top_k=top_k, top_p=top_p, mask=given_mask, seed=5, **keys)
        counts = torch.bincount(got.token, minlength=vocabulary)
        assert not counts[expected == 0].any()
        likely = expected * draws >= 5
        observed = [*counts[likely].tolist(), int(counts[~likely].sum())]
        wanted = [*(expected[likely] * draws).tolist(), float(expected[~likely].sum() * draws)]
        if wanted[-1] < 5:
            observed[-2:], wanted[-2:] = [sum(observed[-2:])], [sum(wanted[-2:])]
        assert chisquare(observed, wanted).pvalue > 1e-3


@pytest.mark.parametrize("name", BACKENDS)
def test_a_row_does_not_know_its_batch(name: str) -> None:
    """Bitwise the same alone, in another slot, among other rows and with any number of threads."""
    logits, mask = random_logits(40, 20_011), random_mask(40, 20_011)
    per_row = {
        "temperature": torch.linspace(0, 2, 40).where(torch.arange(40) > 2, torch.tensor(0.0)),
        "top_k": torch.arange(40) % 7 * 10,
        "top_p": torch.linspace(0.5, 1, 40, dtype=torch.float64),
        "request": torch.arange(40) * 2**40,
        "position": torch.arange(40) % 5,
        "mask": mask,
        "option_ids": torch.arange(80).reshape(40, 2),
    }
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        whole = run(name, logits, **per_row)
        torch.set_num_threads(3)
        for rows in (
            torch.arange(40),
            torch.randperm(40, generator=torch.Generator().manual_seed(1)),
            torch.tensor([17]),
            torch.tensor([39, 0, 5]),
        ):
            part = run(name, logits[rows], **{key: value[rows] for key, value in per_row.items()})
            for field in FIELDS:
                assert torch.equal(getattr(part, field), getattr(whole, field)[rows]), field
    finally:
        torch.set_num_threads(threads)


PINNED = [19, 46, 92, 29, 15, 91, 28, 6, 33, 49, 57, 43]
PINNED_LOGPROB = -31.592103719711304


@pytest.mark.parametrize("name", BACKENDS)
def test_tokens_are_pinned(name: str) -> None:
    """A change of these numbers changes every sampled score: say so in the change log."""
    x = torch.tensor([[(t * 37 + r * 11) % 101 / 16 for t in range(101)] for r in range(12)])
    got = run(name, x, temperature=0.7, top_k=20, top_p=0.9, seed=42, request=torch.arange(12) - 6, position=9)
    assert got.token.tolist() == PINNED
    assert math.isclose(float(got.logprob.double().sum()), PINNED_LOGPROB, abs_tol=1e-5)
