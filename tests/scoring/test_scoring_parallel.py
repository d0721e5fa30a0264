"""Several devices: two CPU processes with the embedded judge give the scores of one."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from fake_engine import image

import editscore
from editscore.cli import main
from editscore.engine import EngineConfig
from editscore.scoring.parallel import ParallelScorer
from editscore.scoring.wire import Picture
from editscore.types import EditSample, Image, InvalidInputError, Score, Status

# Eight sources, three candidates each.
EDITS = [
    EditSample(image(i // 3, 84, 84), image(100 + i, 84, 84), f"make the {word} red", f"e{i}")
    for i, word in enumerate(("circle", "square", "star") * 8)
]


@pytest.fixture(scope="module")
def expected() -> tuple[editscore.Scorer, dict[str, Score]]:
    torch.set_num_threads(1)
    scorer = editscore.load("nano", cache=None)
    return scorer, {score.id: score for score in scorer.score(EDITS)}


@pytest.fixture(scope="module")
def pair() -> Iterator[ParallelScorer]:
    with load(devices=["cpu", "cpu"]) as scorer:
        yield scorer


def load(**options: Any) -> ParallelScorer:
    scorer = editscore.load("nano", cache=None, **options)
    assert isinstance(scorer, ParallelScorer)
    return scorer


def test_scores_and_identity_are_those_of_one_process_in_any_order(
    pair: ParallelScorer, expected: tuple[editscore.Scorer, dict[str, Score]]
) -> None:
    alone, scores = expected
    assert pair.identity() == alone.identity()
    assert {score.status for score in scores.values()} == {Status.OK}
    assert pair.score(EDITS) == list(scores.values())
    shuffled = random.Random(1).sample(EDITS, len(EDITS))
    assert {shuffled[place].id: score for place, score in pair.score_iter(shuffled)} == scores
    assert pair.submit(EDITS[5]).result() == scores["e5"]


def test_every_image_goes_to_one_process_and_so_all_candidates_of_a_source(pair: ParallelScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, str]] = []

    def spy(number: int) -> None:
        send = pair.processes[number].send

        def note(*records: Any) -> None:
            sent.extend((number, record.image.digest) for record in records if isinstance(record, Picture))
            send(*records)

        monkeypatch.setattr(pair.processes[number], "send", note)

    spy(0)
    spy(1)
    pair.score(EDITS)
    digests = {picture.digest for edit in EDITS for picture in (edit.source, edit.edited) if isinstance(picture, Image)}
    assert sorted(digest for _, digest in sent) == sorted(digests), "each image crosses once, to one process"
    assert {number for number, _ in sent} == {0, 1}


def test_sleep_and_wake_reach_every_process(pair: ParallelScorer, expected: tuple[editscore.Scorer, dict[str, Score]]) -> None:
    before = [resident_kb(process.pid) for process in pair.processes]
    pair.sleep()
    assert all(resident_kb(process.pid) < kb for process, kb in zip(pair.processes, before, strict=True))
    with pytest.raises(RuntimeError, match="asleep"):
        pair.score(EDITS[:1])
    pair.wake()
    assert pair.score(EDITS[:3]) == [expected[1][f"e{i}"] for i in range(3)]


def resident_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def test_two_scorers_at_once_do_not_disturb_each_other_even_if_a_process_of_one_is_killed(
    pair: ParallelScorer, expected: tuple[editscore.Scorer, dict[str, Score]]
) -> None:
    scores = expected[1]
    mine: list[list[Score]] = []
    config = EngineConfig(max_rows=100)
    with load(devices=["cpu", "cpu"], engine_config=config) as other:
        thread = threading.Thread(target=lambda: mine.append(pair.score(EDITS)))
        thread.start()
        theirs = {}
        for place, score in other.score_iter(EDITS):
            if not theirs:
                os.kill(other.processes[0].pid, signal.SIGKILL)
            theirs[EDITS[place].id] = score
        thread.join()
        assert [process.is_alive for process in other.processes] == [False, True]
    assert theirs == scores
    assert mine == [list(scores.values())]
    assert all(process.is_alive for process in pair.processes)


def test_the_engines_configuration_reaches_the_process() -> None:
    with load(devices=["cpu"], engine_config=EngineConfig(max_prompt_tokens=10)) as scorer:
        (score,) = scorer.score(EDITS[:1], passes=1)
    assert score.status is Status.INVALID_INPUT and "tokens" in score.message


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"model": "no such model"}, "model: no model 'no such model'"),
        ({"device": "cpu"}, "devices: give either device or devices"),
        ({"devices": []}, "devices: needs a list"),
        ({"devices": "cpu,cpu"}, "devices: needs a list"),
        ({"adapter": "no such adapter"}, "adapter: no model 'no such adapter'"),
        ({"devices": ["abacus"]}, "device: 'abacus': Expected one of"),
        ({"devices": ["cuda:77"]}, "device: 'cuda:77': "),
    ],
)
def test_what_is_wrong_is_named_as_in_one_process(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        editscore.load(**{"model": "nano", "devices": ["cpu"], "cache": None, **options})
    assert str(caught.value).startswith(says)


def test_the_command_writes_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "groups"
    assert main(["world", "make", "--num", "3", "--edits", "2", "--output", str(folder)]) == 0
    with (folder / "manifest.jsonl").open("a") as file:
        file.write(json.dumps({"id": "gone", "source": "gone.png", "edited": "gone.png", "instruction": "make it red"}) + "\n")
    run = ["score", "--input", str(folder), "--passes", "2", "--no-cache", "--output"]
    assert main([*run, str(tmp_path / "one.jsonl"), "--device", "cpu"]) == 1
    assert main([*run, str(tmp_path / "two.jsonl"), "--devices", "cpu,cpu"]) == 1
    one, two = ((tmp_path / name).read_bytes() for name in ("one.jsonl", "two.jsonl"))
    assert two == one and one.count(b'"status":"ok"') >= 6
    capsys.readouterr()
    assert main([*run, str(tmp_path / "no.jsonl"), "--device", "cpu", "--devices", "cpu"]) == 2
    assert "devices: give either device or devices" in capsys.readouterr().err
    assert msgspec.json.decode(two.splitlines()[-1])["message"].startswith("manifest.jsonl:7: source: ")
