"""The same answer alone, in any batch, in any order, and for any number of passes."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
import torch
from conftest import load_builder
from edit_requests import edit_request

from editscore.engine import Engine, EngineConfig
from editscore.models.vlm import VisionLanguageModel, load_model
from editscore.types import Completion, Request, Sampling, Text

CONFIG = EngineConfig(kv_memory_mb=16)


def run(model: VisionLanguageModel, requests: list[Request], config: EngineConfig = CONFIG) -> list[Completion]:
    return Engine(model, config).generate(requests)


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    """50 requests of many lengths, two passes each; every tenth is free text, so its answer has no grammar."""
    free = (Text(15),)
    return [edit_request(i, num_passes=2, num_images=i % 3, answer=free if i % 10 == 3 else None) for i in range(50)]


@pytest.fixture(scope="module")
def together(model: VisionLanguageModel, requests: list[Request]) -> list[Completion]:
    return run(model, requests)


def test_the_answers_differ_from_each_other(together: list[Completion]) -> None:
    assert len({completion.text for completion in together}) > 90, "constant answers would prove nothing below"


def test_alone_and_in_a_batch_of_50_are_the_same(model: VisionLanguageModel, requests: list[Request], together: list[Completion]) -> None:
    for i in range(0, 50, 7):
        assert run(model, [requests[i]]) == together[2 * i : 2 * i + 2]


def test_shuffled_is_the_same(model: VisionLanguageModel, requests: list[Request], together: list[Completion]) -> None:
    order = list(range(50))
    random.Random(5).shuffle(order)
    shuffled = run(model, [requests[i] for i in order])
    assert [shuffled[2 * order.index(i) + k] for i in range(50) for k in range(2)] == together


def test_few_rows_and_small_prefills_are_the_same(model: VisionLanguageModel, requests: list[Request], together: list[Completion]) -> None:
    """Passes that wait for rows enter as others leave; an image cache of nothing encodes again."""
    config = EngineConfig(max_rows=5, prefill_tokens=90, chunk_tokens=37, image_patches=20, image_cache_mb=0, kv_memory_mb=1)
    assert run(model, requests[:12], config) == together[:24]


def test_pages_that_run_out_send_requests_back_and_change_nothing(qwen2_5: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [edit_request(i, num_passes=3, num_images=1, answer=(Text(60),)) for i in range(8)]
    expected = run(qwen2_5, requests)
    engine = Engine(qwen2_5, CONFIG)
    preempted: list[int] = []
    original = engine._residents._preempt
    monkeypatch.setattr(engine._residents, "_preempt", lambda: (preempted.append(1), original())[1])
    # 8 prompts of 3..5 pages and 24 passes that grow to 4 or 5 pages each do not fit into 60 pages.
    engine._runner.store.allocate(engine._runner.store.num_free - 60)
    assert engine.generate(requests) == expected
    assert preempted
    assert engine._runner.store.num_free == 60, "every page came back"


def test_four_passes_are_the_first_four_of_eight(model: VisionLanguageModel) -> None:
    eight = run(model, [edit_request(3, num_passes=8), edit_request(4, num_passes=8)])
    assert run(model, [edit_request(3, num_passes=4)]) == eight[:4]
    assert run(model, [edit_request(4, num_passes=3, first_pass=5)]) == eight[13:]


def test_another_seed_is_another_draw(model: VisionLanguageModel) -> None:
    first, again, other = (run(model, [edit_request(1, seed=seed)])[0] for seed in (1, 1, 2))
    assert first == again
    assert first.text != other.text


def test_slots_are_the_same_to_the_last_bit(model: VisionLanguageModel, requests: list[Request], together: list[Completion]) -> None:
    alone = run(model, [requests[0]])[0]
    assert alone.slots["first"].logprobs == together[0].slots["first"].logprobs


def test_equal_prompts_are_computed_once(qwen2_5: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(qwen2_5, CONFIG)
    counts: list[int] = []
    original = engine._runner.prefill
    monkeypatch.setattr(engine._runner, "prefill", lambda leaves: (counts.append(len(leaves)), original(leaves))[1])
    requests = [edit_request(i % 2, seed=i, num_images=2) for i in range(6)]
    engine.generate(requests)
    assert sum(counts) == 2
    assert engine.stats.num_encoded_images == 4


def test_greedy_needs_no_seed(model: VisionLanguageModel) -> None:
    greedy = Sampling(temperature=0.0)
    first, other = (run(model, [edit_request(1, seed=seed, sampling=greedy)])[0] for seed in (1, 2))
    assert first.text == other.text


def test_two_engines_over_one_model_do_not_disturb_each_other(
    model: VisionLanguageModel, requests: list[Request], together: list[Completion]
) -> None:
    engines = [Engine(model, CONFIG), Engine(model, CONFIG)]
    ids = [[engine.add(requests[2 * i + e]) for i in range(3)] for e, engine in enumerate(engines)]
    found: list[dict[tuple[int, int], Completion]] = [{}, {}]
    while any(engine.num_unfinished for engine in engines):
        for engine, mine in zip(engines, found, strict=True):
            mine.update({(job_id, c.pass_index): c for job_id, c in engine.step()})
    for e in range(2):
        expected = [together[2 * (2 * i + e) + k] for i in range(3) for k in range(2)]
        assert [found[e][job_id, k] for job_id in ids[e] for k in range(2)] == expected


def test_bfloat16_is_the_same_in_any_company(folder: Path) -> None:
    model = load_model(folder, dtype="bfloat16")
    requests = [edit_request(i, num_passes=2, num_images=i % 3) for i in range(24)]
    together = run(model, requests)
    assert len({completion.text for completion in together}) > 40
    for i in range(0, 24, 5):
        assert run(model, [requests[i]]) == together[2 * i : 2 * i + 2]
    assert run(model, requests[::-1]) == [together[2 * i + k] for i in reversed(range(24)) for k in range(2)]


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def wide(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> VisionLanguageModel:
    """Widths of real models, so that torch shares a call out over its threads."""
    folder = tmp_path_factory.mktemp("models") / "wide"
    return load_model(load_builder().write_checkpoint(folder, request.param, intermediate_size=4864, vocab_size=20_000))


def test_threads_and_company_change_no_bit_at_real_widths(wide: VisionLanguageModel) -> None:
    """torch's own SiLU and GELU failed this in float32: each thread computes the end of its part in another way."""
    requests = [msgspec.structs.replace(edit_request(i, answer=(Text(3),)), logprobs=True) for i in range(9)]
    expected = run(wide, requests)
    try:
        for threads in (2, 3, 5, 7):
            torch.set_num_threads(threads)
            assert run(wide, requests) == expected, f"{threads} threads"
            assert run(wide, requests[4:5]) == expected[4:5], f"alone on {threads} threads"
    finally:
        torch.set_num_threads(1)
