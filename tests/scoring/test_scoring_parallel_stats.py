"""Counters of several processes: together those of one, across sleep and wake, and with those of a process that died."""

from __future__ import annotations

import os
import signal
import time

import torch
from fake_engine import image, samples
from fake_worker import COMMAND

import editscore
from editscore.judges import PointwiseJudge
from editscore.scoring.engines import EngineSpec
from editscore.scoring.parallel import ParallelEngine, ParallelScorer
from editscore.types import EditSample, EngineStats, Status

EDITS = [EditSample(image(i // 3, 84, 84), image(100 + i, 84, 84), f"make it {i}", f"e{i}") for i in range(12)]
# What does not depend on where a request runs; an image is encoded once in all, since its questions meet in one process.
EVERYWHERE = (
    "num_requests",
    "num_finished_passes",
    "num_prompt_tokens",
    "num_images",
    "num_encoded_images",
    "num_sampled_tokens",
    "num_fed_tokens",
    "num_passes",
    "attention",
)


def test_two_processes_count_what_one_counts() -> None:
    torch.set_num_threads(1)
    with editscore.load("nano", cache=None) as scorer:
        scores = scorer.score(EDITS)
        one = scorer.stats()
    with editscore.load("nano", cache=None, devices=["cpu", "cpu"]) as scorer:
        assert isinstance(scorer, ParallelScorer)
        assert scorer.stats().num_requests == 0
        assert scorer.score(EDITS) == scores
        two = scorer.stats()
        parts = [process.stats for process in scorer.processes]
        assert all(part.num_requests for part in parts), "both took part"
        scorer.sleep()
        assert scorer.stats() == two
        scorer.wake()
        scorer.score(EDITS)
        again = scorer.stats()
    assert {name: getattr(two, name) for name in EVERYWHERE} == {name: getattr(one, name) for name in EVERYWHERE}
    assert 0 < two.num_prefilled_tokens <= two.num_prompt_tokens
    for phase, seconds in two.seconds.items():
        assert seconds == sum(part.seconds[phase] for part in parts)
    for name in EVERYWHERE[:-1]:
        assert getattr(again, name) == 2 * getattr(one, name)
    assert scorer.stats() == again, "also when it is closed"


def fake(*models: str) -> ParallelScorer:
    return ParallelScorer(ParallelEngine([EngineSpec(model) for model in models], COMMAND), PointwiseJudge())


def test_what_a_process_did_before_it_died_counts() -> None:
    with fake("slow", "fake") as scorer:
        for _place, _score in scorer.score_iter(samples(60)):
            victim = scorer.processes[0]
            if victim.is_alive and victim.stats.num_finished_passes:
                os.kill(victim.pid, signal.SIGKILL)
        assert [process.is_alive for process in scorer.processes] == [False, True]
        assert victim.stats.num_finished_passes > 0
        stats = scorer.stats()
        alive = scorer.processes[1].stats
        assert stats.num_finished_passes == victim.stats.num_finished_passes + alive.num_finished_passes
        scorer.sleep()
        scorer.wake()
        assert scorer.stats() == stats, "nothing is counted twice, nothing is lost"


def test_a_busy_process_tells_now_and_then_what_it_did() -> None:
    """Also before the first pass has ended, and never less than before."""
    with fake("slow") as scorer:
        futures = [scorer.submit(sample) for sample in samples(12)]
        seen: list[EngineStats] = []
        while not all(future.done() for future in futures):
            seen.append(scorer.stats())
            time.sleep(0.02)
        assert all(future.result().status is Status.OK for future in futures)
        last = scorer.stats()
    steps = [stats.num_steps for stats in seen]
    assert len(set(steps)) > 3 and steps == sorted(steps) and steps[-1] <= last.num_steps
    assert last.num_finished_passes == 2 * 4 * 12
