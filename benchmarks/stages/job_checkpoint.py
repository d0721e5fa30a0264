"""Random checkpoints of published shapes: Qwen2.5-VL around the language model of Qwen2.5-0.5B, and Qwen2.5-VL-3B, in bf16.

The configuration is written flat, as the published ones are, so that every library reads the same file. The embedding rows of all
special tokens are zero: with tied embeddings their logit is then exactly 0, six standard deviations below the twentieth best of
150,000 random ones, so that no library ever draws an end of text or a stray image.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from benchmarks.stages.job_tokenizer import NUM_RANKS, write_tokenizer

SEED, STD = 7, 0.02
IDS = {
    "bos": 151_643,
    "eos": 151_645,
    "vision_start": 151_652,
    "vision_end": 151_653,
    "vision": 151_654,
    "image": 151_655,
    "video": 151_656,
}


@dataclass(frozen=True)
class Shape:
    """Sizes of a checkpoint; widths in features, `full_attention` the vision blocks that see the whole image."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    mrope_section: tuple[int, int, int]
    vision_hidden: int
    vision_intermediate: int
    vision_depth: int
    vision_heads: int
    full_attention: tuple[int, ...]

    def config(self) -> dict[str, Any]:
        """config.json."""
        vision = {
            "depth": self.vision_depth,
            "hidden_act": "silu",
            "hidden_size": self.vision_hidden,
            "intermediate_size": self.vision_intermediate,
            "num_heads": self.vision_heads,
            "in_chans": 3,
            "out_hidden_size": self.hidden,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "window_size": 112,
            "fullatt_block_indexes": list(self.full_attention),
            "tokens_per_second": 2,
            "temporal_patch_size": 2,
        }
        text = {
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "initializer_range": STD,
            "intermediate_size": self.intermediate,
            "max_position_embeddings": 32_768,
            "max_window_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1e6,
            "rope_scaling": {"type": "mrope", "mrope_section": list(self.mrope_section)},
            "tie_word_embeddings": True,
            "use_sliding_window": False,
            "sliding_window": 32_768,
            "use_cache": True,
            "vocab_size": self.vocabulary,
        }
        names = {"architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl", "torch_dtype": "bfloat16"}
        return names | text | {f"{name}_token_id": index for name, index in IDS.items()} | {"vision_config": vision}


QWEN_05B = Shape(896, 4864, 24, 14, 2, 152_064, (8, 12, 12), 256, 768, 8, 4, (3, 7))
QWEN_VL_3B = Shape(2048, 11_008, 36, 16, 2, 151_936, (16, 24, 24), 1280, 3420, 32, 16, (7, 15, 23, 31))
PIXELS = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "processor_class": "Qwen2_5_VLProcessor",
    "min_pixels": 56 * 56,
    "max_pixels": 1280 * 28 * 28,
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


def write_checkpoint(folder: Path, shape: Shape) -> None:
    """Weights, configuration, preprocessing and tokenizer; the same bytes each time."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder)
    generation = {"do_sample": True, "eos_token_id": [IDS["eos"], IDS["bos"]], "pad_token_id": IDS["bos"], "repetition_penalty": 1.0}
    for name, content in (("config", shape.config()), ("preprocessor_config", PIXELS), ("generation_config", generation)):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1), "utf-8")
    save_file(dict(draw_weights(folder)), str(folder / "model.safetensors"), metadata={"format": "pt"})


def draw_weights(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Tensors by their published names: norms 1, all else normal with standard deviation .02."""
    with torch.device("meta"):
        network = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig.from_pretrained(folder))
    generator = torch.Generator().manual_seed(SEED)
    for name, like in network.state_dict().items():
        if name == "lm_head.weight":
            continue  # tied to the embedding
        if name.endswith(("norm.weight", "norm1.weight", "norm2.weight", "ln_q.weight")):
            weight = torch.ones(like.shape)
        else:
            weight = torch.randn(like.shape, generator=generator).mul_(STD)
        if name.endswith("embed_tokens.weight"):
            weight[NUM_RANKS:] = 0
        yield _published(name), weight.to(torch.bfloat16)


def _published(name: str) -> str:
    return name.replace("model.language_model.", "model.").replace("model.visual.", "visual.")
