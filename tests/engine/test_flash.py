"""Prompts and images read by flash-attn, by a stand-in in float64 on the CPU; on a GPU the stand-in stands beside the real one.

The switch of these tests: `why_not` answers None on a CPU as well, and pages have the order that they have on a GPU.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import flash_stand_in
import numpy as np
import pytest
import torch
from edit_requests import edit_request, noise
from editscore_kernels.kv import KVStore
from test_prefixes import candidate
from torch import Tensor

from editscore.engine import Engine, EngineConfig, flash, runner
from editscore.engine.batches import Stretch, chunks
from editscore.engine.memory import fit
from editscore.engine.sequences import Leaf
from editscore.models.vlm import (
    VISION_FLASH,
    Bounds,
    ModelSizes,
    VisionLanguageModel,
    flash_attention,
    flash_attention_why_not,
    in_mode,
    modes,
)
from editscore.scoring.peer import Peer, PeerSource
from editscore.types import Request, Sampling, Text

EXACT, FAST = (EngineConfig(kv_memory_mb=16, mode=mode) for mode in ("exact", "fast"))  # type: ignore[arg-type]
GREEDY = Sampling(temperature=0.0)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """The stand-in is what `import flash_attn` finds, and models on the CPU may use it; gives its calls."""
    monkeypatch.setitem(sys.modules, "flash_attn", flash_stand_in)
    monkeypatch.setattr(flash, "flash_attention_why_not", lambda *model: None)
    monkeypatch.setattr(modes, "flash_attention_why_not", lambda *model: None)
    monkeypatch.setattr(runner, "KVStore", functools.partial(KVStore, layout="plain"))
    flash_stand_in.calls.clear()
    yield flash_stand_in.calls


def requests() -> list[Request]:
    """Candidates of one source, whose prompts share pages, among prompts of other lengths."""
    shared = [candidate(i) for i in range(4)]
    free = [edit_request(i, num_images=i % 3, answer=(Text(6),), sampling=GREEDY) for i in range(5)]
    return [Request(r.messages, (Text(12),), sampling=GREEDY) for r in shared] + free


CHUNKED = {"chunk_tokens": 37, "prefill_tokens": 90}


@pytest.mark.parametrize("changes", [{}, CHUNKED, {"prefill_tokens": 1}], ids=["whole", "in chunks", "one by one"])
def test_greedy_tokens_are_those_of_the_normal_path(
    model: VisionLanguageModel, stand_in: list[dict[str, Any]], changes: dict[str, int]
) -> None:
    expected = Engine(model, EXACT).generate(requests())
    assert not stand_in, "exact mode on a CPU asks flash-attn for nothing"
    engine = Engine(model, FAST.model_copy(update=changes))
    found = engine.generate(requests())
    assert [c.tokens for c in found] == [c.tokens for c in expected]
    assert len({c.tokens for c in found}) > 5, "constant answers would prove nothing"
    stretches = [(np.diff(call["q"]), np.diff(call["k"])) for call in stand_in if call["causal"]]
    assert len(stretches) % model.num_layers == 0
    assert sum(int(q.sum()) for q, _ in stretches) == model.num_layers * engine.stats.num_prefilled_tokens
    assert any((k > q).any() for q, k in stretches), "a stretch saw keys that an earlier prompt or call had brought"
    assert engine.stats.num_reused_tokens > 0


def test_logits_are_those_of_transformers(
    model: VisionLanguageModel, stand_in: list[dict[str, Any]], seen_logits: dict[int, list[Tensor]]
) -> None:
    asked, peer = requests(), Peer(PeerSource.of(model))
    for i, completion in enumerate(Engine(model, FAST.model_copy(update=CHUNKED)).generate(asked)):
        expected = peer.logits(peer.inputs(asked[i].messages, asked[i].images), completion.tokens)
        np.testing.assert_allclose(torch.stack(seen_logits[i]).numpy(), expected.numpy(), atol=1e-4, rtol=0)
    assert any(call["causal"] for call in stand_in)


def test_image_features_are_those_of_the_tower_without_it(model: VisionLanguageModel, stand_in: list[dict[str, Any]]) -> None:
    """Images of several sizes in one ragged batch, with windows for the family that has them."""
    images = [model.pixel_rule.prepare(noise(width, height, seed)) for seed, (width, height) in enumerate([(140, 84), (56, 56), (33, 112)])]
    view = in_mode(model, "fast")
    assert (view.vision_attention, model.vision_attention) == (VISION_FLASH, "sdpa")
    for ours, expected in zip(view.encode_images(images), model.encode_images(images), strict=True):
        torch.testing.assert_close(ours.features, expected.features, atol=1e-5, rtol=1e-5)
        for deep, expected_deep in zip(ours.deepstack, expected.deepstack, strict=True):
            torch.testing.assert_close(deep, expected_deep, atol=1e-5, rtol=1e-5)
    assert stand_in and not any(call["causal"] for call in stand_in)


def test_what_reads_the_prompts_is_told_and_is_part_of_the_identity(
    qwen2_5: VisionLanguageModel, stand_in: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact, fast = Engine(qwen2_5, EXACT), Engine(qwen2_5, FAST)
    assert (exact.stats.flash_prefill, fast.stats.flash_prefill) == ("no: the mode is exact", "yes")
    identities = [exact.identity(), fast.identity()]
    monkeypatch.setattr(flash, "flash_attention_why_not", flash_attention_why_not)
    without = Engine(qwen2_5, FAST)
    assert without.stats.flash_prefill == "no: the model is on cpu"
    assert len({identity["numerics"] for identity in (*identities, without.identity())}) == 3
    assert Engine(qwen2_5, EXACT).identity() == identities[0], "what flash-attn does elsewhere is nothing to exact answers on a CPU"


def test_a_call_sees_no_more_keys_than_it_may(qwen2_5: VisionLanguageModel) -> None:
    def leaf(length: int, num_shared: int) -> Leaf:
        none = np.zeros(length, np.int64)
        return Leaf(b"", none, np.zeros((3, length), np.int64), length, length, (), (), (), num_shared)

    leaves = [leaf(100, 96), leaf(100, 96), leaf(100, 0), leaf(30, 16), leaf(170, 160), leaf(40, 0)]
    calls = list(chunks(leaves, 64, most_keys=150))
    for call in calls:
        assert len(call) == 1 or sum(stretch.end for stretch in call) <= 150
        assert sum(len(stretch) for stretch in call) <= 64
    covered = [Stretch(x, i, i + 1) for call in calls for s in call for x, i in ((s.leaf, i) for i in range(s.begin, s.end))]
    assert covered == [Stretch(x, i, i + 1) for x in leaves for i in range(x.num_shared, len(x.tokens))]
    assert any(len(call) > 1 for call in calls)


def test_a_budget_has_room_for_the_keys_that_a_call_gathers() -> None:
    """The shape of Qwen3-VL-8B, whose attention takes more than its feed-forward layers: fast mode leaves less for the store."""
    sizes = ModelSizes(16_600 * 2**20, 2, 151_936, 4096, 12_288, 36, 32, 8, 128, 1152, 4304, 1536)
    exact, fast = (
        fit(config.model_copy(update={"memory_gb": 20.0, "kv_memory_mb": 100_000, "image_patches": 1024}), sizes)
        for config in (EXACT, FAST)
    )
    assert exact.chunk_tokens == fast.chunk_tokens
    gathered = fast.chunk_tokens * flash.KEYS_PER_TOKEN * 2 * 8 * 128 * 2  # keys and values of 8 heads of 128 in 16 bits
    assert (exact.kv_memory_mb - fast.kv_memory_mb) * 2**20 >= 0.8 * gathered


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"dtype": torch.float32}, "16-bit"),
        ({"head_dim": 288}, "at most 256"),
        ({"device": torch.device("cpu")}, "on cpu"),
        ({"capability": (7, 5)}, "sm_75"),
        ({"version": "3.0.1"}, "3.0.1 is installed"),
        ({"module": None}, "cannot be loaded|not installed"),
        ({"is_available": False}, "no CUDA device"),
    ],
)
def test_why_it_does_not_run(changes: dict[str, Any], reason: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: changes.pop("is_available", True))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: changes.pop("capability", (8, 0)))
    monkeypatch.setitem(sys.modules, "flash_attn", changes.pop("module", flash_stand_in))
    monkeypatch.setattr(flash_stand_in, "__version__", changes.pop("version", "2.8.3"))
    kept = {name: changes[name] for name in ("device", "dtype", "head_dim") if name in changes}
    answer = flash_attention_why_not(**kept)
    assert answer is None if reason is None else answer is not None and re.search(reason, answer)


@pytest.mark.parametrize(
    ("queries", "keys", "mask"),
    [(2, 5, ["11110", "11111"]), (5, 2, ["00", "00", "00", "10", "11"]), (3, 3, ["100", "110", "111"])],
)
def test_the_stand_in_masks_as_is_documented(queries: int, keys: int, mask: list[str]) -> None:
    """Equal scores and values that are unit vectors: a row of the output is the row of the mask over its number of ones."""
    q, k, v = torch.zeros(queries, 1, 8), torch.zeros(keys, 1, 8), torch.eye(8)[:keys, None]
    ends_q, ends_k = (torch.tensor([0, length], dtype=torch.int32) for length in (queries, keys))
    seen = torch.tensor([[float(digit) for digit in row] for row in mask])
    out = flash_stand_in.flash_attn_varlen_func(q, k, v, ends_q, ends_k, queries, keys, causal=True)
    torch.testing.assert_close(out[:, 0, :keys], seen / seen.sum(1, keepdim=True).clamp(min=1))


def ragged(lengths_q: Sequence[int], lengths_k: Sequence[int], heads: int) -> tuple[Tensor, Tensor, Tensor, Bounds]:
    generator = torch.Generator(device="cuda").manual_seed(0)

    def normal(tokens: int, num_heads: int) -> Tensor:
        return torch.randn(tokens, num_heads, 80, generator=generator, device="cuda").bfloat16()

    ends = (torch.tensor(np.cumsum([0, *lengths]), dtype=torch.int32, device="cuda") for lengths in (lengths_q, lengths_k))
    q, k, v = normal(sum(lengths_q), heads), normal(sum(lengths_k), 2), normal(sum(lengths_k), 2)
    return q, k, v, Bounds(*ends, max(lengths_q), max(lengths_k))


@pytest.mark.gpu
@pytest.mark.skipif(flash_attention_why_not() is not None, reason=str(flash_attention_why_not()))
def test_the_stand_in_is_the_real_one() -> None:
    """Its bf16 against float64: inputs of about 1, outputs rounded to 8 bits of mantissa."""
    q, k, v, bounds = ragged((5, 1, 300, 64), (5, 77, 300, 1000), 6)
    for is_causal in (False, True):
        real = flash_attention(q, k, v, bounds, 0.1, is_causal=is_causal)
        ours = flash_stand_in.flash_attn_varlen_func(q, k, v, *bounds, softmax_scale=0.1, causal=is_causal)
        torch.testing.assert_close(real.float(), ours.float(), atol=2e-2, rtol=2e-2)


@pytest.mark.gpu
@pytest.mark.skipif(flash_attention_why_not() is not None, reason=str(flash_attention_why_not()))
def test_an_image_does_not_depend_on_its_neighbours() -> None:
    """What exact mode rests on (editscore/models/vlm/flash.py): not causal, as many heads of keys as of queries."""
    lengths = (256, 64, 1, 1024, 36, 640)
    q, k, v, bounds = ragged(lengths, lengths, 2)
    together = flash_attention(q, k, v, bounds, 0.1, is_causal=False)
    for begin, length in zip(np.cumsum([0, *lengths]), lengths, strict=False):
        own = torch.tensor([0, length], dtype=torch.int32, device="cuda")
        parts = (x[begin : begin + length] for x in (q, k, v))
        alone = flash_attention(*parts, Bounds(own, own, length, length), 0.1, is_causal=False)
        assert torch.equal(alone, together[begin : begin + length])
