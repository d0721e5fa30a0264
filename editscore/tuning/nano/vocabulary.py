"""The nano judge's tokenizer: whole words of EditWorld, the answer's pieces and the 256 bytes.

It is a byte-level BPE without merges: a pre-token that is in the vocabulary is one token (`ignore_merges`), any other falls to
its bytes. The answer's JSON pieces are added tokens, so they are cut out of a text before anything else is, and the scores
0..25 are words of their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from editscore.tuning.nano.config import NUM_SCORES

PAD: Final = "<|endoftext|>"
START: Final = "<|im_start|>"
END: Final = "<|im_end|>"
VISION_START: Final = "<|vision_start|>"
VISION_END: Final = "<|vision_end|>"
IMAGE_PAD: Final = "<|image_pad|>"
VIDEO_PAD: Final = "<|video_pad|>"
SPECIAL: Final = (PAD, START, END, VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD)

OPEN: Final = '{"reasoning": "'
MIDDLE: Final = '", "score": ['
COMMA: Final = ", "
CLOSE: Final = "]}"
PIECES: Final = (OPEN, MIDDLE, COMMA, CLOSE)
QUALITY: Final = "quality"
ASSISTANT: Final = "assistant"

CHAT_TEMPLATE: Final = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' if message['role'] != 'assistant' else '' -}}"
    "{%- if message['content'] is string -%}{{- message['content'] -}}"
    "{%- else -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' or 'image' in part or 'image_url' in part -%}"
    "{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}"
    "{%- elif 'text' in part -%}{{- part['text'] -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- endif -%}"
    "{{- '<|im_end|>' -}}"
    "{%- if message['role'] != 'assistant' and (add_generation_prompt or not loop.last) -%}{{- 'assistant' -}}{%- endif -%}"
    "{%- endfor -%}"
)

TokenIds = Mapping[str, int]


def pre_tokens(text: str) -> list[str]:
    """The pieces that a text is cut into before the vocabulary is asked, in the byte-level alphabet."""
    pieces: list[tuple[str, Any]] = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True).pre_tokenize_str(text)
    return [piece for piece, _ in pieces]


def build_tokenizer(words: Iterable[str], texts: Iterable[str] = ()) -> Tokenizer:
    """The tokenizer over `words` (with and without a space in front, and with a capital) and all pre-tokens of `texts`."""
    vocab: dict[str, int] = {}
    for token in (*SPECIAL, *PIECES, *(str(score) for score in range(NUM_SCORES))):
        vocab.setdefault(token, len(vocab))
    for byte in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocab.setdefault(byte, len(vocab))
    wanted: list[str] = [ASSISTANT, QUALITY]
    for word in words:
        wanted += [word, f" {word}", word.capitalize()]
    for text in (*wanted, *texts):
        for piece in pre_tokens(text):
            vocab.setdefault(piece, len(vocab))
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken(piece, special=False, normalized=False) for piece in PIECES])
    return tokenizer


def token_ids(tokenizer: Tokenizer) -> TokenIds:
    """Name to id of the whole vocabulary."""
    ids: dict[str, int] = tokenizer.get_vocab(with_added_tokens=True)
    return ids


def tokenizer_config() -> dict[str, Any]:
    """The content of tokenizer_config.json."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": PAD,
        "image_token": IMAGE_PAD,
        "video_token": VIDEO_PAD,
        "vision_bos_token": VISION_START,
        "vision_eos_token": VISION_END,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1024,
        "chat_template": CHAT_TEMPLATE,
    }


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json into `folder`."""
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=False), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(), indent=2) + "\n", encoding="utf-8")
