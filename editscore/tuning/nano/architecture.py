"""The nano judge's shape: a plain Qwen2.5-VL model with random weights."""

from __future__ import annotations

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from editscore.tuning.nano.config import MERGE_SIZE, PATCH_SIZE, NanoArchitecture
from editscore.tuning.nano.vocabulary import END, IMAGE_PAD, PAD, START, VIDEO_PAD, VISION_END, VISION_START, TokenIds


def model_config(shape: NanoArchitecture, tokens: TokenIds, vocab_size: int) -> Qwen2_5_VLConfig:
    """transformers' configuration. Full attention in every vision block; tied embeddings."""
    text = {
        "vocab_size": vocab_size,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": shape.max_positions,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_theta, "mrope_section": list(shape.mrope_section)},
        "tie_word_embeddings": True,
        "initializer_range": shape.initializer_range,
        "bos_token_id": tokens[START],
        "eos_token_id": tokens[END],
        "pad_token_id": tokens[PAD],
    }
    vision = {
        "depth": shape.vision_depth,
        "hidden_size": shape.vision_hidden,
        "intermediate_size": shape.vision_intermediate,
        "num_heads": shape.vision_heads,
        "patch_size": PATCH_SIZE,
        "spatial_merge_size": MERGE_SIZE,
        "temporal_patch_size": 2,
        "window_size": 8 * PATCH_SIZE,
        "out_hidden_size": shape.hidden,
        "fullatt_block_indexes": list(range(shape.vision_depth)),
        "initializer_range": shape.initializer_range,
        "rope_parameters": {"rope_type": "axial", "rope_theta": shape.vision_rope_theta},
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=tokens[IMAGE_PAD],
        video_token_id=tokens[VIDEO_PAD],
        vision_start_token_id=tokens[VISION_START],
        vision_end_token_id=tokens[VISION_END],
        tie_word_embeddings=True,
    )


def build_model(shape: NanoArchitecture, tokens: TokenIds, vocab_size: int, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    """A model in fp32 with random weights that `seed` decides; torch's global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Qwen2_5_VLForConditionalGeneration = Qwen2_5_VLForConditionalGeneration._from_config(  # type: ignore[no-untyped-call]
            model_config(shape, tokens, vocab_size), attn_implementation="sdpa", dtype=torch.float32
        )
    return model
