"""The nano judge's benchmark against judges whose accuracy is known beforehand."""

import csv
import json

import numpy as np
import pytest

import editscore
from benchmarks import harness
from benchmarks.stages import bench_nano_judge as bench_module
from editscore.types import PassScore, Score, Status
from editscore.world import TASKS

NUM_GROUPS = 26


@pytest.fixture(scope="module")
def truth():
    return bench_module.load_truth(NUM_GROUPS)


class OracleScorer:
    """Answers with the truth, but only under a group's own instruction; otherwise everything is 12."""

    def __init__(self, truth, warn=False):
        self.verdicts = {edit.id: (group.instruction, edit.verdict) for group in truth.groups for edit in group.edits}
        self.warn = warn

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def identity(self):
        return {"model": "oracle"}

    def score(self, samples, passes):
        return [self._score(sample, passes) for sample in samples]

    def _score(self, sample, passes):
        instruction, v = self.verdicts[sample.id]
        sc, pq, overall = (v.prompt_following, v.consistency), (v.naturalness, v.artifacts), v.overall
        if sample.instruction != instruction:
            sc, overall = (12, 12), 5.0
        rows = tuple(PassScore(k, Status.OK, sc, pq, overall=overall) for k in range(passes))
        return Score(sample.id, Status.OK, passes=rows, warnings=("out_of_domain: a photograph",) if self.warn else ())


def test_the_oracle_is_always_right_and_a_constant_always_ties(truth):
    for column, dimension in enumerate(bench_module.DIMENSIONS):
        perfect = bench_module.accuracy(truth, dimension, [truth.scores[:, column]])
        assert perfect.interval == (1.0, 1.0, 1.0) and perfect.tie_share == 0
        constant = bench_module.accuracy(truth, dimension, [np.ones(len(truth.scores))])
        assert constant.interval.estimate == 0 and constant.tie_share == 1
        opposite = bench_module.accuracy(truth, dimension, [-truth.scores[:, column]])
        assert opposite.interval.estimate == opposite.tie_share == 0
    rng = np.random.default_rng(0)
    chance = bench_module.accuracy(truth, "overall", [rng.random(len(truth.scores)) for _ in range(200)])
    assert chance.interval.estimate == pytest.approx(0.5, abs=0.02)


def test_ensembles_are_disjoint_blocks_and_skip_failed_passes():
    passes = np.zeros((2, 8, 5))
    passes[0, :, 0] = np.arange(8)
    passes[1, :, 0] = np.nan
    passes[1, 5, 0] = 3.0
    first, second = bench_module.ensembles_of(passes, "prompt_following", 4)
    assert first[0] == 1.5 and second[0] == 5.5
    assert np.isnan(first[1]) and second[1] == 3.0
    assert len(bench_module.ensembles_of(passes, "overall", 8)) == 1


def test_a_failed_score_leaves_the_denominator(truth):
    scores = truth.scores[:, 4].copy()
    scores[:4] = np.nan
    found = bench_module.accuracy(truth, "overall", [scores])
    assert found.judged[0] == 0 and found.interval.estimate == 1.0


def test_tasks_take_equal_turns(truth):
    assert [group.task_type for group in truth.groups] == [*TASKS, *TASKS]
    assert all(group.id.startswith("report-") for group in truth.groups)


def test_the_whole_benchmark_with_an_oracle(truth, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(editscore, "load", lambda *_, **__: OracleScorer(truth), raising=False)
    monkeypatch.setattr(bench_module, "Bench", lambda name, config: harness.Bench(name, config, results=tmp_path))
    monkeypatch.setattr(bench_module, "MIN_FAULT_SHARE", 0.0)
    monkeypatch.setattr(bench_module, "MIN_TASK_SHARE", 0.01)
    assert bench_module.main(groups=NUM_GROUPS, passes=4) == 0
    with (tmp_path / "nano_judge.csv").open(newline="", encoding="utf-8") as file:
        values = {(row["case"], row["subject"], row["metric"]): float(row["value"]) for row in csv.DictReader(file)}
    assert values["overall", "nano K=4", "pair accuracy"] == 1.0
    assert values["overall", "nano", "K=4 minus K=1"] == 0.0
    assert values["prompt_following", "nano K=4, shuffled instructions", "ties"] == 1.0
    assert values["overall", "pixel_l2", "pair accuracy"] < 0.9
    run = json.loads((tmp_path / "nano_judge.runs.jsonl").read_text())
    assert run["config"]["groups"] == NUM_GROUPS and len(run["config"]["world_version"]) == 16
    monkeypatch.setattr(bench_module, "MIN_TASK_SHARE", 0.5)
    assert bench_module.main(groups=NUM_GROUPS, passes=1, save=False) == 1
    assert "of the pairs, under 0.5" in capsys.readouterr().err


def test_shuffled_instructions_leave_nothing_of_the_oracle(truth, tmp_path):
    bench = harness.Bench("nano_judge", {}, results=tmp_path)
    assert bench_module.run_shuffled(bench, OracleScorer(truth), truth, "oracle") == 0.0
