"""The engine against transformers' own generate and forward: the same tokens, and logits within 1e-4 in float32."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
import transformers
from edit_requests import edit_request
from torch import Tensor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

import editscore.engine.engine as engine_module
from editscore.engine import Engine, EngineConfig
from editscore.engine.sampling import Draw, draw
from editscore.models.vlm import VisionLanguageModel
from editscore.types import Image, Request, Sampling, Text

CLASSES = {"qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration", "qwen3_vl": "Qwen3VLForConditionalGeneration"}
NUM_TOKENS = 20
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def peer(folder: Path) -> tuple[Any, Qwen2VLImageProcessorPil]:
    """The same checkpoint through transformers alone: its attention, its cache, its positions, its preprocessing."""
    name = transformers.AutoConfig.from_pretrained(folder).model_type
    network = getattr(transformers, CLASSES[name]).from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    return network.eval(), Qwen2VLImageProcessorPil.from_pretrained(folder)


def peer_inputs(peer: tuple[Any, Qwen2VLImageProcessorPil], model: VisionLanguageModel, request: Request) -> dict[str, Tensor]:
    """What the published processor would give: token ids, token types, patches and grids."""
    tokens = torch.from_numpy(model.render(request.messages, request.images).tokens)[None]
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    if request.images:
        inputs |= dict(peer[1](images=[pillow(image) for image in request.images], return_tensors="pt"))
        inputs["mm_token_type_ids"] = (tokens == model.image_token_id).int()
    return inputs


def pillow(image: Image) -> PIL.Image.Image:
    return PIL.Image.frombytes("RGB", (image.width, image.height), image.pixels)


def greedy_requests() -> list[Request]:
    answer, sampling = (Text(NUM_TOKENS),), Sampling(temperature=0.0)
    return [edit_request(i, answer=answer, num_images=i % 3, sampling=sampling) for i in range(7)]


def test_greedy_tokens_are_those_of_generate(model: VisionLanguageModel, peer: tuple[Any, Any]) -> None:
    requests = greedy_requests()
    completions = Engine(model, EngineConfig(kv_memory_mb=16)).generate(requests)
    for request, completion in zip(requests, completions, strict=True):
        inputs = peer_inputs(peer, model, request)
        with torch.inference_mode():
            out = peer[0].generate(**inputs, max_new_tokens=NUM_TOKENS, do_sample=False)
        assert list(completion.tokens) == out[0, inputs["input_ids"].shape[1] :].tolist()


def test_logits_are_those_of_forward(model: VisionLanguageModel, peer: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every position's logits of a batch with prompts of many lengths, against one whole forward per answer."""
    seen: dict[int, list[Tensor]] = defaultdict(list)

    def recording(rows: Sequence[Any], logits: Tensor, tokenizer: Any) -> list[Draw]:
        for row, values in zip(rows, logits, strict=True):
            seen[row.job.id].append(values.clone())
        return draw(rows, logits, tokenizer)

    monkeypatch.setattr(engine_module, "draw", recording)
    requests = greedy_requests()
    completions = Engine(model, EngineConfig(kv_memory_mb=16)).generate(requests)
    for i, (request, completion) in enumerate(zip(requests, completions, strict=True)):
        inputs = peer_inputs(peer, model, request)
        n = inputs["input_ids"].shape[1]
        answer = torch.tensor(completion.tokens[:-1])[None]
        inputs["input_ids"] = torch.cat([inputs["input_ids"], answer], 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        if "mm_token_type_ids" in inputs:
            inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(answer, dtype=torch.int32)], 1)
        peer[0].model.rope_deltas = None
        with torch.inference_mode():
            expected = peer[0](**inputs).logits[0, n - 1 :]
        assert len(seen[i]) == len(completion.tokens)
        np.testing.assert_allclose(torch.stack(seen[i]).numpy(), expected.numpy(), atol=TOLERANCE, rtol=0)
        assert expected.std() > 0.1, "logits that are all alike would prove nothing"


def test_forced_tokens_leave_the_logits_of_forward(
    model: VisionLanguageModel, peer: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens that the grammar forces, at the beginning and in the middle, are in the cache as if they had been sampled."""
    last: dict[int, tuple[int, Tensor]] = {}

    def recording(rows: Sequence[Any], logits: Tensor, tokenizer: Any) -> list[Draw]:
        last.update({row.job.id: (len(row.answer.tokens), values.clone()) for row, values in zip(rows, logits, strict=True)})
        return draw(rows, logits, tokenizer)

    monkeypatch.setattr(engine_module, "draw", recording)
    requests = [edit_request(i, num_images=1 + i % 2) for i in range(4)]
    completions = Engine(model, EngineConfig(kv_memory_mb=16)).generate(requests)
    for i, (request, completion) in enumerate(zip(requests, completions, strict=True)):
        assert completion.num_forced_tokens > 2
        inputs = peer_inputs(peer, model, request)
        num_before, logits = last[i]
        answer = torch.tensor(completion.tokens[:num_before])[None]
        inputs["input_ids"] = torch.cat([inputs["input_ids"], answer], 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(answer, dtype=torch.int32)], 1)
        peer[0].model.rope_deltas = None
        with torch.inference_mode():
            expected = peer[0](**inputs).logits[0, -1]
        np.testing.assert_allclose(logits.numpy(), expected.numpy(), atol=TOLERANCE, rtol=0)
