"""The engine on a CUDA device: the same bits alone, in a batch and shuffled, with graphs and without; transformers' tokens and logits."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import load_builder
from edit_requests import edit_request

from editscore.engine import Engine, EngineConfig
from editscore.models.vlm import VisionLanguageModel, load_model, resolve
from editscore.scoring.parity import check_parity
from editscore.types import Completion, Request, Sampling, Text

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
DEVICE = "cuda"
CONFIG = EngineConfig(kv_memory_mb=256, max_rows=256)
HEADS_OF_32: dict[str, Any] = {
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0, "mrope_section": [8, 4, 4], "mrope_interleaved": True},
}


@pytest.fixture(scope="module", params=["nano", "qwen3_vl"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded judge, a Qwen2.5-VL, and a tiny Qwen3-VL; the kernels for GPUs take heads of 32 and more."""
    if request.param == "nano":
        return resolve("nano")
    written: Path = load_builder().write_checkpoint(tmp_path_factory.mktemp("models") / request.param, request.param, **HEADS_OF_32)
    return written


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def model(folder: Path, request: pytest.FixtureRequest) -> VisionLanguageModel:
    return load_model(folder, device=DEVICE, dtype=request.param)


def run(model: VisionLanguageModel, requests: list[Request], **changes: Any) -> list[Completion]:
    return Engine(model, CONFIG.model_copy(update=changes)).generate(requests)


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    """64 of many lengths, two passes each; some are free text."""
    return [edit_request(i, num_passes=2, num_images=i % 3, answer=(Text(15),) if i % 10 == 3 else None) for i in range(64)]


@pytest.fixture(scope="module")
def together(model: VisionLanguageModel, requests: list[Request]) -> list[Completion]:
    return run(model, requests)


def test_alone_shuffled_and_in_small_steps_the_bits_are_the_same(
    model: VisionLanguageModel, requests: list[Request], together: list[Completion]
) -> None:
    assert len({completion.text for completion in together}) > 16, "constant answers would prove nothing"
    for i in range(0, 64, 9):
        assert run(model, [requests[i]]) == together[2 * i : 2 * i + 2]
    order = list(range(64))
    random.Random(5).shuffle(order)
    shuffled = run(model, [requests[i] for i in order])
    assert [shuffled[2 * order.index(i) + k] for i in range(64) for k in range(2)] == together
    small = {"max_rows": 5, "prefill_tokens": 90, "chunk_tokens": 37, "image_patches": 20, "image_cache_mb": 0}
    assert run(model, requests[:12], **small) == together[:24]


def test_graphs_change_no_bit(model: VisionLanguageModel, requests: list[Request], together: list[Completion]) -> None:
    engine = Engine(model, CONFIG)
    assert engine.generate(requests) == together
    assert engine.stats.graphs == "yes" and engine.stats.num_replayed_steps > 0
    assert run(model, requests, cuda_graphs=False) == together
    identity = engine.identity()
    engine.sleep()
    assert engine.identity() == identity, "it is the same engine while its weights are on the host"
    engine.wake()
    assert engine.generate(requests[:8]) == together[:16]


def test_fast_mode_answers_every_request(model: VisionLanguageModel, requests: list[Request], together: list[Completion]) -> None:
    """Greedy text of 16-bit types may differ where two tokens are nearly equal; in float32 nearly all of it is the same."""
    greedy = [edit_request(i, num_images=i % 3, answer=(Text(8),), sampling=Sampling(temperature=0.0)) for i in range(16)]
    exact, fast = run(model, greedy), run(model, greedy, mode="fast")
    same = sum(a.text == b.text for a, b in zip(exact, fast, strict=True))
    assert same >= (14 if model.dtype == torch.float32 else 8)


def test_transformers_agrees(folder: Path) -> None:
    assert check_parity(str(folder), device=DEVICE).passed


def test_a_step_waits_for_the_device_only_where_it_reads_back(model: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch names every other wait. The first steps compile, capture and encode; what follows is decoding."""
    import editscore.engine.engine as engine_module

    engine = Engine(model, CONFIG)
    engine.add(edit_request(0, num_passes=4, num_images=1, answer=(Text(60),)))
    for _ in range(5):
        engine.step()
    read: Callable[..., Any] = engine_module.to_host

    def allowed(tensors: Any) -> Any:
        torch.cuda.set_sync_debug_mode("default")
        try:
            return read(tensors)
        finally:
            torch.cuda.set_sync_debug_mode("error")

    monkeypatch.setattr(engine_module, "to_host", allowed)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(5):
            engine.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
