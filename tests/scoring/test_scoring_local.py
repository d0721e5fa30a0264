"""The local scorer: order, isolation of failures, no barriers, cancelling, threads."""

from __future__ import annotations

import json
import math
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fake_engine import FakeEngine, image, infrastructure_failure, instruction_of, pair_of, samples, scripted

from editscore.judges import PointwiseConfig, PointwiseJudge
from editscore.scoring import LocalScorer
from editscore.types import (
    Completion,
    EditSample,
    FinishReason,
    Identity,
    InvalidInputError,
    Request,
    Score,
    Status,
)


def scorer(engine: FakeEngine | None = None, **options: Any) -> LocalScorer:
    return LocalScorer(engine or FakeEngine(), PointwiseJudge(), **options)


def by_hand(sample: EditSample, passes: int, seed: int = 42) -> float:
    """The overall that the script implies, from the requests alone."""
    sc, pq = next(PointwiseJudge().run(sample, num_passes=passes, seed=seed))
    overalls = [math.sqrt(min(pair_of(sc, i)) * 0.4 * min(pair_of(pq, i)) * 0.4) for i in range(passes)]
    return sum(overalls) / passes


def test_scores_come_in_the_order_of_the_samples_with_the_right_numbers() -> None:
    edits = samples(150)
    engine = FakeEngine()
    with scorer(engine) as judge:
        scores = judge.score(edits, passes=3)
    assert [s.id for s in scores] == [str(i) for i in range(150)]
    for sample, score in zip(edits, scores, strict=True):
        assert score.status is Status.OK
        assert score.overall == pytest.approx(by_hand(sample, 3), abs=1e-9)
    assert engine.most_in_flight > 64, "many samples are at work at once"
    assert engine.most_in_flight <= 2 * 64


def test_a_score_says_what_made_it() -> None:
    with scorer(seed=9) as judge:
        (one,) = judge.score([EditSample(image(1), image(2), "edit", "mine")], passes=2)
        (other,) = judge.score(samples(1), passes=1, seed=5)
        identity = judge.identity()
    assert (one.id, one.judge, one.seed, one.num_passes, other.seed) == ("mine", "pointwise", 9, 2, 5)
    assert one.identity == identity == Identity("m" * 64, "", PointwiseJudge().prompts_digest, "p" * 64, "n" * 64)
    average_first = LocalScorer(FakeEngine(), PointwiseJudge(PointwiseConfig(aggregation="average_first")))
    assert average_first.identity() != identity


def test_a_score_is_the_same_alone_in_a_crowd_and_shuffled() -> None:
    edits = [msgspec.structs.replace(sample, id=f"s{i}") for i, sample in enumerate(samples(40))]
    shuffled = random.Random(3).sample(edits, len(edits))
    with scorer() as judge:
        crowd = {score.id: score for score in judge.score(edits)}
        other = {score.id: score for score in judge.score(shuffled)}
        alone = {edits[i].id: judge.score([edits[i]])[0] for i in (0, 7, 39)}
    assert crowd == other
    assert all(crowd[name] == score for name, score in alone.items())


