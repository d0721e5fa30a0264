"""Result files are whole or absent: a temporary file beside the target, fsync, rename, fsync of the folder."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from editscore.types import InvalidInputError


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], field: str = "output") -> Iterator[BinaryIO]:
    """A binary file that takes `path`'s name when the block ends well, and vanishes when it does not (Ctrl-C included).

    Raises InvalidInputError(field) when the folder is missing or not writable, or when `path` is a folder.
    """
    target = Path(os.path.realpath(path))  # a link stays a link; its target is replaced
    if target.is_dir():
        raise InvalidInputError(field, f"{path} is a folder")
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        # 0o666 under the umask, as a plain open() would do; mkstemp's 0o600 would hide results from a group.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as cause:
        raise InvalidInputError(field, f"{path}: cannot be written: {cause.strerror}") from cause
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_folder(target.parent)


def remove_file(path: str | os.PathLike[str]) -> None:
    """Remove `path` for good (the folder is synced); a file that is not there is no error."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    sync_folder(Path(path).parent)


def sync_folder(folder: Path) -> None:
    """Make renames and removals inside `folder` survive a power cut, where the system lets a folder be synced."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
