"""The engine on every attention backend: the same greedy tokens, and on each the same answers in any company and for any split."""

from __future__ import annotations

import functools
import importlib.util
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from edit_requests import edit_request
from editscore_kernels import PreparedAttention, explain, instruction_sets, use_backend, use_instruction_set
from editscore_kernels.kv import KVStore

from editscore.engine import Engine, EngineConfig, attention, runner
from editscore.models.vlm import VisionLanguageModel, load_model, resolve
from editscore.types import Completion, Request, Sampling, Text

CONFIG = EngineConfig(kv_memory_mb=16)
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1" and importlib.util.find_spec("triton") is not None
BACKENDS = ["reference", *(f"cpu {name}" for name in instruction_sets()), "triton", "cuda"]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Attention on one backend, the other ops as `auto` has them."""
    name, _, instruction_set = request.param.partition(" ")
    reason = dict(explain("shared_prefix_attention"))[name]
    if reason != "yes":
        pytest.skip(f"{name}: {reason}")
    if name == "triton":
        if not INTERPRETED:
            pytest.skip("triton: needs TRITON_INTERPRET=1 where there is no GPU")
        monkeypatch.setattr(runner, "KVStore", functools.partial(KVStore, layout="plain"))
    with ExitStack() as stack:
        if instruction_set:
            stack.enter_context(use_instruction_set(instruction_set))
        monkeypatch.setattr(attention, "PreparedAttention", functools.partial(PreparedAttention, backend=name))
        yield request.param


def run(model: VisionLanguageModel, requests: list[Request]) -> list[Completion]:
    return Engine(model, CONFIG).generate(requests)


def test_greedy_tokens_are_the_same_on_every_backend(backend: str, model: VisionLanguageModel) -> None:
    if backend == "triton":  # it takes heads of 32 and more, which the embedded judge has
        model = load_model(resolve("nano"))
    greedy = Sampling(temperature=0.0)
    requests = [edit_request(i, sampling=greedy, answer=(Text(6),) if i % 2 else None) for i in range(4)]
    found = run(model, requests)
    with use_backend("reference"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "PreparedAttention", functools.partial(PreparedAttention, backend="reference"))
        expected = run(model, requests)
    assert [completion.text for completion in found] == [completion.text for completion in expected]
    assert len({completion.text for completion in found}) > 2, "constant answers would prove nothing"


def test_64_rows_in_any_order_and_for_any_split(backend: str, qwen2_5: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """16 prompts of four passes in flight together, against shuffled ones, single ones, and paths cut into 1, 2 and 7 parts."""
    if backend == "triton":
        pytest.skip("triton: the interpreter needs minutes for this; tests/ops hold the op itself to it")
    requests = [edit_request(i, num_passes=4, num_images=i % 3, answer=(Text(6),)) for i in range(16)]
    together = run(qwen2_5, requests)
    assert len({completion.text for completion in together}) > 56
    order = list(range(16))
    random.Random(3).shuffle(order)
    shuffled = run(qwen2_5, [requests[i] for i in order])
    assert [shuffled[4 * order.index(i) + k] for i in range(16) for k in range(4)] == together
    assert run(qwen2_5, [requests[5]]) == together[20:24]
    chosen = attention.PreparedAttention
    for num_splits in (1, 2, 7):
        monkeypatch.setattr(attention, "PreparedAttention", functools.partial(chosen, num_splits=num_splits))
        assert run(qwen2_5, requests) == together


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed (`pip install editscore[gpu]`)")
@pytest.mark.skipif(INTERPRETED, reason="already in the interpreter")
def test_triton_in_a_process_that_interprets_it() -> None:
    """Triton decides when it is imported whether it is interpreted."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "greedy and triton and qwen2_5"]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr
