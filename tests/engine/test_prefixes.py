"""Prompts that begin alike share pages: what counts as alike, what is computed, and that no bit of an answer shows it."""

from __future__ import annotations

import numpy as np
import pytest
from edit_requests import noise, score_answer

from editscore.engine import Engine, EngineConfig
from editscore.engine.prefixes import PrefixIndex, chain
from editscore.models.vlm import VisionLanguageModel
from editscore.types import Completion, Image, ImagePart, Message, Request, TextPart

CONFIG = EngineConfig(kv_memory_mb=16)
RULES = Message("system", (TextPart("score the edit of the car and the dog " * 3),))
SOURCE = noise(112, 84, 1)


def candidate(index: int, source: Image = SOURCE) -> Request:
    """Rules and source first, then what differs from candidate to candidate."""
    parts = (ImagePart(source, label="source: "), ImagePart(noise(56, 84, 100 + index)), TextPart(f"make the car red {index}"))
    return Request((RULES, Message("user", parts)), score_answer(), num_passes=2)


def run(model: VisionLanguageModel, requests: list[Request], config: EngineConfig = CONFIG) -> tuple[list[Completion], Engine]:
    engine = Engine(model, config)
    return engine.generate(requests), engine


def test_shared_prompts_answer_as_they_do_alone(model: VisionLanguageModel) -> None:
    requests = [candidate(i) for i in range(5)]
    together, engine = run(model, requests)
    alone = [run(model, [request]) for request in requests]
    assert together == [completion for completions, _ in alone for completion in completions]
    computed = sum(other.stats.num_prefilled_tokens for _, other in alone)
    common = computed - engine.stats.num_prefilled_tokens
    assert common >= 4 * 32, "rules and source were computed once, not five times"
    assert common % (4 * 16) == 0, "whole pages, for four of the five"
    assert engine.stats.num_encoded_images == 6
    assert engine._runner.store.num_free == engine._runner.store.num_pages - 1, "every page came back"


def test_sharing_across_calls_and_prompts_that_left_is_the_same(model: VisionLanguageModel) -> None:
    """One row at a time: a prompt begins after the one that brought its pages was computed, or has gone."""
    requests = [candidate(i) for i in range(4)]
    expected, _ = run(model, requests)
    for config in (EngineConfig(kv_memory_mb=16, max_rows=1), EngineConfig(kv_memory_mb=16, prefill_tokens=1)):
        assert run(model, requests, config)[0] == expected


def test_another_source_shares_the_rules_only(qwen2_5: VisionLanguageModel) -> None:
    same, other = ([candidate(0), candidate(1, source)] for source in (SOURCE, noise(112, 84, 2)))
    shared = [run(qwen2_5, requests)[1].stats.num_prefilled_tokens for requests in (same, other)]
    assert shared[0] < shared[1]


def test_links_are_equal_as_far_as_everything_is() -> None:
    tokens = np.arange(70, dtype=np.int64)
    positions = np.broadcast_to(np.arange(70), (3, 70))
    images = (noise(28, 28, 1), noise(28, 28, 2))
    spans = ((4, 3), (30, 8))
    links = chain(tokens, positions, spans, images)
    assert len(links) == len(set(links)) == 4, "the last six tokens fill no page"

    def common(**changes: object) -> int:
        other = chain(**({"tokens": tokens, "positions": positions, "image_spans": spans, "images": images} | changes))  # type: ignore[arg-type]
        return next((i for i, (a, b) in enumerate(zip(links, other, strict=False)) if a != b), len(other))

    later = tokens.copy()
    later[40] = -1
    moved = positions.copy()
    moved[1, 17] += 1
    assert common(tokens=tokens[:50]) == 3
    assert common(tokens=later) == 2
    assert common(positions=moved) == 1
    assert common(images=(images[0], noise(28, 28, 3))) == 1
    assert common(images=(noise(28, 28, 3), images[1])) == 0
    assert common(image_spans=((5, 3), (30, 8))) == 0


def test_the_index_forgets_pages_that_are_free() -> None:
    index = PrefixIndex()
    index.publish([b"a", b"b", b"c"], np.asarray([3, 4, 5], np.int32))
    index.publish([b"a", b"d"], np.asarray([3, 9], np.int32))
    assert index.match([b"a", b"b", b"x"]).tolist() == [3, 4]
    assert index.match([b"b"]).tolist() == [4], "a link says all that came before it"
    index.forget(np.asarray([4, 7], np.int32))
    assert index.match([b"a", b"b", b"c"]).tolist() == [3]
    index.publish([b"a"], np.asarray([8], np.int32))
    index.forget(np.asarray([8], np.int32))
    assert index.match([b"a"]).tolist() == [3], "a page that a known link did not take names nothing"


@pytest.mark.parametrize("num_users", [1, 3])
def test_a_shared_page_is_free_when_its_last_user_left(qwen2_5: VisionLanguageModel, num_users: int) -> None:
    engine = Engine(qwen2_5, CONFIG)
    store = engine._runner.store
    for i in range(num_users):
        engine.add(candidate(i))
    engine.step()
    used = store.num_pages - 1 - store.num_free
    engine.cancel(0)
    left = store.num_pages - 1 - store.num_free
    assert left == 0 if num_users == 1 else 0 < left < used
    while engine.num_unfinished:
        engine.step()
    assert store.num_free == store.num_pages - 1
