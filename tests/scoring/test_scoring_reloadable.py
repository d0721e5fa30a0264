"""Engines that give their weights back: dropped and made again on a CPU, kept beside on a GPU."""

from __future__ import annotations

import gc
import weakref

import pytest
from fake_engine import FakeEngine, samples

from editscore.judges import PointwiseJudge
from editscore.scoring.engines import EngineSpec
from editscore.scoring.local import LocalScorer
from editscore.scoring.reloadable import ReloadableEngine
from editscore.types import InvalidInputError


class Maker:
    """Makes engines, and knows which of them are still there."""

    def __init__(self) -> None:
        self.made: list[weakref.ref[FakeEngine]] = []
        self.error: Exception | None = None

    def __call__(self) -> FakeEngine:
        if self.error is not None:
            raise self.error
        engine = FakeEngine()
        self.made.append(weakref.ref(engine))
        return engine

    @property
    def alive(self) -> list[bool]:
        gc.collect()
        return [engine() is not None for engine in self.made]


def test_without_a_place_for_the_weights_the_engine_is_dropped_and_made_again() -> None:
    make = Maker()
    with LocalScorer(ReloadableEngine(make), PointwiseJudge()) as scorer:
        before = scorer.score(samples(3))
        scorer.sleep()
        scorer.sleep()
        assert make.alive == [False], "nothing holds it while the scorer sleeps"
        scorer.wake()
        assert make.alive == [False, True]
        assert scorer.score(samples(3)) == before
    assert make.alive == [False, False]


def test_weights_that_can_be_kept_aside_are_not_read_again() -> None:
    make = Maker()
    with LocalScorer(ReloadableEngine(make, offloads=True), PointwiseJudge()) as scorer:
        before = scorer.score(samples(3))
        engine = make.made[0]()
        assert engine is not None
        scorer.sleep()
        assert engine.is_asleep
        scorer.wake()
        assert not engine.is_asleep
        assert scorer.score(samples(3)) == before
    assert len(make.made) == 1


def test_an_engine_that_cannot_be_made_again_may_be_tried_later() -> None:
    make = Maker()
    with LocalScorer(ReloadableEngine(make), PointwiseJudge()) as scorer:
        scorer.sleep()
        make.error = InvalidInputError("model", "the folder is gone")
        with pytest.raises(InvalidInputError, match="gone"):
            scorer.wake()
        with pytest.raises(RuntimeError, match="asleep"):
            scorer.score(samples(1))
        make.error = None
        scorer.wake()
        assert scorer.score(samples(1))[0].overall is not None


def test_between_two_engines_there_is_none() -> None:
    engine = ReloadableEngine(FakeEngine)
    identity = engine.identity()
    engine.sleep()
    with pytest.raises(RuntimeError, match="asleep"):
        engine.step()
    engine.cancel(0)
    assert engine.identity() == identity
    with pytest.raises(InvalidInputError, match="profile"):
        engine.record_trace()


@pytest.mark.parametrize(
    ("device", "offloads"), [("cpu", False), ("cuda", True), ("cuda:1", True), ("cpu+cpu", False), ("cuda:0+cuda:1", True)]
)
def test_weights_move_off_a_gpu_only(device: str, offloads: bool) -> None:
    assert EngineSpec("nano", device=device).offloads is offloads
