"""`sample_tokens` in CUDA, compiled and run on its host twin; it has never run on a GPU. A schedule is drawn from a seed, every access is
checked, and the integers must be the reference's."""

import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import test_sample_tokens_edges as edges
import torch
from editscore_kernels import BackendError, _native_cuda, explain
from editscore_kernels.reference.sample_tokens import LOG2_E
from editscore_kernels.reference.sample_tokens import weights as reference_weights
from sample_tokens_twin import twin_backend
from sampling_cases import DTYPES, assert_same, random_logits, random_mask, run
from twin_module import ROOT, load_twin, sanitizer_environment

Case = tuple[torch.Tensor, dict[str, Any]]
VOCABULARIES = [1, 2, 31, 32, 33, 64, 65, 200, 513, 1009, 1100, 2050, 4200]


def random_case(seed: int) -> Case:
    """Rows with parameters of their own; some rows flat, some of few different values, some hardly allowed, some at odd addresses."""
    generator = torch.Generator().manual_seed(seed)

    def pick(options: list[Any], rows: int | None = None) -> Any:
        chosen = [options[i] for i in torch.randint(len(options), (rows or 1,), generator=generator).tolist()]
        return chosen[0] if rows is None else torch.tensor(chosen, dtype=torch.float64 if isinstance(options[0], float) else torch.int64)

    rows, vocabulary, dtype = pick([1, 2, 3, 4]), pick(VOCABULARIES), pick(DTYPES)
    offset, gap = pick([0, 0, 1, 3, 7]), pick([0, 0, 1, 5])
    wide = random_logits(rows, offset + vocabulary + gap, seed, pick([0.0, 0.02, 3.0, 12.0])).to(dtype)
    logits = wide[:, offset : offset + vocabulary]
    if pick([False, True]):
        logits.copy_((logits.float() * 2).round() / 2)
    logits[:, seed % vocabulary] = -torch.inf
    arguments = {
        "temperature": pick([0.0, 1e-4, 0.1, 0.7, 1.0, 1.0, 30.0, 65536.0], rows),
        "top_k": pick([0, 0, 1, 2, 5, 16, 17, 20, 300, 10**6], rows),
        "top_p": pick([1e-9, 0.3, 0.6, 0.9, 0.999, 1.0, 1.0], rows),
        "seed": pick([-1, 42, 2**62], rows),
        "request": pick(list(range(-50, 50)), rows),
        "position": pick(list(range(50)), rows),
        "option_ids": pick([None, [0, vocabulary - 1, -1], torch.randint(vocabulary, (rows, 40), generator=generator)]),
    }
    if pick([False, True]):
        words = random_mask(rows, vocabulary, seed)
        arguments["mask"] = words[:, : max(1, words.shape[1] - pick([0, 0, 1]))]
    return logits, arguments


@pytest.mark.parametrize("seed", [*range(60), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(60, 600))])
def test_random_rows_are_the_references(seed: int) -> None:
    logits, arguments = random_case(seed)
    with twin_backend(seed=seed, num_warps=32 if seed % 10 == 9 else 4):
        got = run("cuda", logits, **arguments)
    assert_same(got, run("reference", logits, **arguments))


@pytest.mark.parametrize("temperature", [0.05, 0.7, 1.0, 31.0])
def test_weights_are_the_same_integers(temperature: float) -> None:
    """Tokens alone would not show a fused multiply-add: it moves a weight by one part in ten million."""
    x = (random_logits(1, 20_000, scale=8.0) + 15.0).clamp(max=30.0)
    x[0, :3] = torch.tensor([-torch.inf, -3e38, 30.0])
    expected = reference_weights(x, torch.tensor([30.0]), torch.tensor([temperature], dtype=torch.float64))[0]
    assert torch.equal(weights_of(x, temperature), expected)


def weights_of(x: torch.Tensor, temperature: float, **options: Any) -> torch.Tensor:
    got = torch.full((x.shape[1],), -1)
    scale = float(torch.tensor(LOG2_E / temperature, dtype=torch.float32))
    load_twin("sample_tokens").token_weights(x.data_ptr(), x.shape[1], 30.0, scale, got.data_ptr(), **options)
    return got


EDGES: list[Callable[[str], None]] = [
    edges.test_rows_that_cannot_be_drawn_say_so_and_leave_the_others_alone,
    edges.test_a_masked_nan_still_counts,
    edges.test_greedy_takes_the_lowest_id_and_minus_zero_is_zero,
    edges.test_filters_that_are_off_change_nothing,
    edges.test_a_mask_shorter_than_the_vocabulary_allows_nothing_beyond_it,
    edges.test_every_layout_of_rows_is_read,
    edges.test_no_rows,
]


