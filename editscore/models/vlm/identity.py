"""Content hashes of checkpoints and adapters: what a score was made with, whatever the folder is called."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

MODEL_FILES = (
    "*.safetensors",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
)
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def folder_hash(folder: Path, patterns: Iterable[str]) -> str:
    """SHA-256 (hex) over the names and the contents of the files of a folder that match the patterns."""
    files = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.name}\0{_file_hash(path)}\0".encode())
    return total.hexdigest()


def _file_hash(path: Path) -> str:
    # The hub's cache links each large file to a blob that is named by its SHA-256, checked when it was downloaded.
    target = path.resolve()
    if path.is_symlink() and target.parent.name == "blobs" and _SHA256.fullmatch(target.name):
        return target.name
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
