"""Checkpoints of a run: weights, optimizer state and progress in one safetensors file, replaced atomically."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from editscore.tuning.nano.config import NanoConfig
from editscore.tuning.nano.optimizer import Optimizers
from editscore.types import InvalidInputError

FILE_NAME = "checkpoint.safetensors"


class Progress(msgspec.Struct):
    """How far a run is. `samples` counts images in the vision stage and edits in the main stage."""

    stage: str = "vision"
    step: int = 0
    samples: int = 0
    stage_s: float = 0.0
    total_s: float = 0.0


def save_checkpoint(
    folder: Path, config: NanoConfig, progress: Progress, modules: list[tuple[str, nn.Module]], optimizers: Optimizers
) -> None:
    """Write beside the target, flush, rename."""
    tensors: dict[str, Tensor] = {f"optimizer/{k}": v for k, v in optimizers.tensors().items()}
    for prefix, module in modules:
        tensors |= {f"{prefix}/{k}": v.detach().clone().contiguous() for k, v in module.state_dict().items()}
    metadata = {"config": config.digest, "progress": msgspec.json.encode(progress).decode()}
    partial = folder / (FILE_NAME + ".partial")
    save_file(tensors, partial, metadata=metadata)
    with partial.open("rb") as handle:
        os.fsync(handle.fileno())
    partial.replace(folder / FILE_NAME)


class Checkpoint:
    """A checkpoint on disk."""

    def __init__(self, folder: Path, config: NanoConfig) -> None:
        """Raises InvalidInputError when the file belongs to another configuration."""
        with safe_open(folder / FILE_NAME, framework="pt") as file:
            metadata = file.metadata()
            if metadata["config"] != config.digest:
                raise InvalidInputError("resume", f"{folder} holds a run of another configuration")
            self.progress = msgspec.json.decode(metadata["progress"], type=Progress)
            self._tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under `prefix/`."""
        return {k.removeprefix(f"{prefix}/"): v for k, v in self._tensors.items() if k.startswith(f"{prefix}/")}
