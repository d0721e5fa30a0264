"""The texts of the published prompts: read once from the published wheel, kept in the user's cache folder, believed by their hashes.

They are not part of this package. `editscore pull prompts` fetches them.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec

from editscore.data import Wheel, assigned_texts, atomic_write, cache_folder, text_literals
from editscore.types import InvalidInputError

PROJECT = "editscore"
PUBLISHED_VERSION = "0.2"
CONSTANTS_MEMBER = "editscore/vie_prompts.py"
# Qwen2.5-VL's turns are written out by hand here; the sentence of the system turn is in a string literal.
CHAT_MEMBER = "editscore/mllm_tools/qwen25vl.py"
CONTEXT, TWO_IMAGES = "_context_no_delimit_reasoning_first", "_prompts_0shot_two_image_edit_rule"
SC_RULE, PQ_RULE = "_prompts_0shot_tie_rule_SC", "_prompts_0shot_rule_PQ"
SYSTEM = "system"
CONSTANTS = (CONTEXT, TWO_IMAGES, SC_RULE, PQ_RULE)
# SHA-256 of the wheel and of each text as UTF-8 (tests/golden/prompt_shape.json says the same).
WHEEL_HASH = "2ab6a52a621a048e51525e1703b2eb8ab69775366ffe5fbf9256ee5930b68723"
HASHES: Mapping[str, str] = MappingProxyType(
    {
        CONTEXT: "125d6dcfcbd416925db3b7fac93a35c86deb99e656f89af5ed7cc3aed3cfd5f0",
        TWO_IMAGES: "369c6b21479e6a853ffe85b11186c9d5ee3ef7388b8c9b5866a434bf113d0f8f",
        SC_RULE: "5b9aa479977bc3175329e9ee14d75b55773080e87e3e2181721985be30db6cc6",
        PQ_RULE: "cd929b5619a3ad9311e3054b80afca75f8ee407be89345c324be0b0ca8b5c96b",
        SYSTEM: "75357d685f238b6afd7738be9786fdafde641eb6ca9a3be7471939715a68a4de",
    }
)
HOW_TO_GET = "type: editscore pull prompts"
_SYSTEM_TURN = re.compile(r"<\|im_start\|>system\n(.*?)<\|im_end\|>", re.DOTALL)


class PulledPrompts(msgspec.Struct, frozen=True):
    """The texts by name, and the wheel that they came from."""

    version: str
    wheel: str
    wheel_sha256: str
    texts: dict[str, str]

    @property
    def is_known_wheel(self) -> bool:
        """Whether the file is the one whose hash is known; the texts are the known ones in any case."""
        return self.wheel_sha256 == WHEEL_HASH

    def rows(self) -> list[tuple[str, str, str]]:
        """(name, text, SHA-256) of every text."""
        return [(name, text, text_hash(text)) for name, text in self.texts.items()]


def text_hash(text: str) -> str:
    """SHA-256 (hex) of a text as UTF-8."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def prompts_file() -> Path:
    """Where the pulled texts lie on this machine, whether they are there or not."""
    return cache_folder() / "published-prompts.json"


def read_wheel(path: str | os.PathLike[str]) -> PulledPrompts:
    """The texts of a wheel, read as data: nothing in it is run or imported.

    Raises InvalidInputError("wheel") for what is not that wheel, and naming the text that is missing, computed or another one.
    """
    wheel = Wheel(path)
    if wheel.project.lower() != PROJECT:
        raise InvalidInputError("wheel", f"{path} is a wheel of {wheel.project}, not of {PROJECT}")
    texts = assigned_texts(wheel.parse(CONSTANTS_MEMBER), CONSTANTS)
    sentences = {text for literal in text_literals(wheel.parse(CHAT_MEMBER)) for text in _SYSTEM_TURN.findall(literal)}
    if len(sentences) != 1:
        raise InvalidInputError("wheel", f"{CHAT_MEMBER} has {len(sentences)} texts for the {SYSTEM} turn, not one")
    texts[SYSTEM] = sentences.pop()
    wrong = wrong_text(texts)
    if wrong:
        raise InvalidInputError("wheel", f"{wrong}: these are not the prompts of {PROJECT} {PUBLISHED_VERSION}")
    return PulledPrompts(wheel.version, wheel.path.name, wheel.sha256, texts)


def wrong_text(texts: Mapping[str, str]) -> str:
    """What is wrong with the first text that is not the known one; empty when all are there."""
    for name, expected in HASHES.items():
        if name not in texts:
            return f"{name} is missing"
        if text_hash(texts[name]) != expected:
            return f"{name} has the SHA-256 {text_hash(texts[name])[:16]}..., not {expected[:16]}..."
    return ""


def save_prompts(prompts: PulledPrompts) -> Path:
    """Write the texts to the cache folder, whole or not at all, and return the file."""
    path = prompts_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError("prompts", f"{path.parent}: {error.strerror}") from error
    with atomic_write(path, "prompts") as file:
        file.write(msgspec.json.format(msgspec.json.encode(prompts)) + b"\n")
    return path


def load_prompts() -> dict[str, str]:
    """The texts that were pulled. Raises InvalidInputError("prompts") saying what to type when they are absent or damaged."""
    path = prompts_file()
    try:
        texts = msgspec.json.decode(path.read_bytes(), type=PulledPrompts).texts
    except FileNotFoundError as error:
        raise InvalidInputError("prompts", f"the published prompts are not on this machine yet; {HOW_TO_GET}") from error
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise InvalidInputError("prompts", f"{path} cannot be read ({error}); {HOW_TO_GET}") from error
    wrong = wrong_text(texts)
    if wrong:
        raise InvalidInputError("prompts", f"{path} is damaged: {wrong}; {HOW_TO_GET}")
    return texts
