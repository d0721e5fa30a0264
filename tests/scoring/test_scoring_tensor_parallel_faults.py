"""Devices that share a model, one of which dies, hangs, fails alone or goes astray; with fake engines in real processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_engine import FakeEngine, samples
from fake_ranks import COMMAND

from editscore.judges import PointwiseJudge
from editscore.scoring import LocalScorer
from editscore.scoring.engines import EngineSpec
from editscore.scoring.parallel import EngineProcessError, ParallelEngine, ParallelScorer
from editscore.types import EditSample, InvalidInputError, Score, Status


def scorer(*groups: str, model: str = "fake", **options: Any) -> ParallelScorer:
    specs = [EngineSpec(model, device=group) for group in groups or ("cpu+cpu+cpu",)]
    return ParallelScorer(ParallelEngine(specs, COMMAND), PointwiseJudge(), **options)


def expected(edits: list[EditSample]) -> list[Score]:
    with LocalScorer(FakeEngine(identity={"numerics": "group".ljust(64, "n")}), PointwiseJudge()) as judge:
        return judge.score(edits)


def told(sample: EditSample, word: str) -> EditSample:
    return msgspec.structs.replace(sample, instruction=f"{sample.instruction}, {word}")


def children(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [int(line) for line in found.splitlines()]


def everyone(judge: ParallelScorer) -> list[int]:
    """The processes of all ranks."""
    leaders = [process.pid for process in judge.processes if process.is_alive]
    return leaders + [pid for each in leaders for pid in children(each)]


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_group_scores_as_one_engine_and_all_its_processes_end_with_it() -> None:
    edits = samples(12)
    with scorer() as judge:
        pids = everyone(judge)
        assert len(pids) == 3
        assert judge.score(edits) == expected(edits)
        assert judge.stats().num_finished_passes == 2 * 4 * 12, "counted once"
    assert not any(map(is_running, pids))


def test_sleep_ends_the_other_ranks_and_wake_starts_them_again() -> None:
    with scorer() as judge:
        leader, *followers = everyone(judge)
        judge.sleep()
        assert is_running(leader) and not any(map(is_running, followers))
        judge.wake()
        assert len(everyone(judge)) == 3
        assert judge.score(samples(3)) == expected(samples(3))


def test_where_weights_can_move_to_the_host_all_ranks_stay_and_sleep() -> None:
    with scorer("cuda:0+cuda:1") as judge:
        before = judge.score(samples(3))
        pids = everyone(judge)
        judge.sleep()
        assert everyone(judge) == pids
        judge.wake()
        assert everyone(judge) == pids and len(pids) == 2
        assert judge.score(samples(3)) == before == expected(samples(3))
        assert judge.stats().num_requests == 2 * 2 * 3


def test_a_rank_that_cannot_sleep_is_lost_and_says_so() -> None:
    with scorer("cuda:0+cuda:1", model="restless 1") as judge:
        pids = everyone(judge)
        judge.sleep()
        wait_until(lambda: not any(map(is_running, pids)))
        judge.wake()
        assert re.search(r"cuda:1 \(rank 1 of 2\): a step ended with RuntimeError", judge.score(samples(1))[0].message)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("die 2", r"cpu \(rank 2 of 3\): the engine's process ended by signal 9 \(SIGKILL\)"),
        ("die 0", r"the engine's process ended by signal 9 \(SIGKILL\)"),
        ("hang 1", r"1 s after the first rank another is still in a step"),
        ("hang 0", r"cpu \(rank [12] of 3\): a step ended with [0-9a-f]{40}, and on the first rank not at all"),
        ("stumble 1", r"cpu \(rank 1 of 3\): a step ended with RuntimeError, on the first rank with [0-9a-f]{40}"),
        ("stumble 0", r"cpu \(rank [12] of 3\): a step ended with [0-9a-f]{40}, on the first rank with RuntimeError: the model stumbled"),
        ("differ 2", r"cpu \(rank 2 of 3\): a step ended with [0-9a-f]{40}, on the first rank with [0-9a-f]{40}"),
    ],
)
def test_a_rank_that_is_lost_or_astray_is_an_error_that_says_so(word: str, says: str) -> None:
    with scorer() as judge:
        pids = everyone(judge)
        score = judge.score([told(samples(1)[0], word)])[0]
        assert score.status is Status.ERROR and score.overall is None
        assert re.search(r"cpu\+cpu\+cpu \(process 1 of 1\): " + says, score.message), score.message
        wait_until(lambda: not any(map(is_running, pids)))


def test_an_error_on_all_ranks_alike_costs_only_the_sample_at_fault() -> None:
    edits = samples(6)
    with scorer("cpu+cpu") as judge:
        scores = judge.score([*edits[:3], told(edits[3], "stumble all"), *edits[4:]])
        assert "RuntimeError: the model stumbled" in scores[3].message
        assert [*scores[:3], *scores[4:]] == [score for i, score in enumerate(expected(edits)) if i != 3]
        assert judge.score(edits) == expected(edits)


def test_another_group_takes_what_was_under_way_also_when_a_rank_dies_that_has_nothing_to_do() -> None:
    edits = samples(30)
    with scorer("cpu+cpu", "cpu+cpu", model="slow") as judge:
        scores = {}
        for place, score in judge.score_iter(edits):
            if not scores:
                os.kill(children(judge.processes[0].pid)[0], signal.SIGKILL)
            scores[place] = score
        assert [scores[place] for place in range(30)] == expected(edits)
        assert [process.is_alive for process in judge.processes] == [False, True]
        os.kill(children(judge.processes[1].pid)[0], signal.SIGKILL)
        wait_until(lambda: not is_running(judge.processes[1].pid))
        assert "cpu+cpu (process 2 of 2): cpu (rank 1 of 2): the engine's process ended by signal 9" in judge.score(edits[:1])[0].message


@pytest.mark.parametrize(
    ("model", "kind", "says"),
    [
        ("absent 1", InvalidInputError, r"model: no model here"),
        ("broken 2", EngineProcessError, r"RuntimeError: cpu \(rank 2 of 3\): OSError: the disk is gone"),
        ("dying 1", EngineProcessError, r"cpu \(rank 1 of 3\): the engine's process ended with exit code 7"),
    ],
)
def test_a_start_that_fails_on_any_rank_says_why_and_leaves_nothing_behind(model: str, kind: type[Exception], says: str) -> None:
    before = children(os.getpid())
    with pytest.raises(kind, match=says) as caught:
        scorer(model=model)
    assert type(caught.value) is kind
    assert len(children(os.getpid())) <= len(before) + 1, "at most the ps that counted"


def test_a_rank_that_was_stopped_does_not_outlive_its_group() -> None:
    with scorer("cpu+cpu") as judge:
        first, second = everyone(judge)
        os.kill(second, signal.SIGSTOP)
        assert "still in a step" in judge.score(samples(1))[0].message
        wait_until(lambda: not is_running(first) and not is_running(second))


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from test_scoring_tensor_parallel_faults import everyone, samples, scorer
with scorer("cpu+cpu", model="slow") as judge:
    for place, score in judge.score_iter(samples(500)):
        print(*everyone(judge), flush=True)
"""


def test_all_ranks_are_gone_when_the_parent_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", SCRIPT, str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2 and all(map(is_running, pids))
    parent.kill()
    parent.communicate(timeout=20)
    wait_until(lambda: not any(map(is_running, pids)))
