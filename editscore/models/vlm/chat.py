"""Messages into tokens by the checkpoint's own chat template.

The template is rendered with a mark in the place of every text, and the texts are put in afterwards as plain text: a special
token written inside an instruction stays ordinary characters and cannot end a turn or stand for an image.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from editscore.models.vlm.errors import MissingWeightsError
from editscore.models.vlm.positions import mrope_positions
from editscore.types import ImagePart, InvalidInputError, Message

# Two characters of the private use area around the number of a text; they never reach the tokenizer.
_MARK = re.compile("\ue000(\\d+)\ue001")


# Builds of conversations (roles and kinds of parts) whose rendering is kept.
MAX_RENDERED = 256


@dataclass(frozen=True)
class Prompt:
    """A rendered conversation: tokens [n], M-RoPE positions [3, n], and where each image's tokens begin (start, count)."""

    tokens: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    next_position: int
    image_spans: tuple[tuple[int, int], ...]


class ChatTokenizer:
    """The tokenizer and the chat template of a checkpoint. `image_token` is the placeholder that stands for an image."""

    def __init__(self, folder: Path, image_token_id: int) -> None:
        from tokenizers import Tokenizer
        from transformers import PreTrainedTokenizerFast

        path = folder / "tokenizer.json"
        if not path.exists():
            raise MissingWeightsError(f"{folder} has no tokenizer.json")
        self.folder = folder
        self.config: dict[str, Any] = _read_json(folder / "tokenizer_config.json")
        template = _read_template(folder, self.config)
        self.fast: Any = PreTrainedTokenizerFast(tokenizer_file=str(path), chat_template=template)  # type: ignore[no-untyped-call]
        self._plain = Tokenizer.from_file(str(path))
        self._plain.encode_special_tokens = True  # text of users never becomes a special token
        added = self._plain.get_added_tokens_decoder()
        self._special = {token.content: index for index, token in added.items() if token.special}
        names = sorted(self._special, key=len, reverse=True)
        self._split = re.compile("|".join([_MARK.pattern.replace("(", "(?:"), *map(re.escape, names)]))
        self._image_token_id = image_token_id
        self._rendered: dict[tuple[tuple[str, ...], ...], str] = {}

    @property
    def tokenizer_json(self) -> str:
        """The tokenizer as the text of a tokenizer.json."""
        text: str = self.fast.backend_tokenizer.to_str()
        return text

    def token_id(self, content: str) -> int | None:
        """The id of a token by its text, None when there is none."""
        index: int | None = self._plain.token_to_id(content)
        return index

    def encode(self, text: str) -> list[int]:
        """Token ids of a plain text; special tokens are not recognised in it."""
        ids: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        return ids

    def render(self, messages: Sequence[Message], grids: Sequence[tuple[int, int]]) -> Prompt:
        """Renders messages with the generation prompt. `grids` are the images' (rows, columns) in merged tokens.

        Raises `InvalidInputError` when the template does not give one placeholder per image.
        """
        texts: list[str] = []
        content: list[Any] = [{"role": m.role, "content": self._content(m, texts)} for m in messages]
        tokens: list[int] = []
        spans: list[tuple[int, int, int]] = []
        for token in self._tokens(self._apply(content), texts):
            if token != self._image_token_id:
                tokens.append(token)
                continue
            if len(spans) == len(grids):
                raise InvalidInputError("messages", f"the chat template gives more than {len(grids)} image placeholders")
            rows, columns = grids[len(spans)]
            spans.append((len(tokens), rows, columns))
            tokens.extend([token] * (rows * columns))
        if len(spans) != len(grids):
            raise InvalidInputError("messages", f"the chat template gives {len(spans)} image placeholders for {len(grids)} images")
        positions, next_position = mrope_positions(len(tokens), spans)
        image_spans = tuple((start, rows * columns) for start, rows, columns in spans)
        return Prompt(np.asarray(tokens, np.int64), positions, next_position, image_spans)

    def _apply(self, content: list[Any]) -> str:
        """The template over marks; as the texts are not in it, conversations of one build are rendered once."""
        build = tuple((turn["role"], *(part["type"] for part in turn["content"])) for turn in content)
        if build not in self._rendered:
            if len(self._rendered) >= MAX_RENDERED:
                self._rendered.clear()
            self._rendered[build] = str(self.fast.apply_chat_template(content, tokenize=False, add_generation_prompt=True))
        return self._rendered[build]

    def _content(self, message: Message, texts: list[str]) -> list[dict[str, str]]:
        parts: list[dict[str, str]] = []
        for part in message.parts:
            text = part.label if isinstance(part, ImagePart) else part.text
            if text:
                parts.append({"type": "text", "text": f"\ue000{len(texts)}\ue001"})
                texts.append(text)
            if isinstance(part, ImagePart):
                parts.append({"type": "image"})
        return parts

    def _tokens(self, rendered: str, texts: list[str]) -> list[int]:
        tokens: list[int] = []
        plain: list[str] = []
        start = 0

        def flush() -> None:
            if any(plain):
                tokens.extend(self.encode("".join(plain)))
            plain.clear()

        for match in self._split.finditer(rendered):
            plain.append(rendered[start : match.start()])
            start = match.end()
            mark = _MARK.fullmatch(match.group())
            if mark:
                plain.append(texts[int(mark.group(1))])
            else:
                flush()
                tokens.append(self._special[match.group()])
        plain.append(rendered[start:])
        flush()
        return tokens


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}


def _read_template(folder: Path, config: dict[str, Any]) -> str:
    """The chat template of a checkpoint: chat_template.jinja, chat_template.json, or tokenizer_config.json."""
    path = folder / "chat_template.jinja"
    template = path.read_text("utf-8") if path.exists() else _read_json(folder / "chat_template.json").get("chat_template")
    template = template or config.get("chat_template")
    if not isinstance(template, str):
        raise MissingWeightsError(f"{folder} has no chat template (chat_template.jinja, chat_template.json or tokenizer_config.json)")
    return template
