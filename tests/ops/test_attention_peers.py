"""The peers of the attention benchmark: flash-attn's compositions on a stand-in, and the rows that they leave."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import flash_stand_in
import pytest
import torch
from editscore_kernels.kv import KVStore

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench_attention(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setitem(sys.modules, "flash_attn", flash_stand_in)
    from benchmarks.ops import bench_shared_prefix_attention

    return bench_shared_prefix_attention


@pytest.fixture
def shape(bench_attention: Any) -> Any:
    return bench_attention.Shape(2, 3, 4, 48, "fp32", "")


def test_every_composition_is_the_reference(bench_attention: Any, shape: Any) -> None:
    from benchmarks.peers.attention import COMPOSITIONS
    from benchmarks.peers.flash import FLASH_COMPOSITIONS

    inputs = bench_attention.make_inputs(shape, "cpu")
    subjects = {name: (lambda run=run: run(inputs.dense)) for name, run in (COMPOSITIONS | FLASH_COMPOSITIONS).items()}
    bench_attention.check(shape, inputs, subjects)
    for name in FLASH_COMPOSITIONS:
        with pytest.raises(AssertionError, match=name):
            bench_attention.check(shape, inputs, {name: lambda name=name: subjects[name]() + 1e-3})


def test_the_better_composition_of_flash_attn_stands_beside_torch(bench_attention: Any, shape: Any, tmp_path: Path) -> None:
    from benchmarks.harness import Bench

    bench = Bench("probe", results=tmp_path)
    times = {"cuda": 1.0, "two_calls": 3.0, "einsum": 4.0, "flash_attn_two_calls": 2.0, "flash_attn_own_keys": 5.0}
    bench_attention.record(bench, shape, "cuda", times, 0.5, 0.25)
    by_peer = {row["peer"]: row for row in bench.rows}
    assert (by_peer["best_torch"]["ratio"], by_peer["flash_attn"]["ratio"], by_peer["roof"]["ratio"]) == ("3", "2", "0.5")
    named = {row["subject"]: row["metric"] for row in bench.rows if not row["peer"]}
    assert named == {"best_torch": "two_calls", "best_flash_attn": "flash_attn_two_calls"}


def test_on_a_cpu_flash_attn_is_no_peer(bench_attention: Any) -> None:
    inputs = bench_attention.make_inputs(bench_attention.Shape(2, 3, 4, 48, "bf16", ""), "cpu")
    assert not [name for name in bench_attention.subjects_of(inputs, "reference") if "flash_attn" in name]


def test_what_the_engine_does_about_prompts_is_measured_as_it_is(bench_attention: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import gpu_prefill

    monkeypatch.setattr(gpu_prefill, "flash_attention_why_not", lambda device: None)
    monkeypatch.setattr(gpu_prefill, "KVStore", functools.partial(KVStore, layout="plain"))
    prompts = gpu_prefill.Prompts.of(2, 32, 16, torch.device("cpu"))
    attends = prompts.attends()
    assert set(attends) == {"shared_prefix_attention", "flash_attn"}
    gpu_prefill.check(prompts, attends)
    prompts.store.k[0, 1] += 1.0
    with pytest.raises(AssertionError, match="differs from float32"):
        gpu_prefill.check(prompts, attends)
