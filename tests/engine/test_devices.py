"""Whole steps of the engine on a CUDA device that computes nothing: every tensor is on it, and one that is not would be seen.

Prompts with images, prefill in chunks, forced tokens, grammars, choices and heads of both families go through `Engine.generate`. What
the host reads back is made up: the first token that the answer allows.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from edit_requests import edit_request
from fake_device import CUDA, MisplacedError, assert_on_device, fake_cuda, move
from torch import Tensor
from torch._subclasses.fake_tensor import unset_fake_temporarily

import editscore.engine.engine as engine_module
import editscore.engine.runner as runner_module
import editscore.engine.sampling as sampling_module
import editscore.models.vlm.model as model_module
from editscore.engine import Engine, EngineConfig, flash, graphs
from editscore.engine.sampling import Draw, PendingDraw
from editscore.models.vlm import VISION_FLASH, load_model
from editscore.models.vlm.invariant import invariant_view
from editscore.types import FinishReason, Text

CONFIG = EngineConfig(kv_memory_mb=4, chunk_tokens=48, max_rows=32)


def _attended(q: Tensor, k: Tensor, v: Tensor, *, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, **named: Any) -> Tensor:
    """flash-attn of numbers that are not there. Images always go through it: torch's attention does not run on fake CUDA tensors."""
    assert_on_device([q, k, v, cu_seqlens_q, cu_seqlens_k], lambda i: f"number {i} of what flash-attn is given")
    assert all(type(named[name]) is int for name in ("max_seqlen_q", "max_seqlen_k"))
    return torch.empty_like(q)


REAL_PLAN = model_module.vision_plan


def _plan(tower: Any, grids: Any, device: torch.device) -> dict[str, Any]:
    """What is worked out on the host is worked out; then it goes to the device, the sizes themselves excepted."""
    with unset_fake_temporarily():
        plan = REAL_PLAN(tower, grids, torch.device("cpu"))
    moved = {name: x for name, x in plan.items() if isinstance(x, Tensor) and name != "grid_thw"}
    return plan | {name: torch.empty(x.shape, dtype=x.dtype, device=device) for name, x in moved.items()}


@pytest.fixture(params=["exact", "fast"])
def engine(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine whose model lies on the device; `to_host` checks what it is given and makes up what it says."""
    model = load_model(folder, packed=False)
    reads: list[int] = []

    def to_host(tensors: list[Tensor]) -> list[np.ndarray]:
        assert_on_device(tensors, lambda i: f"number {i} of what is read back")
        reads.extend([len(tensors)] if tensors else [])
        with unset_fake_temporarily():
            return [torch.zeros(x.shape, dtype=x.dtype).numpy() for x in tensors]

    def finish(self: PendingDraw, *arrays: np.ndarray) -> list[Draw]:
        masks = sampling_module._masks(self.rows, engine._intake.tokenizer)
        for i, choice in self.choices:
            self.rows[i].answer.record_choice(choice, (0.0,) * len(choice.options))
        bits = np.ones((len(self.rows), 1), bool) if masks is None else np.unpackbits(masks.view(np.uint8), axis=1, bitorder="little")
        return [Draw(int(token)) for token in bits.argmax(1)]

    with fake_cuda():
        move(model.network)
        model.network.set_attn_implementation({"vision_config": VISION_FLASH})
        model.heads = {"a": (torch.empty(2, model.hidden_size, device=CUDA), torch.empty(2, device=CUDA))}
        if request.param == "exact":
            model.network = invariant_view(model.network)
        monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace(flash_attn_varlen_func=_attended, __version__="2.8.3"))
        monkeypatch.setattr(flash, "flash_attention_why_not", lambda *model: None)
        monkeypatch.setattr(engine_module, "in_mode", lambda model, mode: model)
        monkeypatch.setattr(engine_module, "to_host", to_host)
        monkeypatch.setattr(PendingDraw, "finish", finish)
        monkeypatch.setattr(model_module, "vision_plan", _plan)
        # With graphs and without: a stand-in for the capture runs the step instead.
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
        monkeypatch.setattr(graphs, "capture", lambda step, *rest: (lambda: None, step()))
        engine = Engine(model, CONFIG.model_copy(update={"mode": request.param, "cuda_graphs": request.param == "exact"}))
        engine.num_reads = reads  # type: ignore[attr-defined]
        yield engine


def requests() -> list[Any]:
    import msgspec

    free = [edit_request(i, num_images=i % 3, num_passes=2, answer=(Text(3 + 30 * i),)) for i in range(2)]
    return free + [msgspec.structs.replace(edit_request(i, num_images=1 + i % 2, num_passes=3), read=("a",)) for i in range(2, 5)]


def test_every_tensor_of_a_run_is_on_the_device(engine: Engine) -> None:
    ids = [engine.add(request) for request in requests()]
    found = []
    while engine.num_unfinished:
        found += engine.step()
        leaves = engine._residents.leaves.values()
        assert_on_device([x for leaf in leaves for x in (leaf.logits, leaf.hidden) if x is not None])
    replayed = engine._stats._counts.get("num_replayed_steps", 0)
    assert (replayed > 10) == engine.config.cuda_graphs
    assert_on_device([engine._runner.store.k, engine._runner.store.v])
    assert_on_device([image.features for image in engine._runner.images._features.values()])
    assert len(found) == 2 * 2 + 3 * 3 and {job for job, _ in found} == set(ids)
    assert {completion.finish_reason for _, completion in found} == {FinishReason.STOP, FinishReason.LENGTH}


def test_a_step_reads_back_once(engine: Engine) -> None:
    """A second time only in a step that lets passes in: their first token is fed in the same step."""
    for request in requests():
        engine.add(request)
    reads: list[int] = engine.num_reads  # type: ignore[attr-defined]
    engine.step()
    assert len(reads) == 2
    engine.step()
    engine.step()
    assert len(reads) == 2 + 2


def _left_behind(place: int, least: int = 0) -> Any:
    """`to_device` that forgets one of its arrays on the CPU, where it is given at least so many."""

    def forgetful(arrays: Any, device: torch.device) -> list[Tensor]:
        tensors = runner_module_to_device(arrays, device)
        if len(arrays) >= least:
            tensors[place] = torch.from_numpy(np.ascontiguousarray(arrays[place]))
        return tensors

    return forgetful


runner_module_to_device = runner_module.to_device


@pytest.mark.parametrize("place", [0, 1, 2, 5, -2, -1], ids=["tokens", "positions", "slots", "own pages", "last rows", "image rows"])
def test_a_tensor_left_on_the_cpu_is_seen(engine: Engine, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "to_device", _left_behind(place))
    with pytest.raises((RuntimeError, ValueError, MisplacedError), match="cpu"):
        engine.generate(requests())


@pytest.mark.parametrize("engine", ["fast"], indirect=True)
@pytest.mark.parametrize("place", [11, 12, 13], ids=["keys", "ends of queries", "ends of keys"])
def test_what_flash_attn_is_given_is_on_the_device(engine: Engine, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine.stats.flash_prefill == "yes"
    monkeypatch.setattr(runner_module, "to_device", _left_behind(place, least=16))
    with pytest.raises(MisplacedError, match="cpu"):
        engine.generate(requests())


def test_an_array_that_indexes_a_tensor_is_seen() -> None:
    with fake_cuda():
        x = torch.empty(4, 3, device=CUDA)
        assert (
            x[1:, None].shape == (3, 1, 3) and x[..., 0].shape == (4,) and x[torch.empty(2, dtype=torch.int64, device=CUDA)].shape == (2, 3)
        )
        for index in (np.asarray([1, 2]), torch.zeros(2, dtype=torch.int64), [0, 1]):
            with pytest.raises(MisplacedError, match="indexes a tensor on cuda:0"):
                x[index]
        with pytest.raises(MisplacedError, match="the host waits"):
            x[x > 0] = 1
