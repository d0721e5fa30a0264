"""Two CPU processes that share one model over gloo: the answers of one process up to rounding, and no bit that depends on company."""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from fake_engine import image
from fake_ranks import FOLLOW
from test_scoring_tensor_parallel_faults import children, everyone, is_running, wait_until

import editscore
from editscore.cli import main
from editscore.engine import Engine
from editscore.models.vlm import load_model
from editscore.scoring.engines import EngineSpec, open_engine
from editscore.scoring.leader import LeadingEngine
from editscore.scoring.parallel import ParallelEngine, ParallelScorer
from editscore.types import Completion, EditSample, Identity, InvalidInputError, Request, Sampling, Score, Status

sys.path += [str(Path(__file__).parent.parent / room) for room in ("models", "engine")]
EDITS = [EditSample(image(i // 3, 84, 84), image(100 + i, 84, 84), "make the circle red", f"e{i}") for i in range(9)]


def requests_of(count: int) -> list[Request]:
    """Every other one greedy, with log-probabilities of all tokens."""
    from edit_requests import edit_request

    drawn = [edit_request(i, num_images=i % 3, num_passes=2, sampling=Sampling(temperature=i % 2)) for i in range(count)]
    return [msgspec.structs.replace(request, logprobs=True) for request in drawn]


def completions(engine: ParallelEngine, requests: list[Request]) -> list[Completion]:
    """What comes of requests: request-major, passes in order."""
    jobs = {engine.add(request): place for place, request in enumerate(requests)}
    found: dict[tuple[int, int], Completion] = {}
    while len(found) < sum(request.num_passes for request in requests):
        found.update({(jobs[job], completion.pass_index): completion for job, completion in engine.step()})
    return [found[key] for key in sorted(found)]


def test_two_processes_answer_as_one_and_alone_as_in_a_batch(tmp_path: Path) -> None:
    from tiny_checkpoint import write_checkpoint

    torch.set_num_threads(1)
    folder, requests = write_checkpoint(tmp_path / "model", "qwen3_vl"), requests_of(12)
    whole = Engine(load_model(folder))
    expected = whole.generate(requests)
    engine = ParallelEngine([EngineSpec(str(folder), device="cpu+cpu")])
    try:
        together = completions(engine, requests)
        order = random.Random(3).sample(range(12), 12)
        shuffled = completions(engine, [requests[i] for i in order])
        alone = [completion for i in (0, 5, 8) for completion in completions(engine, [requests[i]])]
        differ = {name for name, value in engine.identity().items() if value != whole.identity()[name]}
    finally:
        engine.close()
    assert differ == {"numerics"}
    assert [shuffled[2 * order.index(i) + k] for i in range(12) for k in range(2)] == together
    assert alone == [together[2 * i + k] for i in (0, 5, 8) for k in range(2)]
    assert len({completion.text for completion in together}) > 12
    for i, (mine, theirs) in enumerate(zip(together, expected, strict=True)):
        if not requests[i // 2].sampling.temperature:
            assert mine.text == theirs.text
            assert mine.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)


def test_a_scorer_gives_the_scores_of_one_process_sleeps_wakes_and_says_when_a_rank_is_lost() -> None:
    options: dict[str, Any] = {"cache": None, "judge_settings": {"sampling": {"temperature": 0}}}
    with editscore.load("nano", **options) as one:
        expected = [without_identity(score) for score in one.score(EDITS)]
    scorer = editscore.load("nano", devices=["cpu+cpu"], **options)
    assert isinstance(scorer, ParallelScorer)
    with scorer:
        first, second = everyone(scorer)
        assert [without_identity(score) for score in scorer.score(EDITS)] == expected
        assert {score.status for score in expected} == {Status.OK}
        scorer.sleep()
        assert is_running(first) and not is_running(second)
        scorer.wake()
        assert [without_identity(score) for score in scorer.score(EDITS[::-1])] == expected[::-1]
        (second,) = children(first)
        os.kill(second, signal.SIGSTOP)
        future = scorer.submit(EDITS[0])
        wait_until(lambda: scorer.processes[0].num_passes)
        os.kill(second, signal.SIGKILL)
        message = future.result().message
        assert future.result().status is Status.ERROR
        assert "cpu+cpu (process 1 of 1): cpu (rank 1 of 2): the engine's process ended by signal 9 (SIGKILL)" in message
        wait_until(lambda: not is_running(first))


def without_identity(score: Score) -> Score:
    return msgspec.structs.replace(score, identity=Identity())


def test_a_model_that_does_not_divide_is_refused_before_it_is_loaded() -> None:
    with pytest.raises(InvalidInputError) as caught:
        LeadingEngine(EngineSpec("nano", device="cpu+cpu+cpu"), open_engine, FOLLOW)
    says = "2 key-value heads and 512 columns of the feed-forward blocks do not divide by 3 devices"
    assert str(caught.value) == f"devices: cpu+cpu+cpu: {says}"
    with pytest.raises(InvalidInputError, match="device: 'cuda:77': "):
        LeadingEngine(EngineSpec("nano", device="cuda:77+cuda:78"), open_engine, FOLLOW)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"devices": ["cpu", "cuda:1+cuda:1"]}, "devices: 'cuda:1+cuda:1' needs different devices of one kind"),
        ({"devices": ["cpu+cuda:1"]}, "devices: 'cpu+cuda:1' needs different devices of one kind"),
        ({"devices": ["cpu+"]}, "devices: 'cpu+' needs different devices of one kind"),
        ({"device": "cpu+cpu"}, "device: 'cpu+cpu' joins several, which goes with devices=['cpu+cpu']"),
        ({"devices": ["cpu+cpu"], "model": "no such model"}, "model: no model 'no such model'"),
    ],
)
def test_devices_that_cannot_share_a_model_are_named(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        editscore.load(**{"model": "nano", "cache": None, **options})
    assert str(caught.value).startswith(says)


def test_the_command_takes_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = tmp_path / "edits.jsonl"
    manifest.write_text('{"source": "a.png", "edited": "b.png", "instruction": "make it red"}')
    run = ["score", "--input", str(manifest), "--output", str(tmp_path / "scores.jsonl")]
    assert main([*run, "--devices", "cuda:0+cuda:1,cpu+cuda:2"]) == 2
    assert "devices: 'cpu+cuda:2' needs different devices" in capsys.readouterr().err
