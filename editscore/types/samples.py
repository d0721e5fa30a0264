"""What enters: an image and an edit to be judged."""

from __future__ import annotations

import hashlib
import os
from functools import cached_property
from typing import Any

import msgspec

# Twice Pillow's warning limit, where Pillow itself refuses: 108 MP (12,000 x 9,000) works and takes 1.1 GB while it decodes.
MAX_IMAGE_PIXELS = 178_956_970
MAX_INSTRUCTION_CHARACTERS = 10_000


class InvalidInputError(ValueError):
    """Bad input, with the name of the field at fault in front of the message."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class Image(msgspec.Struct, frozen=True, dict=True, eq=False):
    """An RGB image of 8 bits per channel; `pixels` holds height * width * 3 bytes, row by row from the top left."""

    width: int
    height: int
    pixels: bytes

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise InvalidInputError("image", f"size {self.width}x{self.height} has an empty side")
        if self.width * self.height > MAX_IMAGE_PIXELS:
            raise InvalidInputError("image", f"{self.width}x{self.height} is over {MAX_IMAGE_PIXELS} pixels")
        if len(self.pixels) != self.width * self.height * 3:
            raise InvalidInputError("image", f"{len(self.pixels)} bytes do not fill {self.width}x{self.height} RGB")

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of size and pixels: the identity of an image everywhere in the project."""
        return hashlib.sha256(b"%dx%d:" % (self.width, self.height) + self.pixels).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Image) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Image({self.width}x{self.height}, {self.digest[:12]})"


class EditSample(msgspec.Struct, frozen=True):
    """One edit to be judged.

    `source` and `edited` are a path, an `Image`, or (in memory only) anything that `editscore.data.to_image` reads: a Pillow
    image or an array. `id` is the caller's name for the sample; empty means that its place in the list names it.
    """

    source: Image | str
    edited: Image | str
    instruction: str
    id: str = ""

    def __post_init__(self) -> None:
        for field in ("source", "edited"):
            value: Any = getattr(self, field)
            if isinstance(value, os.PathLike):
                msgspec.structs.force_setattr(self, field, os.fspath(value))
            elif value is None or isinstance(value, (int, float)):
                raise InvalidInputError(field, f"needs a path or an image, not {type(value).__name__}")
        if not isinstance(self.instruction, str):
            raise InvalidInputError("instruction", f"needs a text, not {type(self.instruction).__name__}")
        if not isinstance(self.id, str):
            raise InvalidInputError("id", f"needs a text, not {type(self.id).__name__}")
