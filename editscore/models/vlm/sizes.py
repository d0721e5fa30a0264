"""How large a checkpoint is, read from its configuration and the headers of its weights: known before anything is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open


@dataclass(frozen=True)
class ModelSizes:
    """Bytes of the weights in the dtype that they are loaded in, and the widths that decide how much memory the work takes; where several
    ranks share the model, those of one of them."""

    weight_bytes: int
    element_bytes: int
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vision_hidden_size: int
    vision_intermediate_size: int
    patch_values: int
    num_ranks: int = 1


def sizes_of(config: Any, num_weights: int, element_bytes: int) -> ModelSizes:
    """The sizes of a model with transformers' configuration `config` and so many weights."""
    text, vision = config.text_config, config.vision_config
    return ModelSizes(
        weight_bytes=num_weights * element_bytes,
        element_bytes=element_bytes,
        vocab_size=text.vocab_size,
        hidden_size=text.hidden_size,
        intermediate_size=text.intermediate_size,
        num_layers=text.num_hidden_layers,
        num_heads=text.num_attention_heads,
        num_kv_heads=text.num_key_value_heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        vision_hidden_size=vision.hidden_size,
        vision_intermediate_size=vision.intermediate_size,
        patch_values=3 * vision.temporal_patch_size * vision.patch_size**2,
    )


def count_weights(folder: Path) -> int:
    """How many numbers the safetensors files of a folder hold, by their headers."""
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        if path.name == "heads.safetensors" or path.name == "adapter_model.safetensors":
            continue
        with safe_open(path, framework="np") as file:
            total += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    return total
