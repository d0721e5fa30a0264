"""What an engine counts and keeps of a run: passes by how they ended, the kernel's name, the trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import load_builder
from edit_requests import edit_request

from editscore.engine import Engine, EngineConfig, stats
from editscore.engine import engine as engine_module
from editscore.engine.stats import StatsRecorder
from editscore.models.vlm import load_model
from editscore.types import FinishReason, Message, Request, Text, TextPart


def phases(trace: dict[str, Any]) -> list[str]:
    """The names of the phases of a trace; what is there besides them must be an instant."""
    assert all(event["ph"] in "Xi" for event in trace["traceEvents"])
    return [event["name"] for event in trace["traceEvents"] if event["ph"] == "X"]


def test_a_trace_that_is_full_keeps_the_newest_phases_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "MAX_EVENTS", 4)
    recorder = StatsRecorder()
    recorder.record_trace()
    done = []
    for name in ("prefill", "decode", "logits", "sample", "decode", "logits", "sample"):
        with recorder.phase(name):
            pass
        done.append(name)
        trace = recorder.trace()
        assert phases(trace) == done[-4:]
        assert trace["otherData"] == {"num_dropped_events": max(0, len(done) - 4)}
        told = [event["name"] for event in trace["traceEvents"] if event["ph"] == "i"]
        assert told == ([f"{len(done) - 4} earlier phases were not kept"] if len(done) > 4 else [])
        assert min(event["ts"] for event in trace["traceEvents"]) == 0.0
    recorder.record_trace()
    assert phases(recorder.trace()) == done[-4:], "asked again, it goes on"


def test_passes_are_counted_by_how_they_ended(tmp_path: Path) -> None:
    """Answers, cut answers, failures before and while they run, and what was cancelled before it began, while it ran and after its end."""
    model = load_model(load_builder().write_checkpoint(tmp_path, "qwen2_5_vl"))
    model.network.model.language_model.embed_tokens.weight.data[model.chat.encode("~")[0]] = torch.nan
    engine = Engine(model, EngineConfig(kv_memory_mb=8, max_rows=12))

    def words(text: str, num_passes: int) -> Request:
        return Request((Message("user", (TextPart(text),)),), (Text(20),), num_passes=num_passes)

    requests = [edit_request(1, num_passes=2), words("poison ~", 3), words("the " * 5000, 4), edit_request(2, answer=(Text(2),))]
    ended = [(0, completion) for completion in engine.generate(requests)]
    assert engine.stats.num_cancelled_passes == 0, "`generate` cancels what is done: that counts nothing"
    running, waiting = engine.add(words("red", 10)), engine.add(words("car", 5))
    ended += engine.step()
    engine.cancel(running)
    engine.cancel(waiting)
    engine.cancel(running)
    ended += engine.step()
    reasons = [completion.finish_reason for _, completion in ended]
    counted = engine.stats
    assert counted.num_finished_passes == sum(reason in (FinishReason.STOP, FinishReason.LENGTH) for reason in reasons) == 3
    assert counted.num_failed_passes == reasons.count(FinishReason.FAILED) == 3 + 4
    assert counted.num_cancelled_passes == reasons.count(FinishReason.CANCELLED) == 10 + 5
    assert counted.num_requests == 3 + 2, "without the one that was refused"
    assert counted.num_sampled_tokens == sum(completion.num_sampled_tokens for _, completion in ended)


def test_the_kernel_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer = [], engine_module.attention_numerics
    monkeypatch.setattr(engine_module, "attention_numerics", lambda model: (asked.append(model), answer(model))[1])
    model = load_model(load_builder().write_checkpoint(tmp_path, "qwen2_5_vl"))
    engine = Engine(model, EngineConfig(kv_memory_mb=1))
    named = engine.stats.attention
    assert named == answer(model)
    engine.generate([edit_request(1)])
    engine.sleep()
    assert engine.stats.attention == named
    engine.wake()
    assert engine.stats.attention == named
    assert len(asked) == 1
