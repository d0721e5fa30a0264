"""Writing a trained judge: a folder that loads like any Qwen2.5-VL checkpoint."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import nn
from transformers import Qwen2_5_VLForConditionalGeneration

from editscore.data import atomic_write
from editscore.tuning.nano.config import IMAGE_SIZE, MERGE_SIZE, PATCH_SIZE, SCORE_RANGE
from editscore.tuning.nano.vocabulary import END, PAD, save_tokenizer, token_ids
from editscore.types import Sampling

MAX_WEIGHT_BYTES: Final = 10_000_000
MAX_REASONING_TOKENS: Final = 48
DOMAIN_HEAD: Final = "in_domain"


def preprocessor_config() -> dict[str, Any]:
    """The content of preprocessor_config.json: no resizing of its own, pixels on -1..1."""
    side = IMAGE_SIZE * IMAGE_SIZE
    return {
        "image_processor_type": "Qwen2VLImageProcessor",
        "do_convert_rgb": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "do_resize": True,
        "min_pixels": side,
        "max_pixels": side,
        "size": {"shortest_edge": side, "longest_edge": side},
        "resample": 3,
        "patch_size": PATCH_SIZE,
        "temporal_patch_size": 2,
        "merge_size": MERGE_SIZE,
    }


def judge_config(threshold: float, words: tuple[str, ...], sampling: Sampling) -> dict[str, Any]:
    """The content of editscore.json: how this checkpoint wants to be asked."""
    return {
        "judge": "pointwise",
        "prompts": "nano",
        "score_range": SCORE_RANGE,
        "max_reasoning_tokens": MAX_REASONING_TOKENS,
        "on_limit": "close",
        "pixels": {"resize": [IMAGE_SIZE, IMAGE_SIZE]},
        "sampling": {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k},
        "domain": {"head": DOMAIN_HEAD, "threshold": round(threshold, 4), "vocabulary": list(words)},
    }


def write_checkpoint(
    folder: Path, model: Qwen2_5_VLForConditionalGeneration, tokenizer: Tokenizer, head: nn.Linear, judge: dict[str, Any]
) -> None:
    """Write all files but the model card; each is whole or absent, the weights come last.

    Raises ValueError when the weights are over MAX_WEIGHT_BYTES.
    """
    with tempfile.TemporaryDirectory() as name:
        staged = Path(name)
        nn.Module.to(model, torch.bfloat16)
        config: Any = model.config
        config.text_config.dtype = config.vision_config.dtype = torch.bfloat16
        model.save_pretrained(staged)
        size = (staged / "model.safetensors").stat().st_size
        if size > MAX_WEIGHT_BYTES:
            raise ValueError(f"the weights take {size} bytes, over {MAX_WEIGHT_BYTES}")
        (staged / "generation_config.json").unlink(missing_ok=True)
        save_tokenizer(tokenizer, staged)
        # fp32: a threshold on its output should not move by the rounding of 200 numbers.
        weights = {f"{DOMAIN_HEAD}.weight": head.weight.detach().float().contiguous(), f"{DOMAIN_HEAD}.bias": head.bias.detach().float()}
        save_file(weights, staged / "heads.safetensors")
        ids = token_ids(tokenizer)
        contents = {
            "preprocessor_config.json": preprocessor_config(),
            "generation_config.json": {"eos_token_id": ids[END], "pad_token_id": ids[PAD], "do_sample": False},
            "editscore.json": judge,
        }
        for file, content in contents.items():
            (staged / file).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(staged.iterdir(), key=lambda p: p.name == "model.safetensors"):
            with atomic_write(folder / path.name) as target:
                target.write(path.read_bytes())
    nn.Module.to(model, torch.float32)
