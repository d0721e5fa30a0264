"""The card's tables against judges whose answers are known beforehand."""

import numpy as np
import pytest

from editscore.tuning.nano.card import FAULT_COLUMNS, average_tables, per_fault, per_task, report_groups, split_passes
from editscore.tuning.nano.evaluation import DIMENSIONS, overall, pair_table, true_scores
from editscore.world import TASKS


@pytest.fixture(scope="module")
def groups():
    return report_groups(39, seed=0)


def test_the_truth_is_always_right(groups):
    truth = true_scores(groups)
    assert overall(truth) == pytest.approx([edit.verdict.overall for group in groups for edit in group.edits])
    table = pair_table(truth, groups)
    assert set(table) == set(DIMENSIONS) and all(counts.accuracy == 1.0 and counts.num_judged > 30 for counts in table.values())
    passes = np.repeat(truth[:, None], 4, axis=1)
    assert all(row["overall"] == 1.0 for row in per_task(passes, groups).values())
    faults = per_fault(truth, groups)
    assert all(row["accuracy"] == 1.0 for row in faults.values())
    assert {name.split(":")[0] for name in faults} == set(FAULT_COLUMNS)


def test_a_judge_that_sees_only_quality_is_right_on_quality_faults_alone(groups):
    blind = true_scores(groups)
    blind[:, :2] = 12.0
    faults = per_fault(blind, groups)
    assert all((row["accuracy"] == 1.0) == name.startswith("quality") for name, row in faults.items())
    table = pair_table(blind, groups)
    assert table["prompt_following"].tie_share == 1.0 and table["naturalness"].accuracy == 1.0


def test_ensembles_are_disjoint_and_averaged(groups):
    rng = np.random.default_rng(0)
    truth = true_scores(groups)
    noisy = np.clip(truth[:, None] + rng.normal(0, 6, (len(truth), 8, 4)), 0, 25)
    blocks = split_passes(noisy, 4)
    assert len(blocks) == 2 and np.array_equal(np.concatenate(blocks, 1), noisy)
    single, four = (average_tables([pair_table(block, groups) for block in split_passes(noisy, k)]) for k in (1, 4))
    assert all(four[name][0] > single[name][0] for name in DIMENSIONS)


def test_report_groups_are_unseen_and_take_turns(groups):
    assert [group.task_type for group in groups[: len(TASKS)]] == list(TASKS)
    assert all(group.id.startswith("report-") for group in groups)
