"""A wheel with the names of the published one and other texts, and the hashes that make the reader take it for the known one."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from editscore.judges import pulled

TEXTS = {
    pulled.CONTEXT: "You look at \u201cpictures\u201d.\nAnswer in JSON.",
    pulled.TWO_IMAGES: "Two pictures, before and after. 10 is not a grade here.",
    pulled.SC_RULE: "From 0 to 10: is it done?\nFrom 0 to 10: is the rest kept?\nThe request: <instruction>",
    pulled.PQ_RULE: "From 0 to 10: natural?\nFrom 0 to 10: whole?",
    pulled.SYSTEM: "A stand-in sentence.",
}
CONSTANTS = "\n".join(f"{name} = {TEXTS[name]!r}" for name in pulled.CONSTANTS) + "\n"
CHAT = f"import torch\n\ndef build():\n    text = {'<|im_start|>system' + chr(10) + TEXTS[pulled.SYSTEM] + '<|im_end|>' + chr(10)!r}\n"


def write_wheel(path: Path, constants: str = CONSTANTS, chat: str = CHAT, version: str = "0.2", project: str = "editscore") -> Path:
    """A wheel that pip accepts."""
    files = {
        pulled.CONSTANTS_MEMBER: constants,
        pulled.CHAT_MEMBER: chat,
        f"{project}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n",
        f"{project}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{project}-{version}.dist-info/RECORD", "".join(f"{name},,\n" for name in files))
    return path


def accept_stand_ins(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """From here on the stand-ins are the known texts, and `cache` is where the user's caches lie."""
    known = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in TEXTS.items()}
    monkeypatch.setattr(pulled, "HASHES", known)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