@pytest.mark.parametrize("num_warps", [4, 32])
@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: edge.__name__)
def test_edges_have_the_answer_of_every_backend(edge: Callable[[str], None], num_warps: int) -> None:
    with twin_backend(num_warps=num_warps):
        edge("cuda")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_ties_at_the_edge_of_a_filter_over_many_draws(dtype: torch.dtype) -> None:
    with twin_backend(check=False):
        edges.test_ties_at_the_edge_of_a_filter_are_broken_by_id("cuda", dtype)


def test_ties_at_the_edge_of_a_filter_go_to_the_lower_id() -> None:
    x = torch.zeros(40, 10)
    x[:, 0::2] *= -1.0
    with twin_backend():
        for changes, kept in (({"top_k": 3}, 3), ({"top_p": 0.3}, 3), ({"top_p": 0.3 + 5e-14}, 4)):
            assert set(run("cuda", x, request=torch.arange(40), **changes).token.tolist()) == set(range(kept))


def case_of(name: str) -> Case:
    """Rows that reach one way through the kernel each; a block of 4 warps has 32 groups and sorts up to 1,024 candidates."""
    many, requests = random_logits(24, 2100, 5), torch.arange(24)
    steps = (many * 2).round()
    zeros = torch.zeros(2, 4100)
    minus = torch.zeros(24, 40)
    minus[:, ::2] *= -1.0
    hidden_nan = torch.zeros(1, 40)
    hidden_nan[0, 33] = math.nan
    first_word = torch.ones(24, 1, dtype=torch.int32) * -1
    all_words = random_mask(24, 2100)
    cases: dict[str, Case] = {
        "candidates": (many, {"top_k": 8, "top_p": 0.9, "temperature": 3.0}),
        "one candidate": (many, {"top_k": 1, "temperature": 5.0}),
        "top-p": (many, {"top_p": 0.5}),
        "beyond the groups": (many, {"top_k": 40, "temperature": 5.0}),
        "ties beyond the groups": (steps, {"top_k": 40, "temperature": 9.0}),
        "ties and top-p": (steps, {"top_k": 400, "top_p": 0.97, "temperature": 9.0}),
        "flat": (many * 0.01, {"top_p": 0.9}),
        "more ties than candidates": (zeros, {"top_k": 10}),
        "unfiltered": (many, {}),
        "greedy": (steps, {"temperature": 0.0}),
        "signed zeros": (minus, {"top_k": 5}),
        "signed zeros beyond the groups": (minus, {"top_k": 30}),
        "masked": (many, {"mask": all_words, "top_p": 0.95}),
        "short mask": (many, {"mask": first_word}),
        "masked nan": (hidden_nan, {"mask": first_word[:1]}),
        "light tokens": (torch.cat([torch.full((24, 1), 10.0), torch.full((24, 60000), -5.0)], 1)[:2], {"option_ids": [0]}),
        "odd end": (many[:1, :31], {}),
    }
    logits, arguments = cases[name]
    return logits, {"request": requests[: len(logits)], **arguments}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["candidates", "ties and top-p", "unfiltered"])
