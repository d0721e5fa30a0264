"""`mode="fast"`: answers that transformers agrees with, on one model beside an exact engine, and never mixed with exact ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from edit_requests import edit_request
from pydantic import ValidationError
from torch import Tensor

from editscore.engine import Engine, EngineConfig
from editscore.models.vlm import VisionLanguageModel, in_mode
from editscore.scoring.peer import Peer, PeerSource
from editscore.types import FinishReason, Sampling, Text

EXACT, FAST = (EngineConfig(kv_memory_mb=16, mode=mode) for mode in ("exact", "fast"))  # type: ignore[arg-type]


def test_logits_of_fast_are_those_of_transformers(model: VisionLanguageModel, seen_logits: dict[int, list[Tensor]]) -> None:
    greedy = Sampling(temperature=0.0)
    requests = [edit_request(i, answer=(Text(12),), num_images=i % 3, sampling=greedy) for i in range(7)]
    peer = Peer(PeerSource.of(model))
    for i, completion in enumerate(Engine(model, FAST).generate(requests)):
        expected = peer.logits(peer.inputs(requests[i].messages, requests[i].images), completion.tokens)
        assert len(seen_logits[i]) == len(completion.tokens) > 0
        np.testing.assert_allclose(torch.stack(seen_logits[i]).numpy(), expected.numpy(), atol=1e-4, rtol=0)


def test_no_row_is_padded(qwen2_5: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three passes are three rows, where exact mode computes 16; and a model whose rows differ from that is a view, not a change."""
    sizes: dict[str, set[int]] = {"exact": set(), "fast": set()}
    for config in (FAST, EXACT):
        engine = Engine(qwen2_5, config)
        forward = engine.model.forward

        def counted(tokens: Tensor, *rest: Any, of: str = config.mode, forward: Any = forward, **named: Any) -> Tensor:
            sizes[of].add(len(tokens))
            return forward(tokens, *rest, **named)

        with monkeypatch.context() as patch:
            patch.setattr(engine.model, "forward", counted, raising=False)
            completions = engine.generate([edit_request(1, num_passes=3)])
        assert all(completion.finish_reason is FinishReason.STOP for completion in completions)
    assert 3 in sizes["fast"] and not any(size % 16 for size in sizes["exact"])
    assert in_mode(qwen2_5, "exact") is qwen2_5 and qwen2_5.row_multiple == 16
    assert in_mode(qwen2_5, "fast").network is qwen2_5.network


def test_the_modes_never_share_a_cache_entry(qwen2_5: VisionLanguageModel) -> None:
    exact, fast = (Engine(qwen2_5, config).identity() for config in (EXACT, FAST))
    assert exact.pop("numerics") != fast.pop("numerics")
    assert exact == fast
    with pytest.raises(ValidationError):
        EngineConfig(mode="exakt")  # type: ignore[arg-type]
