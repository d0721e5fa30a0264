"""Cancelling, failures of one request alone, limits, heads and identity."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pydantic
import pytest
import torch
from conftest import load_builder
from edit_requests import edit_request, noise, score_answer
from safetensors.torch import save_file

from editscore.engine import Engine, EngineConfig
from editscore.engine.schedule import Candidate, admit
from editscore.models.vlm import VisionLanguageModel, load_model
from editscore.types import Completion, FinishReason, ImagePart, Message, Request, Sampling, Status, Text, TextPart

CONFIG = EngineConfig(kv_memory_mb=8)


def user(*parts: TextPart | ImagePart) -> tuple[Message, ...]:
    return (Message("user", parts),)


def test_a_bad_request_fails_alone(qwen2_5: VisionLanguageModel) -> None:
    answer = score_answer()
    bad = [
        Request(user(ImagePart(noise(2010, 10, 1))), answer, num_passes=2),
        Request(user(TextPart("the " * 5000)), answer, num_passes=2),
        Request(user(TextPart("hi")), answer, num_passes=2, read=("no_such_head",)),
        Request(user(TextPart("hi")), answer, num_passes=2, sampling=Sampling(temperature=1e-6)),
        Request(user(TextPart("hi")), (Text(5), *answer[3:]), num_passes=2),
    ]
    good = [edit_request(i, num_passes=2) for i in range(3)]
    expected = Engine(qwen2_5, CONFIG).generate(good)
    mixed = Engine(qwen2_5, CONFIG).generate([bad[0], good[0], bad[1], bad[2], good[1], bad[3], bad[4], good[2]])
    assert [c for i in (1, 4, 7) for c in mixed[2 * i : 2 * i + 2]] == expected
    words = {0: "200 times", 2: "limit|positions|exceed", 3: "no_such_head", 5: "temperature", 6: "answer"}
    for i, word in words.items():
        for k, completion in enumerate(mixed[2 * i : 2 * i + 2]):
            assert (completion.pass_index, completion.finish_reason, completion.status) == (k, FinishReason.FAILED, Status.INVALID_INPUT)
            assert any(w in completion.message for w in word.split("|")), completion.message


def test_a_prompt_over_the_engines_limit_fails(qwen2_5: VisionLanguageModel) -> None:
    engine = Engine(qwen2_5, EngineConfig(kv_memory_mb=8, max_prompt_tokens=10))
    assert "over the limit of 10" in engine.generate([edit_request(1)])[0].message


def test_numbers_that_are_not_finite_fail_their_request_and_poison_no_page(tmp_path: Path) -> None:
    """One token's embedding is NaN: the request that holds it fails, and its pages can be used by the next one."""
    model = load_model(load_builder().write_checkpoint(tmp_path, "qwen2_5_vl"))
    poison = model.chat.encode("~")[0]
    expected = Engine(model, CONFIG).generate([edit_request(2, num_passes=2)])
    model.network.model.language_model.embed_tokens.weight.data[poison] = torch.nan
    engine = Engine(model, CONFIG)
    bad = Request(user(TextPart("the car ~ is red and the car is red")), score_answer(), num_passes=2)
    out = engine.generate([bad, edit_request(2, num_passes=2)])
    assert [c.status for c in out[:2]] == [Status.ERROR] * 2
    assert "not finite" in out[0].message
    assert bool(torch.isfinite(engine._runner.store.k).all())
    assert bool(torch.isfinite(engine._runner.store.v).all())
    assert out[2:] == expected
    assert engine.generate([edit_request(2, num_passes=2)]) == expected