def test_no_schedule_changes_a_bit(name: str, seed: int) -> None:
    logits, arguments = case_of(name)
    with twin_backend(seed=1):
        first = run("cuda", logits[:4], **(arguments | {"request": torch.arange(4)}))
    with twin_backend(seed=100 + seed, resident=4):
        again = run("cuda", logits[:4], **(arguments | {"request": torch.arange(4)}))
    assert all(torch.equal(left, right) for left, right in zip(first, again, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_whole_vocabulary_in_the_block_of_production(dtype: torch.dtype) -> None:
    logits = random_logits(5, 152_064, 7, 2.0).to(dtype)
    filters = {"top_k": torch.tensor([20, 0, 0, 5000, 0]), "top_p": torch.tensor([0.9, 0.9, 1.0, 0.95, 1.0])}
    temperature = torch.tensor([0.7, 1.0, 0.7, 2.0, 0.0])
    arguments = {**filters, "temperature": temperature, "request": torch.arange(5), "mask": random_mask(5, 151_700)}
    with twin_backend(num_warps=32, max_operations=10**10):
        got = run("cuda", logits, **arguments)
    assert_same(got, run("reference", logits, **arguments))


MUTANTS = [
    (1, "candidates", "the warps' maxima are read without a barrier"),
    (2, "ties beyond the groups", "one tie too many is kept"),
    (3, "candidates", "top-k is one too large"),
    (4, "candidates", "sorted candidates are read without a barrier"),
    (5, "odd end", "a vector reaches one element beyond the row"),
    (6, "short mask", "one word beyond the mask is read"),
    (8, "one candidate", "a group comes before itself"),
    (9, "beyond the groups", "bins are counted before they are zero"),
    (10, "beyond the groups", "the last digit is counted over all tokens"),
    (11, "ties beyond the groups", "a warp counts ties that it does not have"),
    (12, "candidates", "candidates are drawn in descending ids"),
    (13, "signed zeros", "-0 comes after 0"),
    (14, "masked nan", "a NaN is overlooked where the mask is off"),
    (15, "more ties than candidates", "candidates have no last place"),
    (16, "masked", "weights are relative to a masked logit"),
    (17, "light tokens", "vectors of small weight are passed over"),
]
QUICK = 6


def check_case(name: str, seed: int, mutant: int) -> None:
    logits, arguments = case_of(name)
    with twin_backend(seed=seed, mutant=mutant):
        got = run("cuda", logits, **arguments)
    assert_same(got, run("reference", logits, **arguments))


@pytest.mark.parametrize(
    "name", ["greedy", "top-p", "flat", "signed zeros beyond the groups", *dict.fromkeys(name for _, name, _ in MUTANTS)]
)
def test_every_way_through_the_kernel_is_the_references(name: str) -> None:
    check_case(name, seed=3, mutant=0)


@pytest.mark.parametrize(
    ("mutant", "name"),
    [pytest.param(n, name, id=bug, marks=[] if i < QUICK else [pytest.mark.slow]) for i, (n, name, bug) in enumerate(MUTANTS)],
)
def test_a_bug_is_caught_whatever_the_schedule(mutant: int, name: str) -> None:
    for seed in range(1, 4):
        with pytest.raises((load_twin("sample_tokens").Fault, AssertionError)):
            check_case(name, seed, mutant)


def test_a_fused_multiply_add_is_caught() -> None:
    x = (random_logits(1, 2000) + 20.0).clamp(max=30.0)
    expected = reference_weights(x, torch.tensor([30.0]), torch.ones(1, dtype=torch.float64))[0]
    assert torch.equal(weights_of(x, 1.0), expected)
    assert not torch.equal(weights_of(x, 1.0, mutant=7), expected)


@pytest.mark.parametrize(("name", "most"), [("candidates", 2.2), ("top-p", 2.2), ("unfiltered", 2.5), ("beyond the groups", 6.5)])
def test_a_row_is_read_as_often_as_the_kernel_says(name: str, most: float) -> None:
    """In sectors of 32 bytes. With 4 warps the walk to a token is a quarter of a read at most; parameters are a tenth of so short a row."""
    logits, arguments = case_of(name)
    logits = logits[:, :2048].contiguous()
    with twin_backend() as twin:
        run("cuda", logits, **arguments)
    assert 2.0 <= 32 * twin.stats.global_sectors / logits.nbytes < most


def test_an_option_beyond_the_vocabulary_is_not_read() -> None:
    x, temperature, top_p = random_logits(2, 50), torch.ones(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    top_k, *keys = (torch.zeros(2, dtype=torch.int64) for _ in range(4))  # no two buffers at one address
    with twin_backend() as twin:
        options = twin(x, temperature, top_k, top_p, *keys, None, torch.tensor([[50, 2**40, -5], [0, 49, -1]]))[4]
    assert options[0].isnan().tolist() == [True, True, False]
    assert options[0, 2] == -torch.inf
    torch.testing.assert_close(options[1, :2], x[1].log_softmax(0)[[0, 49]])


@pytest.mark.parametrize("argument", ["temperature", "top_k", "request", "mask", "option_ids"])
def test_what_pointers_cannot_say_is_checked(argument: str) -> None:
    x, wrong = random_logits(2, 50), torch.zeros(2, 1, dtype=torch.int16)
    names = ("temperature", "top_k", "top_p", "seed", "request", "position", "mask", "option_ids")
    good = [torch.ones(2, dtype=torch.float64 if name in ("temperature", "top_p") else torch.int64) for name in names[:6]]
    arguments = [wrong if name == argument else value for name, value in zip(names, [*good, None, None], strict=True)]
    with twin_backend() as twin, pytest.raises(ValueError, match=f"^{argument}: "):
        twin(x, *arguments)


def test_the_seat_says_why_it_is_empty() -> None:
    assert _native_cuda.sample_tokens_why_not(torch.zeros(1, 2)) == "logits are on cpu"
    reason = dict(explain("sample_tokens"))["cuda"]
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device; tests marked gpu run the kernel")
    assert re.search("no CUDA device|built without CUDA|compiled module is", reason)
    with pytest.raises(BackendError, match=re.escape(reason)):
        run("cuda", torch.zeros(1, 2))


@pytest.mark.slow
def test_these_tests_pass_under_address_and_undefined_sanitizers() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", Path(__file__)]
    done = subprocess.run(command, env=sanitizer_environment(), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
