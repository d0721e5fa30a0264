"""Tiny models with random weights, loaded once per test run."""

from __future__ import annotations

import importlib.util
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import editscore.engine.engine as engine_module
from editscore.engine.sampling import start_draw
from editscore.models.vlm import VisionLanguageModel, load_model

FAMILIES = ("qwen2_5_vl", "qwen3_vl")
_BUILDER = Path(__file__).parent.parent / "models" / "tiny_checkpoint.py"


def load_builder() -> ModuleType:
    """tests/models/tiny_checkpoint.py, wherever the tests are run from."""
    spec = importlib.util.spec_from_file_location("tiny_checkpoint", _BUILDER)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_checkpoint"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny shapes are faster on one thread, and two cores may be shared."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of each family in turn."""
    folder: Path = load_builder().write_checkpoint(tmp_path_factory.mktemp("models") / request.param, request.param)
    return folder


@pytest.fixture(scope="session")
def model(folder: Path) -> VisionLanguageModel:
    """Each family's model in turn."""
    return load_model(folder)


@pytest.fixture(scope="session")
def qwen2_5(tmp_path_factory: pytest.TempPathFactory) -> VisionLanguageModel:
    """One family, for what does not depend on it."""
    return load_model(load_builder().write_checkpoint(tmp_path_factory.mktemp("models") / "one", "qwen2_5_vl"))


@pytest.fixture
def seen_logits(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[Tensor]]:
    """The logits that every draw of an engine was from, by the number of the request; of one pass in their order."""
    seen: dict[int, list[Tensor]] = defaultdict(list)

    def recording(rows: Sequence[Any], logits: Tensor, *rest: Any) -> Any:
        for row, values in zip(rows, logits, strict=True):
            seen[row.job.id].append(values.clone())
        return start_draw(rows, logits, *rest)

    monkeypatch.setattr(engine_module, "start_draw", recording)
    return seen