def test_a_poisoned_prompt_that_has_to_make_room_is_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next prompt takes its pages, though it has not left: another request waits with the same words."""
    model = load_model(load_builder().write_checkpoint(tmp_path, "qwen2_5_vl"))
    poison = model.chat.encode("~")[0]
    model.network.model.language_model.embed_tokens.weight.data[poison] = torch.nan
    bad = Request(user(TextPart("~" + " the" * 900)), (Text(3),))
    good = Request(user(TextPart("a car" + " the" * 980)), (Text(3),))
    config = EngineConfig(kv_memory_mb=1, max_rows=1)
    engine = Engine(model, config)
    engine._runner.store.allocate(20)  # what is left does not hold both prompts
    store, prefill, is_clean = engine._runner.store, engine._runner.prefill, list[bool]()
    monkeypatch.setattr(
        engine._runner,
        "prefill",
        lambda leaves: (is_clean.append(bool(store.k.isfinite().all() and store.v.isfinite().all())), prefill(leaves)),
    )
    out = engine.generate([bad, good, msgspec.structs.replace(bad, seed=1)])
    assert is_clean == [True] * 3, "whoever gets a page finds finite numbers"
    assert [completion.status for completion in out] == [Status.ERROR, Status.TRUNCATED, Status.ERROR]
    assert out[1:2] == Engine(model, config).generate([good])


def test_a_prompt_that_had_to_make_room_is_reckoned_with_again(qwen2_5: VisionLanguageModel) -> None:
    """The second prompt fits only when the first one goes, which a later request shares: it has to come back as a whole."""
    first = Request(user(TextPart("a car" + " the" * 900)), (Text(3),))
    large = Request(user(TextPart("red" + " the" * 980)), (Text(3),))
    requests = [first, large, msgspec.structs.replace(first, seed=1)]
    engine = Engine(qwen2_5, EngineConfig(kv_memory_mb=1))
    engine._runner.store.allocate(20)  # what is left does not hold both prompts
    assert engine.generate(requests) == [Engine(qwen2_5, CONFIG).generate([request])[0] for request in requests]


def test_cancel_ends_one_request_and_frees_its_pages(qwen2_5: VisionLanguageModel) -> None:
    engine = Engine(qwen2_5, CONFIG)
    free = engine._runner.store.num_free
    free_text = (Text(30),)
    kept, dropped = (engine.add(edit_request(i, answer=free_text, num_passes=n)) for i, n in ((1, 2), (2, 3)))
    found: dict[int, list[Completion]] = {kept: [], dropped: []}
    for _ in range(2):
        for job_id, completion in engine.step():
            found[job_id].append(completion)
    engine.cancel(dropped)
    engine.cancel(dropped)
    engine.cancel(999)
    while engine.num_unfinished:
        for job_id, completion in engine.step():
            found[job_id].append(completion)
    assert [c.finish_reason for c in found[dropped]] == [FinishReason.CANCELLED] * 3
    assert sorted(c.pass_index for c in found[dropped]) == [0, 1, 2]
    alone = Engine(qwen2_5, CONFIG).generate([edit_request(1, answer=free_text, num_passes=2)])
    assert sorted(found[kept], key=lambda c: c.pass_index) == alone
    assert engine._runner.store.num_free == free
    assert engine.step() == []


def test_cancel_before_the_first_step(qwen2_5: VisionLanguageModel) -> None:
    engine = Engine(qwen2_5, CONFIG)
    job_id = engine.add(edit_request(1, num_passes=2))
    engine.cancel(job_id)
    assert [(i, c.finish_reason, c.pass_index) for i, c in engine.step()] == [(job_id, FinishReason.CANCELLED, k) for k in range(2)]
    assert not engine.num_unfinished


@pytest.mark.parametrize("place", ["prefill", "decode", "_forward"])
def test_an_interrupt_leaves_an_engine_that_works(qwen2_5: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Ctrl-C in the middle of a step: `generate` gives nothing back, what was added by others goes on, pages are all free."""
    engine = Engine(qwen2_5, CONFIG)
    other = engine.add(edit_request(3, num_passes=2))
    free = engine._runner.store.num_free
    original, calls = getattr(engine._runner, place), []

    def interrupted(*args: object, **kwargs: object) -> object:
        calls.append(1)
        if len(calls) == (1 if place == "prefill" else 4):
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(engine._runner, place, interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.generate([edit_request(i, num_passes=2) for i in range(3)])
    delivered = []
    while engine.num_unfinished:
        delivered += engine.step()
    alone = Engine(qwen2_5, CONFIG).generate([edit_request(3, num_passes=2)])
    assert sorted(delivered, key=lambda item: item[1].pass_index) == [(other, completion) for completion in alone]
    assert engine._runner.store.num_free == free


def test_requests_that_cannot_all_be_made_leave_nothing_behind(qwen2_5: VisionLanguageModel) -> None:
    def requests() -> Iterator[Request]:
        yield edit_request(1)
        raise OSError("no more")

    engine = Engine(qwen2_5, CONFIG)
    with pytest.raises(OSError, match="no more"):
        engine.generate(requests())
    assert not engine.num_unfinished
    assert engine.step() == []


def test_generate_leaves_what_was_added_before(qwen2_5: VisionLanguageModel) -> None:
    engine = Engine(qwen2_5, CONFIG)
    earlier = engine.add(edit_request(1))
    engine.generate([edit_request(2)])
    delivered = []
    while engine.num_unfinished:
        delivered += engine.step()
    assert delivered == [(earlier, Engine(qwen2_5, CONFIG).generate([edit_request(1)])[0])]


def test_heads_read_the_last_token_of_the_prompt(tmp_path: Path) -> None:
    folder = load_builder().write_checkpoint(tmp_path, "qwen2_5_vl")
    rng = np.random.default_rng(0)
    weight, bias = torch.from_numpy(rng.normal(size=(3, 64))).float(), torch.tensor([0.1, 0.2, 0.3])
    save_file({"quality.weight": weight, "quality.bias": bias}, folder / "heads.safetensors")
    model = load_model(folder)
    request = edit_request(1, num_passes=2, num_images=0)
    reading = Request(request.messages, request.answer, num_passes=2, read=("quality",))
    completions = Engine(model, CONFIG).generate([edit_request(2), reading])[1:]
    prompt = torch.from_numpy(model.render(request.messages, ()).tokens)[None]
    plain = type(model.network).from_pretrained(folder).eval()
    with torch.inference_mode():
        hidden = plain.model(input_ids=prompt, position_ids=torch.arange(prompt.shape[1]).expand(3, 1, -1)).last_hidden_state[0, -1]
    for completion in completions:
        np.testing.assert_allclose(completion.heads["quality"], (weight @ hidden + bias).numpy(), atol=1e-4)


def test_the_identity_names_what_decides_an_answer(qwen2_5: VisionLanguageModel, tmp_path: Path) -> None:
    identity = Engine(qwen2_5, CONFIG).identity()
    assert set(identity) == {"model", "adapter", "preprocessing", "numerics"}
    assert identity == Engine(qwen2_5, EngineConfig(max_rows=3, kv_memory_mb=4)).identity(), "limits decide nothing"
    assert identity["adapter"] == ""
    other = load_model(load_builder().write_checkpoint(tmp_path, "qwen2_5_vl", seed=1))
    assert Engine(other, CONFIG).identity()["model"] != identity["model"]
    low = load_model(tmp_path, dtype="bfloat16")
    assert Engine(low, CONFIG).identity()["numerics"] != identity["numerics"]
    assert Engine(low, CONFIG).identity()["model"] == Engine(other, CONFIG).identity()["model"]


def test_bfloat16_answers_keep_their_shape(tmp_path: Path) -> None:
    model = load_model(load_builder().write_checkpoint(tmp_path, "qwen3_vl"), dtype="bfloat16")
    completions = Engine(model, CONFIG).generate([edit_request(i, num_passes=2) for i in range(4)])
    assert all(c.finish_reason is FinishReason.STOP and c.slots["second"].value for c in completions)


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(pydantic.ValidationError):
        EngineConfig(max_row=3)  # type: ignore[call-arg]


def test_admission_is_in_order_and_within_budgets() -> None:
    def candidate(prompt: int, tokens: int, passes: int) -> Candidate:
        return Candidate(prompt, tokens, tokens // 16, passes, 2)

    queue = [candidate(1, 160, 4), candidate(1, 160, 2), candidate(2, 64, 4), candidate(3, 16, 1)]
    limits = {"free_rows": 100, "free_pages": 1000, "prefill_tokens": 1000}
    assert admit(queue, **limits) == [4, 2, 4, 1]
    assert admit(queue, **limits | {"prefill_tokens": 100}) == [4, 2], "a long prompt goes first and alone; an equal one is free"
    assert admit(queue, **limits | {"free_rows": 7}) == [4, 2, 1], "the passes of a request may start apart"
    assert admit(queue, **limits | {"free_pages": 10 + 8 + 4 + 3}) == [4, 2], "the prompt's pages and a pass's must be free"
    assert admit(queue, **limits | {"free_rows": 0}) == []


def test_sleep_gives_the_store_back_and_changes_no_answer(model: VisionLanguageModel) -> None:
    engine = Engine(model, EngineConfig(kv_memory_mb=16))
    requests = [edit_request(i, num_passes=2) for i in range(3)]
    before = engine.generate(requests)
    engine.sleep()
    assert not hasattr(engine._runner, "store")
    with pytest.raises(RuntimeError, match="asleep"):
        engine.add(requests[0])
    engine.wake()
    engine.wake()
    assert engine.generate(requests) == before
    job = engine.add(requests[0])
    with pytest.raises(RuntimeError, match="1 requests are not finished"):
        engine.sleep()
    engine.cancel(job)
    engine.sleep()
    engine.sleep()
    assert [(i, c.finish_reason) for i, c in engine.step()] == [(job, FinishReason.CANCELLED)] * 2, "nothing is lost"
    assert engine.step() == []
    engine.wake()
    assert engine.generate(requests) == before


def test_the_statistics_are_what_happened(model: VisionLanguageModel) -> None:
    engine = Engine(model, EngineConfig(kv_memory_mb=16, chunk_tokens=48))
    requests = [edit_request(i, num_passes=2) for i in (0, 1, 1)]
    engine.record_trace()
    answers = engine.generate(requests)
    stats = engine.stats
    assert (stats.num_requests, stats.num_finished_passes, stats.num_preempted_passes) == (3, 6, 0)
    assert stats.num_encoded_images == len({image.digest for request in requests for image in request.images})
    assert stats.num_images == 6
    assert stats.num_sampled_tokens == sum(answer.num_sampled_tokens for answer in answers)
    prompts = [model.render(request.messages, request.images).tokens for request in requests]
    leading = stats.num_prompt_tokens - sum(map(len, prompts))
    assert leading % 3 == 0, "the forced beginning of an answer is read with its prompt"
    assert stats.num_prefilled_tokens <= len(prompts[0]) + len(prompts[1]) + 2 * leading // 3
    assert stats.num_reused_tokens >= len(prompts[2])
    assert 0 < stats.seconds["prefill"] + stats.seconds["decode"] < sum(stats.seconds.values())
    events = engine.trace()["traceEvents"]
    assert {event["name"] for event in events} >= {"schedule", "prefill", "decode", "logits", "sample", "encode_images"}
    whole = sum(event["dur"] for event in events if event["name"] == "schedule") * 1e-6
    assert whole == pytest.approx(sum(stats.seconds.values()), rel=1e-3), "phases are parts of steps, and nothing is counted twice"
