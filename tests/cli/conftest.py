"""Folders of small pictures with manifests, and the command with a scorer that needs no model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from fake_scorer import FakeScorer, write_rows

import editscore.cli.score
from editscore.cli import main


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A folder with `pairs.jsonl`: twelve good rows over four pictures."""
    generator = np.random.default_rng(0)
    for index in range(4):
        PIL.Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(tmp_path / f"{index}.png")
    rows = [
        {"id": f"s{i}", "source": f"{i % 4}.png", "edited": f"{(i + 1) % 4}.png", "instruction": f"make it {i}", "task_type": "tone"}
        for i in range(12)
    ]
    write_rows(tmp_path, rows)
    return tmp_path


@pytest.fixture
def editscore_command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs `editscore ...` in this process with the fake scorer and returns the exit code."""
    monkeypatch.setattr(editscore.cli.score, "open_scorer", FakeScorer)
    return lambda *tokens: main([str(token) for token in tokens])
