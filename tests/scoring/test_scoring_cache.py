"""The result cache: what must hit, what must miss, and that damage never becomes a score."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_engine import FakeEngine, image, infrastructure_failure, instruction_of, samples, scripted

from editscore.judges import PointwiseJudge
from editscore.scoring import CacheWarning, LocalScorer, ResultCache, cache_folder, pass_key
from editscore.types import Completion, EditSample, FinishReason, Message, Request, Score, Status, Text, TextPart

EDIT = EditSample(image(1), image(2), "make the cat blue")
ANSWER = Completion(0, "text", FinishReason.STOP, tokens=(1, 2, 3))
KEY = b"k" * 32


def run(folder: Path, engine: FakeEngine, *, sample: EditSample = EDIT, passes: int = 4, seed: int = 42, **settings: Any) -> Score:
    settings = {"max_retries": 0, **settings}
    with LocalScorer(engine, PointwiseJudge.from_settings(settings), cache=ResultCache(folder)) as scorer:
        return scorer.score([sample], passes=passes, seed=seed)[0]


def num_asked(folder: Path, **options: Any) -> int:
    """How many passes a run still has to ask the engine for."""
    engine = options.pop("engine", FakeEngine())
    run(folder, engine, **options)
    return len(engine.passes_asked)


def test_the_second_run_asks_nothing_and_says_the_same(tmp_path: Path) -> None:
    first = run(tmp_path, FakeEngine())
    engine = FakeEngine()
    assert run(tmp_path, engine) == first
    assert engine.added == [] and engine.num_steps == 0


def test_eight_passes_reuse_four_and_ask_for_the_contiguous_rest(tmp_path: Path) -> None:
    four = run(tmp_path, FakeEngine(), passes=4)
    engine = FakeEngine()
    eight = run(tmp_path, engine, passes=8)
    assert [(r.first_pass, r.num_passes) for r in engine.added] == [(4, 4), (4, 4)]
    assert eight.passes[:4] == four.passes
    assert eight == run(tmp_path / "other", FakeEngine(), passes=8), "as if it had been asked for at once"
    assert num_asked(tmp_path, passes=2) == 0


def test_a_hole_in_the_middle_is_filled(tmp_path: Path) -> None:
    def loses_two(request: Request, index: int) -> Completion:
        return infrastructure_failure(index) if index in (1, 4) else scripted(request, index)

    run(tmp_path, FakeEngine(loses_two), passes=6)
    engine = FakeEngine()
    assert run(tmp_path, engine, passes=6).num_failed_passes == 0
    assert [(r.first_pass, r.num_passes) for r in engine.added] == [(1, 1), (4, 1)] * 2


MISSES: dict[str, dict[str, Any]] = {
    "temperature": {"sampling": {"temperature": 0.8}},
    "top_p": {"sampling": {"top_p": 0.8}},
    "range": {"score_range": 10},
    "prompts": {"prompts": "nano"},
    "limit": {"max_reasoning_tokens": 100},
    "seed": {"seed": 43},
    "source": {"sample": EditSample(image(9), image(2), EDIT.instruction)},
    "edited": {"sample": EditSample(image(1), image(9), EDIT.instruction)},
    "instruction": {"sample": EditSample(image(1), image(2), "make the cat blue ")},
    "model": {"engine": FakeEngine(identity={"model": "x" * 64})},
    "adapter": {"engine": FakeEngine(identity={"adapter": "a" * 64})},
    "pixels": {"engine": FakeEngine(identity={"preprocessing": "x" * 64})},
    "numerics": {"engine": FakeEngine(identity={"numerics": "x" * 64})},
    "head": {"domain": {"head": "in_domain"}},
}
# PQ sees neither source nor instruction nor head: its passes may come from the cache.
HALF = {"source", "instruction", "head"}


@pytest.mark.parametrize("name", MISSES)
def test_what_decides_an_answer_is_in_the_key(tmp_path: Path, name: str) -> None:
    run(tmp_path, FakeEngine())
    assert num_asked(tmp_path, **MISSES[name]) == (4 if name in HALF else 8)
    assert num_asked(tmp_path) == 0


def test_aggregation_and_retries_only_read_the_same_answers(tmp_path: Path) -> None:
    run(tmp_path, FakeEngine())
    assert num_asked(tmp_path, aggregation="average_first") == 0
    assert num_asked(tmp_path, max_retries=2) == 0


def test_identity_keys_do_not_run_into_each_other() -> None:
    request = Request((Message("user", (TextPart("x"),)),), (Text(3),))
    keys = {
        pass_key(request, 0, {"model": "ab", "adapter": ""}),
        pass_key(request, 0, {"model": "a", "adapter": "b"}),
        pass_key(request, 0, {"model": "", "adapter": "ab"}),
        pass_key(request, 1, {"model": "ab", "adapter": ""}),
    }
    assert len(keys) == 4
    assert pass_key(request, 0, {"a": "1", "b": "2"}) == pass_key(msgspec.structs.replace(request, num_passes=7), 0, {"b": "2", "a": "1"})


def test_failures_of_the_machine_are_not_kept_and_answers_of_the_model_are(tmp_path: Path) -> None:
    answers = {
        "lost": infrastructure_failure(0),
        "cancelled": Completion(0, "", FinishReason.CANCELLED),
        "refused": Completion(0, "I'm sorry, but I can't assist with that.", FinishReason.STOP),
        "cut": Completion(0, "so far", FinishReason.LENGTH),
        "broken": Completion(0, "no verdict", FinishReason.STOP),
    }
    statuses = {}
    for name, answer in answers.items():
        sample = EditSample(image(1), image(2), name)

        def reply(request: Request, index: int, answer: Completion = answer) -> Completion:
            return answer if instruction_of(request).count("quoted: ") else scripted(request, index)

        statuses[name] = run(tmp_path, FakeEngine(reply), sample=sample, passes=1).status
        asked = num_asked(tmp_path, engine=FakeEngine(reply), sample=sample, passes=1)
        assert asked == (1 if name in ("lost", "cancelled") else 0), name
    assert statuses == {
        "lost": Status.ERROR,
        "cancelled": Status.ERROR,
        "refused": Status.REFUSED,
        "cut": Status.TRUNCATED,
        "broken": Status.PARSE_FAILED,
    }


def test_without_a_cache_everything_is_asked_again_and_nothing_is_written(tmp_path: Path) -> None:
    engine = FakeEngine()
    with LocalScorer(engine, PointwiseJudge()) as scorer:
        scorer.score([EDIT])
        scorer.score([EDIT])
    assert len(engine.passes_asked) == 16
    assert not list(tmp_path.iterdir())


def damage(path: Path, how: str, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if how == "rubbish":
        data = bytearray(rng.randbytes(len(data)))
    elif how == "cut":
        data = data[: len(data) // 2]
    elif how == "empty":
        data = bytearray()
    else:
        for _ in range(60):
            data[rng.randrange(0 if how == "bits" else 4096, len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["rubbish", "cut", "empty", "bits", "bits in the entries"])
@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_file_never_gives_a_wrong_score(tmp_path: Path, how: str, seed: int) -> None:
    edits = samples(12)
    judge = PointwiseJudge()
    with LocalScorer(FakeEngine(), judge, cache=ResultCache(tmp_path)) as scorer:
        right = scorer.score(edits)
    (path,) = tmp_path.glob("*.sqlite")
    damage(path, how, random.Random(seed))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with LocalScorer(FakeEngine(), judge, cache=ResultCache(tmp_path)) as scorer:
            assert scorer.score(edits) == right
            assert scorer.score(edits) == right
    assert all(issubclass(w.category, CacheWarning) and "built anew" in str(w.message) for w in seen)
    engine = FakeEngine()
    with LocalScorer(engine, judge, cache=ResultCache(tmp_path)) as scorer:
        assert scorer.score(edits) == right
    if how in ("rubbish", "cut"):
        assert len(seen) == 1, "damage is said"
        assert not engine.added, "and the file is good again"


def test_an_entry_under_another_key_is_not_believed(tmp_path: Path) -> None:
    """A swapped entry is a valid completion, of another question."""
    cache = ResultCache(tmp_path)
    cache.put([(KEY, ANSWER), (b"l" * 32, msgspec.structs.replace(ANSWER, text="other"))])
    cache.close()
    with sqlite3.connect(tmp_path / "passes-v1.sqlite") as connection:
        (other,) = connection.execute("SELECT value FROM passes WHERE key = ?", (b"l" * 32,)).fetchone()
        connection.execute("UPDATE passes SET value = ? WHERE key = ?", (other, KEY))
    with pytest.warns(CacheWarning, match="built anew"):
        assert cache.get([KEY]) == {}
    cache.put([(KEY, ANSWER)])
    assert cache.get([KEY, b"z" * 32]) == {KEY: ANSWER}


def test_a_folder_that_cannot_be_used_switches_the_cache_off(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = ResultCache(tmp_path / "file" / "below")
    with pytest.warns(CacheWarning, match="off"):
        cache.put([(KEY, ANSWER)])
    assert cache.get([KEY]) == {}


WRITER = """
import sys
from editscore.scoring import ResultCache
from editscore.types import Completion, FinishReason
cache = ResultCache(sys.argv[1])
first = int(sys.argv[2])
for start in range(first, first + 300, 10):
    keys = [b"%032d" % i for i in range(start, start + 10)]
    cache.put([(key, Completion(0, key.decode(), FinishReason.STOP)) for key in keys])
    assert {k: c.text for k, c in cache.get(keys).items()} == {k: k.decode() for k in keys}
"""


def spawn(folder: Path, first: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", WRITER, str(folder), str(first)], env=environment, text=True, stderr=subprocess.PIPE
    )


def test_several_processes_write_at_once(tmp_path: Path) -> None:
    writers = [spawn(tmp_path, first) for first in (0, 200, 400, 600)]  # neighbours overlap by 100 keys
    for writer in writers:
        _, errors = writer.communicate(timeout=100)
        assert writer.returncode == 0, errors
    found = ResultCache(tmp_path).get([b"%032d" % i for i in range(900)])
    assert {k: c.text for k, c in found.items()} == {b"%032d" % i: f"{i:032d}" for i in range(900)}


def test_a_process_that_is_killed_leaves_a_sound_file(tmp_path: Path) -> None:
    writer = spawn(tmp_path, 0)
    while not list(tmp_path.glob("*.sqlite")) and writer.poll() is None:
        pass
    writer.kill()
    writer.communicate()
    cache = ResultCache(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(c.text == k.decode() for k, c in cache.get([b"%032d" % i for i in range(300)]).items())
        cache.put([(KEY, ANSWER)])
        assert cache.get([KEY]) == {KEY: ANSWER}


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "editscore"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder().is_absolute()
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder().is_relative_to(tmp_path)
