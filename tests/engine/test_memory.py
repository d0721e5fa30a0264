"""`memory_gb`: what a process takes stays within it, the answers stay the same, and what cannot fit is refused before it is loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import load_builder
from hypothesis import given
from hypothesis import strategies as st

from editscore.engine import EngineConfig
from editscore.engine.memory import fit, fixed_bytes, token_bytes, work_bytes
from editscore.models.vlm import ModelSizes, read_sizes
from editscore.scoring.engines import EngineSpec, open_engine
from editscore.types import InvalidInputError

MB = 2**20
QWEN_7B = ModelSizes(16_600 * MB, 2, 152_064, 3584, 18_944, 28, 28, 4, 128, 1280, 3420, 1176)
QWEN_05B = ModelSizes(1_000 * MB, 2, 152_064, 896, 4864, 24, 14, 2, 64, 1280, 3420, 1176)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose weights (80 MB), work and keys are large beside the interpreter's noise."""
    folder = tmp_path_factory.mktemp("models") / "wide"
    found: Path = load_builder().write_checkpoint(
        folder, "qwen2_5_vl", intermediate_size=8192, num_hidden_layers=12, num_key_value_heads=4, vocab_size=16_384
    )
    return found


def run(folder: Path, budget: str, count: int) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).with_name("memory_process.py")), str(folder), budget, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's account of a process's peak memory")
def test_the_peak_of_a_process_stays_within_the_budget_and_the_answers_stay(wide: Path) -> None:
    free, tight = run(wide, "none", 20), run(wide, "0.3", 20)
    assert free["weights_mb"] == pytest.approx(free["actual_mb"], rel=0.02)
    assert free["peak_mb"] > 1.05 * 0.3 * 1024, "a budget that nothing would exceed shows nothing"
    assert tight["peak_mb"] <= 1.05 * 0.3 * 1024
    assert tight["texts"] == free["texts"]
    assert tight["answers"] == 20 * 4


def test_what_cannot_fit_is_refused_by_name_before_it_is_loaded(wide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("editscore.models.vlm.load_model", lambda *a, **k: pytest.fail("it was loaded"))
    with pytest.raises(InvalidInputError, match=r"memory_gb: 0.1 is too little: 0.08 GB of weights and a request take 0.\d\d"):
        open_engine(EngineSpec(str(wide), config={"memory_gb": 0.1}))
    assert fit(EngineConfig(), read_sizes(wide)) == EngineConfig()


@pytest.mark.parametrize("sizes", [QWEN_7B, QWEN_05B], ids=["7B", "0.5B"])
def test_from_the_least_budget_on_a_request_of_2048_tokens_fits(sizes: ModelSizes) -> None:
    """Its pages, the null page, and the copy of the prompt's last page that its answer begins with."""
    least: float | None = None
    num_pages = 2048 // 16 + 2
    for step in range(3000):
        try:
            plan = fit(EngineConfig(memory_gb=(budget := fixed_bytes(sizes) / 2**30 + step / 1024)), sizes)
        except InvalidInputError:
            assert least is None, "more memory is never too little"
            continue
        least = least or budget
        assert plan.kv_memory_mb * MB // (16 * token_bytes(sizes)) >= num_pages, f"{budget - least:.3f} GB above the least"
    assert least is not None and least - fixed_bytes(sizes) / 2**30 < 0.5


@given(st.floats(17, 400), st.integers(1, 4096), st.integers(1, 100_000))
def test_a_plan_never_spends_more_than_the_budget(memory_gb: float, max_rows: int, kv_memory_mb: int) -> None:
    config = EngineConfig(memory_gb=memory_gb, max_rows=max_rows, kv_memory_mb=kv_memory_mb)
    try:
        plan = fit(config, QWEN_7B)
    except InvalidInputError:
        assert memory_gb < 18.5, "weights are 16.2 GB; a request and a small call of the model need some hundred MB"
        return
    work = work_bytes(QWEN_7B, plan.chunk_tokens, plan.image_patches, plan.logits_mb * MB)
    spent = fixed_bytes(QWEN_7B) + work + (plan.kv_memory_mb + 2 * plan.image_cache_mb) * MB
    assert spent <= memory_gb * 2**30 + 4 * MB, "rounding to whole MB"
    assert plan.kv_memory_mb * MB >= 2048 * token_bytes(QWEN_7B) or plan.kv_memory_mb == kv_memory_mb
    for name in ("chunk_tokens", "image_patches", "logits_mb", "image_cache_mb", "kv_memory_mb", "prefill_tokens", "max_rows"):
        assert getattr(plan, name) <= getattr(config, name)
