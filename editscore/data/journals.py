"""Journals: results written as they finish, so that a run that was cut off goes on where it stopped.

A journal is a file of JSON lines. The first line is the header: the configuration (flat texts) and its hash. Each further line
is one result under a key. Each line reaches the system before `append` returns, so `kill -9` loses nothing; it reaches the disk
at least every `SYNC_ROWS` rows or `SYNC_SECONDS`, which bounds what a power cut can take. A torn last line is cut off when the
journal is opened again. The file is locked while it is open: two runs cannot write to one output.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from editscore.data.files import remove_file, sync_folder
from editscore.types import InvalidInputError

FORMAT = "editscore journal 1"
SYNC_ROWS = 64
SYNC_SECONDS = 1.0


class JournalMismatchError(InvalidInputError):
    """The journal beside the output was written under another configuration; `changes` maps each field to (there, here)."""

    def __init__(self, path: Path, changes: dict[str, tuple[str, str]]) -> None:
        listed = "; ".join(f"{name} was {there or 'none'!r}, now {here or 'none'!r}" for name, (there, here) in changes.items())
        super().__init__("journal", f"{path} belongs to a run with another configuration: {listed}. Run that one on, or remove the file")
        self.changes = changes


class _Header(msgspec.Struct, frozen=True):
    format: str
    hash: str
    configuration: dict[str, str]


class _Entry(msgspec.Struct, frozen=True):
    key: str
    value: msgspec.Raw


class Journal:
    """The journal at `path` for one configuration: opened, or begun when there is none. A context manager.

    `entries` holds what earlier runs left: key -> JSON. Raises JournalMismatchError when the configuration differs,
    InvalidInputError("journal") when the file is something else, is open elsewhere, or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], configuration: Mapping[str, str]) -> None:
        self.path = Path(path)
        self.entries: dict[str, msgspec.Raw] = {}
        self._unsynced = 0
        self._synced_at = time.monotonic()
        try:
            self._file = _open_locked(self.path)
        except OSError as cause:
            raise InvalidInputError("journal", f"{self.path}: cannot be written: {cause.strerror}") from cause
        try:
            self._resume(dict(configuration))
        except BaseException:
            self._file.close()
            raise

    def append(self, key: str, value: Any) -> None:
        """Write one result (anything that msgspec encodes). A later entry under a key replaces the earlier one."""
        self._file.write(msgspec.json.encode({"key": key, "value": value}) + b"\n")
        self._file.flush()
        self._unsynced += 1
        if self._unsynced >= SYNC_ROWS or time.monotonic() - self._synced_at >= SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Make all that was appended survive a power cut."""
        os.fsync(self._file.fileno())
        self._unsynced = 0
        self._synced_at = time.monotonic()

    def close(self) -> None:
        """Sync and unlock; the file stays. Closing twice does nothing."""
        if not self._file.closed:
            self.sync()
            self._file.close()

    def remove(self) -> None:
        """Close the journal and remove its file: the run is complete and its output in place."""
        self.close()
        remove_file(self.path)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _resume(self, configuration: dict[str, str]) -> None:
        lines = self._file.read().split(b"\n")[:-1]  # what follows the last line end is torn, or nothing
        good = 0
        if lines and self._is_ours(lines[0], configuration, has_entries=len(lines) > 1):
            good = len(lines[0]) + 1
        else:
            lines = []
        for line in lines[1:]:
            try:
                entry = msgspec.json.decode(line, type=_Entry)
            except (msgspec.DecodeError, msgspec.ValidationError):
                break  # a power cut may leave a hole; what follows is done again
            self.entries[entry.key] = entry.value.copy()
            good += len(line) + 1
        self._file.seek(good)
        self._file.truncate()
        if not lines:
            self._file.write(msgspec.json.encode(_Header(FORMAT, _hash(configuration), configuration)) + b"\n")
            self._file.flush()
            self.sync()
            sync_folder(self.path.resolve().parent)

    def _is_ours(self, line: bytes, configuration: dict[str, str], *, has_entries: bool) -> bool:
        """Whether the header fits; one that does not and has no entry after it stands in nobody's way."""
        try:
            header = msgspec.json.decode(line, type=_Header)
        except (msgspec.DecodeError, msgspec.ValidationError) as cause:
            raise InvalidInputError("journal", f"{self.path} is no journal: {cause}. Remove it to start again") from cause
        if header.format != FORMAT:
            raise InvalidInputError("journal", f"{self.path} has the format {header.format!r}, not {FORMAT!r}. Remove it to start again")
        if header.hash != _hash(configuration) and has_entries:
            there = header.configuration
            names = [*configuration, *(name for name in there if name not in configuration)]
            pairs = {name: (there.get(name, ""), configuration.get(name, "")) for name in names}
            raise JournalMismatchError(self.path, {name: pair for name, pair in pairs.items() if pair[0] != pair[1]})
        return header.hash == _hash(configuration)


def _hash(configuration: dict[str, str]) -> str:
    return hashlib.sha256(msgspec.json.encode(sorted(configuration.items()))).hexdigest()


def _open_locked(path: Path) -> BinaryIO:
    file = open(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")  # noqa: SIM115 (the Journal closes it)
    try:
        import fcntl
    except ImportError:  # no such lock on this system
        return file
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as cause:
        file.close()
        raise InvalidInputError("journal", f"{path} is in use by another run") from cause
    except OSError:  # a file system without locks: go on without one
        return file
    return file
