"""Engine processes that die, stumble, refuse and disagree, and how all of them end; with fake engines in real processes."""

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
from fake_worker import COMMAND

from editscore.judges import PointwiseJudge
from editscore.scoring import LocalScorer, ResultCache
from editscore.scoring.engines import EngineSpec
from editscore.scoring.parallel import EngineProcessError, ParallelEngine, ParallelScorer
from editscore.types import EditSample, InvalidInputError, Request, Score, Status


def scorer(*models: str, device: str = "cpu", **options: Any) -> ParallelScorer:
    specs = [EngineSpec(model, device=device) for model in models or ("fake", "fake")]
    return ParallelScorer(ParallelEngine(specs, COMMAND), PointwiseJudge(), **options)


def in_one_process(edits: list[EditSample], passes: int = 4) -> list[Score]:
    """The truth: a fake engine in this process, which no instruction disturbs."""
    with LocalScorer(FakeEngine(identity={"numerics": "cpu".ljust(64, "n")}), PointwiseJudge()) as judge:
        return judge.score(edits, passes)


def told(sample: EditSample, word: str) -> EditSample:
    return msgspec.structs.replace(sample, instruction=f"{sample.instruction}, {word}")


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


def test_a_process_killed_in_the_middle_loses_nothing_and_the_rest_go_on() -> None:
    edits = samples(40)
    expected = in_one_process(edits)
    with scorer("slow", "slow", "slow") as judge:
        scores = {}
        for place, score in judge.score_iter(edits):
            scores[place] = score
            if len(scores) == 3:
                assert all(process.num_passes for process in judge.processes)
                os.kill(judge.processes[1].pid, signal.SIGKILL)
        assert [scores[place] for place in range(40)] == expected
        assert [process.is_alive for process in judge.processes] == [True, False, True]
        assert judge.score(edits[:5]) == expected[:5]
        assert all(process.num_passes == 0 and not process.images for process in judge.processes if process.is_alive)


def test_a_sample_that_kills_its_process_costs_two_and_the_third_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    edits = samples(6)
    with scorer("slow", "slow", "slow") as judge:
        first = [judge.submit(sample) for sample in edits[:3]]
        wait_until(lambda: all(process.num_passes for process in judge.processes))
        poison = judge.score([told(edits[3], "die")])[0]
        assert poison.status is Status.ERROR and poison.overall is None
        assert re.search(r"cpu \(process \d of 3\): the engine's process ended by signal 9 \(SIGKILL\), the second", poison.message)
        done = [future.result() for future in first]
        assert [process.is_alive for process in judge.processes].count(True) == 1
        assert {score.status for score in done} <= {Status.OK, Status.ERROR}, "none is lost"
        expected = in_one_process(edits)
        assert [score.overall for score in judge.score(edits)] == [score.overall for score in expected]
    assert "requests were under way there" in caplog.text


def test_with_no_process_left_every_sample_is_an_error_that_names_the_device() -> None:
    edits = samples(12)
    with scorer("slow", "slow") as judge:
        futures = [judge.submit(sample) for sample in edits]
        wait_until(lambda: all(process.num_passes for process in judge.processes))
        for process in judge.processes:
            os.kill(process.pid, signal.SIGKILL)
        scores = [future.result() for future in futures] + judge.score(edits[:2])
        assert {score.status for score in scores} == {Status.ERROR}
        assert all("cpu (process " in score.message and "SIGKILL" in score.message for score in scores)
        assert "no engine's process is left" in scores[-1].message
        judge.sleep()
        judge.wake()
        assert judge.score(edits[:1])[0].status is Status.ERROR


def test_a_step_that_fails_costs_only_the_sample_at_fault_and_a_refusal_too() -> None:
    edits = samples(9)
    expected = in_one_process(edits, 2)
    with scorer() as judge:
        for word, says in (("stumble", "RuntimeError: the model stumbled"), ("refuse", "MemoryError: no room for this one")):
            scores = judge.score([*edits[:4], told(edits[4], word), *edits[5:]], passes=2)
            assert [s for i, s in enumerate(scores) if i != 4] == [s for i, s in enumerate(expected) if i != 4]
            assert scores[4].status is Status.ERROR and says in scores[4].message
        assert judge.score(edits, passes=2) == expected
        assert all(process.is_alive and process.num_passes == 0 and not process.images for process in judge.processes)


def test_steps_that_fail_in_both_processes_at_once_leave_nobody_waiting() -> None:
    edits = [told(sample, "stumble") for sample in samples(6)]
    with scorer("slow", "slow") as judge:
        assert [score.status for score in judge.score(edits)] == [Status.ERROR] * 6
        assert judge.score(samples(3)) == in_one_process(samples(3))


