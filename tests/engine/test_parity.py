"""The engine against transformers' own generate and forward: the same tokens, and logits within 1e-4 in float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from edit_requests import edit_request
from torch import Tensor

import editscore.engine.engine as engine_module
from editscore.engine import Engine, EngineConfig
from editscore.engine.sampling import PendingDraw, start_draw
from editscore.models.vlm import VisionLanguageModel
from editscore.scoring.peer import Peer, PeerSource
from editscore.types import Request, Sampling, Text

NUM_TOKENS = 20
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def peer(model: VisionLanguageModel) -> Peer:
    """The same checkpoint through transformers alone: its tokenizer, attention, cache, positions and preprocessing."""
    return Peer(PeerSource.of(model))


def greedy_requests() -> list[Request]:
    answer, sampling = (Text(NUM_TOKENS),), Sampling(temperature=0.0)
    return [edit_request(i, answer=answer, num_images=i % 3, sampling=sampling) for i in range(7)]


def test_greedy_tokens_are_those_of_generate(model: VisionLanguageModel, peer: Peer) -> None:
    requests = greedy_requests()
    completions = Engine(model, EngineConfig(kv_memory_mb=16)).generate(requests)
    for request, completion in zip(requests, completions, strict=True):
        assert list(completion.tokens) == peer.greedy(peer.inputs(request.messages, request.images), NUM_TOKENS)


def test_logits_are_those_of_forward(model: VisionLanguageModel, peer: Peer, seen_logits: dict[int, list[Tensor]]) -> None:
    """Every position's logits of a batch with prompts of many lengths, against one whole forward per answer."""
    requests = greedy_requests()
    completions = Engine(model, EngineConfig(kv_memory_mb=16)).generate(requests)
    for i, (request, completion) in enumerate(zip(requests, completions, strict=True)):
        expected = peer.logits(peer.inputs(request.messages, request.images), completion.tokens)
        assert len(seen_logits[i]) == len(completion.tokens)
        np.testing.assert_allclose(torch.stack(seen_logits[i]).numpy(), expected.numpy(), atol=TOLERANCE, rtol=0)
        assert expected.std() > 0.1, "logits that are all alike would prove nothing"


def test_forced_tokens_leave_the_logits_of_forward(model: VisionLanguageModel, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens that the grammar forces, at the beginning and in the middle, are in the cache as if they had been sampled."""
    last: dict[int, tuple[int, Tensor]] = {}

    def recording(rows: Sequence[Any], logits: Tensor, tokenizer: Any) -> PendingDraw:
        last.update({row.job.id: (len(row.answer.tokens), values.clone()) for row, values in zip(rows, logits, strict=True)})
        return start_draw(rows, logits, tokenizer)

    monkeypatch.setattr(engine_module, "start_draw", recording)
    requests = [edit_request(i, num_images=1 + i % 2) for i in range(4)]
    completions = Engine(model, EngineConfig(kv_memory_mb=16)).generate(requests)
    for i, (request, completion) in enumerate(zip(requests, completions, strict=True)):
        assert completion.num_forced_tokens > 2
        num_before, logits = last[i]
        expected = peer.logits(peer.inputs(request.messages, request.images), completion.tokens[: num_before + 1])[-1]
        np.testing.assert_allclose(logits.numpy(), expected.numpy(), atol=TOLERANCE, rtol=0)


def test_log_probabilities_are_those_of_transformers(model: VisionLanguageModel, peer: Peer) -> None:
    requests = [msgspec.structs.replace(edit_request(i, num_images=1 + i % 2, num_passes=2), logprobs=True) for i in range(3)]
    engine = Engine(model, EngineConfig(kv_memory_mb=16))
    completions = engine.generate(requests)
    for place, completion in enumerate(completions):
        request = requests[place // 2]
        expected = peer.logits(peer.inputs(request.messages, request.images), completion.tokens).log_softmax(1)
        drawn = [i for i, value in enumerate(completion.logprobs) if value is not None]
        assert len(completion.logprobs) == len(completion.tokens)
        assert len(completion.tokens) - len(drawn) == completion.num_forced_tokens
        assert 0 < len(drawn) <= completion.num_sampled_tokens, "a token that opened a character and was dropped was drawn, too"
        for i in drawn:
            assert completion.logprobs[i] == pytest.approx(float(expected[i, completion.tokens[i]]), abs=TOLERANCE)
    plain = engine.generate([msgspec.structs.replace(request, logprobs=False) for request in requests])
    assert all(not completion.logprobs for completion in plain)
    assert [completion.tokens for completion in plain] == [completion.tokens for completion in completions]
