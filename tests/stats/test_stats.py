"""The statistics against scipy, counting by hand, and the published table's numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from editscore.stats import average_ranks, bootstrap_ratio, compare_pairs, count_pairs, group_pairs, macro_mean, pearson, spearman

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "statistics.json").read_text(encoding="utf-8"))
numbers = st.floats(-1e6, 1e6, allow_subnormal=False) | st.integers(-4, 4).map(float)
vectors = st.integers(2, 30).flatmap(
    lambda n: st.tuples(st.lists(numbers, min_size=n, max_size=n), st.lists(numbers, min_size=n, max_size=n))
)


@given(vectors)
def test_correlations_equal_scipy(pair):
    x, y = pair
    if len(set(x)) < 2 or len(set(y)) < 2 or np.ptp(x) < 1e-3 or np.ptp(y) < 1e-3:
        return
    assert pearson(x, y) == pytest.approx(scipy.stats.pearsonr(x, y).statistic, abs=1e-9)
    assert spearman(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-9)
    assert np.allclose(average_ranks(x), scipy.stats.rankdata(x))


def test_correlation_of_a_constant_is_absent_and_failures_are_left_out():
    assert np.isnan(pearson([1, 1, 1], [1, 2, 3]))
    assert pearson([1, 2, np.nan, 4], [2, 4, 100, 8]) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="one length"):
        pearson([1, 2], [1, 2, 3])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 25)), max_size=40), st.integers(1, 10))
def test_group_pairs_are_all_pairs_of_a_group(items, gap):
    groups, truth = [g for g, _ in items], [t for _, t in items]
    pairs = group_pairs(truth, groups, gap)
    found = sorted(zip(pairs.better.tolist(), pairs.worse.tolist(), strict=True))
    wanted = [(i, j) for i in range(len(items)) for j in range(len(items)) if groups[i] == groups[j] and truth[i] - truth[j] >= gap]
    assert found == sorted(wanted)
    assert [groups[i] for i in pairs.better] == pairs.group.tolist()


@given(st.lists(st.tuples(st.integers(-3, 3).map(float) | st.just(float("nan")), st.integers(-3, 3).map(float)), max_size=40))
def test_counts_by_hand(pairs):
    better, worse = [a for a, _ in pairs], [b for _, b in pairs]
    counts = count_pairs(better, worse)
    judged = [(a, b) for a, b in pairs if a == a]
    assert counts.right == sum(a > b for a, b in judged)
    assert counts.tied == sum(a == b for a, b in judged)
    assert counts.wrong == sum(a < b for a, b in judged)
    assert counts.failed == len(pairs) - len(judged)
    if judged:
        assert counts.accuracy == counts.right / len(judged)


def test_rounding_of_means_is_a_tie():
    passes = np.array([0.1, 0.2, 0.3])
    assert compare_pairs([passes.sum() / 3], [np.sort(passes)[::-1].sum() / 3]).tolist() == [0]
    assert compare_pairs([5.0, 5.0, 4.0, np.inf], [4.0, 5.0, 5.0, 1.0]).tolist() == [1, 0, -1, -2]


@pytest.mark.parametrize("case", ["no_failures", "with_failures"])
def test_published_tables(case):
    """Accuracies per task, their macro mean and the ties of the published statistics.

    There a failed score counts as wrong; ours leaves it out, so it is put back for the comparison.
    """
    table = GOLDEN["tables"][case]
    for dimension, published in table["per_task"].items():
        tasks = {task: value for task, value in published.items() if task != "average"}
        ours = {}
        for task in tasks:
            scores = [
                [float("nan") if s is None else s for s in pair["score"]]
                for pair in table["pairs"]
                if pair["task"] == task and pair["dimension"] == dimension
            ]
            counts = count_pairs([s[0] for s in scores], [s[1] for s in scores])
            ours[task] = counts.right / (counts.num_judged + counts.failed)
        assert ours == pytest.approx(tasks, abs=1e-12)
        assert macro_mean(ours) == pytest.approx(table["average"][dimension], abs=1e-12)


def test_bootstrap_agrees_with_scipy():
    rng = np.random.default_rng(3)
    judged = rng.integers(1, 7, 150)
    right = rng.binomial(judged, 0.8)
    ours = bootstrap_ratio(right, judged, num_resamples=8000, seed=1)
    theirs = scipy.stats.bootstrap(
        (right, judged), lambda r, j: r.sum() / j.sum(), paired=True, vectorized=False, n_resamples=4000, method="percentile", rng=rng
    ).confidence_interval
    assert ours.estimate == right.sum() / judged.sum()
    assert ours.low == pytest.approx(theirs.low, abs=0.004) and ours.high == pytest.approx(theirs.high, abs=0.004)


def test_bootstrap_covers_the_truth_nineteen_times_in_twenty():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        share = rng.beta(6, 2, 80)  # groups differ, so pairs within a group go together
        right = rng.binomial(6, share)
        interval = bootstrap_ratio(right, np.full(80, 6), num_resamples=400, seed=trial)
        covered += interval.low <= 0.75 <= interval.high
    assert 0.90 <= covered / 300 <= 0.98


def test_bootstrap_without_pairs_and_with_bad_arguments():
    assert np.isnan(bootstrap_ratio([0, 0], [0, 0]).low)
    assert bootstrap_ratio([1, 0], [1, 0]).low == 1.0
    with pytest.raises(ValueError, match="level"):
        bootstrap_ratio([1], [1], level=1.0)


def test_macro_mean_leaves_absent_tasks_out():
    assert macro_mean({"a": 1.0, "b": 0.5, "c": float("nan")}) == 0.75
    assert np.isnan(macro_mean({}))