def test_bad_input_is_a_score_that_names_the_field_and_the_rest_is_scored(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    good = samples(2)
    edits = [
        good[0],
        EditSample(str(tmp_path / "absent.png"), image(1), "edit"),
        EditSample(image(1), str(broken), "edit"),
        EditSample(image(1), image(2), "  "),
        EditSample(image(1), image(2), "x" * 10_001),
        good[1],
    ]
    with scorer() as judge:
        scores = judge.score(edits, passes=1)
    assert [s.status for s in scores] == [Status.OK, *[Status.INVALID_INPUT] * 4, Status.OK]
    assert [s.message.split(":")[0] for s in scores[1:5]] == ["source", "edited", "instruction", "instruction"]
    assert "absent.png" in scores[1].message and "broken.png" in scores[2].message
    assert all(s.overall is None and not s.passes for s in scores[1:5])


def test_arguments_are_checked_before_anything_runs() -> None:
    with scorer() as judge:
        for passes, seed, field in ((0, 1, "passes"), (1, -1, "seed"), (1, 2**63, "seed")):
            for call in (judge.score, judge.score_iter):
                with pytest.raises(InvalidInputError) as caught:
                    call(samples(1), passes, seed)
                assert caught.value.field == field
        assert judge.score([]) == []


def test_a_request_that_the_engine_refuses_is_an_error_of_its_sample() -> None:
    engine = FakeEngine()
    engine.refuses = lambda request: "number 3" in instruction_of(request)
    with scorer(engine) as judge:
        scores = judge.score(samples(6), passes=2)
    assert [s.status for s in scores] == [Status.OK] * 3 + [Status.ERROR] + [Status.OK] * 2
    assert scores[3].message == "MemoryError: no room for this one"


def test_a_step_that_fails_costs_only_the_sample_at_fault() -> None:
    engine = FakeEngine()
    engine.breaks = lambda request: "number 3" in instruction_of(request)
    expected = scorer().score(samples(9), passes=2)
    with scorer(engine, max_active=5) as judge:
        scores = judge.score(samples(9), passes=2)
    assert scores[3].status is Status.ERROR
    assert scores[3].message == "RuntimeError: the model stumbled"
    assert [s for i, s in enumerate(scores) if i != 3] == [s for i, s in enumerate(expected) if i != 3]


def test_an_engine_that_always_fails_ends_in_errors_not_in_a_hang() -> None:
    engine = FakeEngine()
    engine.breaks = lambda request: True
    with scorer(engine, max_active=4) as judge:
        assert {s.status for s in judge.score(samples(10), passes=2)} == {Status.ERROR}


def test_lost_passes_are_errors_of_their_sample() -> None:
    def answer(request: Request, index: int) -> Completion:
        return infrastructure_failure(index) if "number 1" in instruction_of(request) else scripted(request, index)

    with scorer(FakeEngine(answer)) as judge:
        scores = judge.score(samples(3), passes=2)
    assert [s.status for s in scores] == [Status.OK, Status.ERROR, Status.OK]
    assert "a card fell off the bus" in scores[1].message


def test_a_judge_goes_on_while_others_wait() -> None:
    """The first sample needs a retry. It is asked again before the others have been answered: there is no barrier."""
    seen: list[tuple[str, int]] = []

    def answer(request: Request, index: int) -> Completion:
        name = "retry" if request.seed != 42 else instruction_of(request)
        seen.append((name, index))
        is_bad = "number 19" in name
        return Completion(index, "?", FinishReason.STOP) if is_bad else scripted(request, index)

    with scorer(FakeEngine(answer, per_step=1)) as judge:
        scores = judge.score(samples(20), passes=2)
    assert {s.status for s in scores} == {Status.OK}
    places = [i for i, (name, _) in enumerate(seen) if name == "retry"]
    assert places and max(places) < len(seen) // 2


class PatientEngine(FakeEngine):
    """Answers nothing before every sample is in, and then lets a few steps pass in which the driver can take them."""

    def __init__(self) -> None:
        super().__init__()
        self.all_in = threading.Event()
        self.num_held = 0

    def step(self) -> list[tuple[int, Completion]]:
        assert self.all_in.wait(30)
        self.num_held += 1
        return super().step() if self.num_held > 3 else []


def test_the_same_question_in_flight_is_asked_once() -> None:
    engine = PatientEngine()
    one = samples(1)[0]
    other = EditSample(image(50), one.edited, "another source, the same edited image")

    def edits() -> Iterator[EditSample]:
        yield from (one, one, other, one)
        engine.all_in.set()

    with scorer(engine) as judge:
        scores = dict(judge.score_iter(edits(), passes=3))
    assert len(set(engine.passes_asked)) == len(engine.passes_asked) == 3 * (2 + 1)
    assert scores[0].overall == scores[1].overall == scores[3].overall
    assert [p.pq_raw for p in scores[2].passes] == [p.pq_raw for p in scores[0].passes]


def test_samples_are_taken_as_they_are_needed_and_leaving_early_cancels() -> None:
    taken: list[int] = []

    def endless() -> Iterator[EditSample]:
        number = 0
        while True:
            taken.append(number)
            yield samples(1, number)[0]
            number += 1

    engine = FakeEngine()
    with scorer(engine, max_active=8) as judge:
        for count, (_place, score) in enumerate(judge.score_iter(endless(), passes=2)):
            assert score.status is Status.OK
            if count == 20:
                break
        assert len(taken) <= 21 + 2 * 8
        assert judge.score(samples(2), passes=1)[1].status is Status.OK, "the scorer is still good"
    assert not engine._open, "nothing is left in the engine"


def test_submit_and_concurrent_callers() -> None:
    edits = samples(24)
    with scorer() as judge:
        expected = [s.overall for s in judge.score(edits, passes=2)]
        futures = [judge.submit(sample, passes=2) for sample in edits]
        results: dict[int, list[float | None]] = {}
        threads = [
            threading.Thread(target=lambda n=n: results.update({n: [s.overall for s in judge.score(edits, passes=2)]})) for n in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        assert [future.result(timeout=60).overall for future in futures] == expected
        assert results == {n: expected for n in range(3)}
        bad = judge.submit(EditSample("absent.png", image(1), "edit"))
        assert bad.result(timeout=1).status is Status.INVALID_INPUT


def test_the_engine_is_used_by_one_thread_at_a_time_and_no_thread_stays() -> None:
    inside: list[int] = []

    class Watched(FakeEngine):
        def step(self) -> list[tuple[int, Completion]]:
            inside.append(1)
            assert len(inside) == 1
            done = super().step()
            inside.pop()
            return done

    with scorer(Watched()) as judge:
        futures = [judge.submit(sample) for sample in samples(30)]
        assert all(f.result(timeout=60).status is Status.OK for f in futures)
    assert not [t for t in threading.enumerate() if t.name == "editscore-engine"]


def test_closing_finishes_what_was_submitted_and_an_error_in_the_block_cancels_it() -> None:
    with scorer(FakeEngine(per_step=1)) as judge:
        futures = [judge.submit(sample) for sample in samples(10)]
    assert all(f.done() and f.result().status is Status.OK for f in futures)
    with pytest.raises(RuntimeError, match="closed"):
        judge.score(samples(1))
    engine = FakeEngine(per_step=0)  # never answers
    with pytest.raises(ZeroDivisionError), scorer(engine) as judge:
        futures = [judge.submit(sample) for sample in samples(10)]
        _ = 1 / 0
    assert all(f.done() for f in futures)


def test_a_scorer_that_sleeps_refuses_work_until_it_wakes_and_then_scores_the_same() -> None:
    engine = FakeEngine()
    with scorer(engine) as judge:
        before = judge.score(samples(2))
        judge.sleep()
        assert engine.is_asleep
        with pytest.raises(RuntimeError, match="wake"):
            judge.score(samples(2))
        judge.wake()
        judge.wake()
        assert not engine.is_asleep
        assert judge.score(samples(2)) == before


def test_a_model_that_changed_while_the_scorer_slept_is_refused() -> None:
    engine = FakeEngine()
    with scorer(engine) as judge:
        judge.sleep()
        engine.hashes["model"] = "x" * 64
        with pytest.raises(RuntimeError, match="changed"):
            judge.wake()
        assert engine.is_asleep, "its memory is not held for nothing"
        with pytest.raises(RuntimeError, match="asleep"):
            judge.score(samples(2))


def test_scores_survive_the_wire() -> None:
    with scorer() as judge:
        scores = judge.score([*samples(2), EditSample("absent.png", image(1), "edit")])
    assert msgspec.json.decode(msgspec.json.encode(scores), type=list[Score]) == scores
    assert json.loads(msgspec.json.encode(scores[2]))["overall"] is None