def test_a_step_that_failed_for_a_cancelled_request_is_not_blamed_on_the_next() -> None:
    bad, good = (request_of(sample) for sample in (told(samples(1)[0], "stumble"), samples(1)[0]))
    engine = ParallelEngine([EngineSpec("fake")], COMMAND)
    engine.cancel(engine.add(bad))
    job = engine.add(bad)
    time.sleep(0.3)  # by now the step has failed, and nobody has heard of it
    engine.cancel(job)
    job, passes = engine.add(good), []
    while len(passes) < good.num_passes:
        passes += engine.step()
    assert {number for number, _ in passes} == {job}
    engine.close()


def request_of(sample: EditSample) -> Request:
    return next(PointwiseJudge().run(sample, num_passes=4, seed=1))[0]


@pytest.mark.parametrize(
    ("models", "kind", "says"),
    [
        (("fake", "absent"), InvalidInputError, "model: no model 'absent'"),
        (("broken", "fake"), EngineProcessError, r"cpu \(process 1 of 2\): OSError: the disk is gone"),
        (("fake", "dying"), EngineProcessError, r"cpu \(process 2 of 2\): the engine's process ended with exit code 7"),
    ],
)
def test_a_start_that_fails_says_why_and_leaves_nothing_behind(models: tuple[str, ...], kind: type[Exception], says: str) -> None:
    before = children()
    with pytest.raises(kind, match=says) as caught:
        scorer(*models)
    assert type(caught.value) is kind
    assert children() == before


def children() -> set[int]:
    found = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True).stdout
    return {int(line.split()[0]) for line in found.splitlines() if "ps -o" not in line}


def test_processes_that_would_score_differently_are_an_error() -> None:
    specs = [EngineSpec("fake", device="cpu"), EngineSpec("fake", device="tpu")]
    with pytest.raises(InvalidInputError, match=r"devices: cpu \(process 1 of 2\) and tpu \(process 2 of 2\) .* numerics differ"):
        ParallelEngine(specs, COMMAND)


def test_a_child_that_sends_no_records_is_an_error_and_prints_are_none() -> None:
    with pytest.raises(EngineProcessError, match="something else than records"):
        ParallelEngine([EngineSpec("")], (sys.executable, "-c", "print('hello, hello')"))
    edits = samples(2)
    with scorer("babbling") as judge:
        assert judge.score(edits) == in_one_process(edits)


def test_the_cache_stays_with_the_parent(tmp_path: Path) -> None:
    edits = samples(10)
    with scorer(cache=ResultCache(tmp_path)) as judge:
        first = judge.score(edits, passes=2)
    with LocalScorer(
        FakeEngine(lambda r, i: pytest.fail("asked"), {"numerics": "cpu".ljust(64, "n")}), PointwiseJudge(), cache=ResultCache(tmp_path)
    ) as one:
        assert one.score(edits, passes=2) == first


def test_leaving_a_loop_early_cancels_the_rest_and_leaves_no_trace() -> None:
    edits = samples(60)
    with scorer("slow", "slow") as judge:
        next(judge.score_iter(edits))
        wait_until(lambda: all(process.num_passes == 0 and not process.images for process in judge.processes))
        assert judge.score(edits[:3]) == in_one_process(edits[:3])


def test_children_are_gone_after_close_also_in_the_middle_of_a_step() -> None:
    judge = scorer("slow", "slow")
    pids = [process.pid for process in judge.processes]
    futures = [judge.submit(sample) for sample in samples(20)]
    with pytest.raises(ZeroDivisionError), judge:
        raise ZeroDivisionError
    assert not any(map(is_running, pids)) and all(future.done() for future in futures)
    judge.close()
    forgotten = scorer()
    pids = [process.pid for process in forgotten.processes]
    del forgotten
    assert not any(map(is_running, pids))


SCRIPT = """
import os, sys
sys.path.insert(0, sys.argv[1])
from test_scoring_parallel_faults import samples, scorer
with scorer("slow", "slow") as judge:
    for place, score in judge.score_iter(samples(500)):
        print(*(process.pid for process in judge.processes), flush=True)
"""


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_children_are_gone_when_the_parent_is_killed_or_interrupted(kind: signal.Signals) -> None:
    def heed_interrupts() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent)]
    parent = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heed_interrupts
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2 and all(map(is_running, pids))
    if kind is signal.SIGINT:
        os.killpg(parent.pid, kind)  # as a terminal does
    else:
        parent.send_signal(kind)
    _, errors = parent.communicate(timeout=20)
    wait_until(lambda: not any(map(is_running, pids)))
    assert parent.returncode == -kind
    if kind is signal.SIGINT:
        assert errors.count("Traceback") == errors.count("KeyboardInterrupt") == 1, errors
    else:
        assert not errors
