"""Writes tiny checkpoints with random weights: a Qwen2.5-VL and a Qwen3-VL with a byte-level tokenizer and a chat template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen3VLConfig, Qwen3VLForConditionalGeneration

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
WORDS = ("the", " the", " car", " is", " red", "score", '{"reasoning": "', '", "score": [', ", ", "]}", *map(str, range(26)))
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VOCABULARY = 352


def build_tokenizer() -> Tokenizer:
    """Bytes, a few words and JSON pieces as single tokens, and the special tokens of Qwen-VL."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet()) + [byte_level.pre_tokenize_str(word)[0][0] for word in WORDS]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    split = Regex(r'\{"reasoning": "|", "score": \[|, |\]\}|[0-9]+| ?[a-z]+|.|\n')
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(split, "isolated"), byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    assert tokenizer.get_vocab_size() <= VOCABULARY
    return tokenizer


def write_checkpoint(folder: Path, family: str, *, seed: int = 0, dtype: torch.dtype = torch.float32, **text: Any) -> Path:
    """A folder that `load_model` reads; `family` is qwen2_5_vl or qwen3_vl, `text` overrides the language configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    ids = {
        name: tokenizer.token_to_id(f"<|{name}|>")
        for name in ("im_end", "endoftext", "image_pad", "video_pad", "vision_start", "vision_end")
    }
    settings = {"chat_template": TEMPLATE, "eos_token": "<|im_end|>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    pixels = {"min_pixels": 28 * 28, "max_pixels": 112 * 112, "patch_size": 14, "merge_size": 2, "temporal_patch_size": 2}
    if family == "qwen3_vl":
        pixels |= {"patch_size": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels))
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        network = (_qwen3 if family == "qwen3_vl" else _qwen2_5)(ids, text).to(dtype)
    network.save_pretrained(folder, safe_serialization=True)
    generation = {"eos_token_id": [ids["im_end"], ids["endoftext"]], "pad_token_id": ids["endoftext"]}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


def _tokens(ids: dict[str, int]) -> dict[str, int]:
    return {
        "image_token_id": ids["image_pad"],
        "video_token_id": ids["video_pad"],
        "vision_start_token_id": ids["vision_start"],
        "vision_end_token_id": ids["vision_end"],
    }


def _text(ids: dict[str, int], text: dict[str, Any]) -> dict[str, Any]:
    defaults = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "initializer_range": 0.15,
        "eos_token_id": ids["im_end"],
        "pad_token_id": ids["endoftext"],
        "bos_token_id": None,
    }
    return defaults | text


def _qwen2_5(ids: dict[str, int], text: dict[str, Any]) -> Any:
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 56,
        "out_hidden_size": 64,
        "fullatt_block_indexes": [1],
        "initializer_range": 0.1,
    }
    rope = {"rope_type": "default", "rope_theta": 1000.0, "mrope_section": [2, 3, 3]}
    config = Qwen2_5_VLConfig(text_config=_text(ids, {"rope_parameters": rope} | text), vision_config=vision, **_tokens(ids))
    return Qwen2_5_VLForConditionalGeneration(config)


def _qwen3(ids: dict[str, int], text: dict[str, Any]) -> Any:
    vision = {
        "depth": 3,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": 64,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 1],
        "initializer_range": 0.1,
    }
    rope = {"rope_type": "default", "rope_theta": 1000.0, "mrope_section": [4, 2, 2], "mrope_interleaved": True}
    config = Qwen3VLConfig(text_config=_text(ids, {"rope_parameters": rope, "head_dim": 16} | text), vision_config=vision, **_tokens(ids))
    return Qwen3VLForConditionalGeneration(config)
