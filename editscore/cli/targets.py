"""Files to be written, looked at before any work is done."""

from __future__ import annotations

from pathlib import Path

from editscore.types import InvalidInputError


def check_target(path: Path, field: str) -> None:
    """Raise InvalidInputError(field) when a regular file cannot take this place."""
    if path.is_dir():
        raise InvalidInputError(field, f"{path} is a folder")
    if path.exists() and not path.is_file():
        raise InvalidInputError(field, f"{path} is not a regular file")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise InvalidInputError(field, f"{path}: no such folder: {folder}")
