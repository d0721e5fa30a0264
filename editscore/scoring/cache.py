"""The result cache: one entry per pass, keyed by everything that decides the pass, in one sqlite file.

Several processes may share the file (write-ahead log). An entry carries a checksum over its key and its content, so that a damaged
file gives a miss and is built anew, never a wrong answer. A cache that cannot be used is switched off with a warning.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from editscore.types import Completion, FinishReason, Request, Status

# Part of every key and of the file's name: changes with the layout of the file or of the stored completions.
FORMAT_VERSION = 1
BUSY_TIMEOUT_S = 30.0
_CHECKSUM_BYTES = 16
_KEYS_PER_QUERY = 500

_Result = TypeVar("_Result")
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Completion)


class CacheWarning(UserWarning):
    """The result cache was damaged or could not be used; scores are computed anew."""


def pass_key(request: Request, pass_index: int, identity: Mapping[str, str]) -> bytes:
    """SHA-256 over the request's content, the pass, and the engine's hashes (model, adapter, preprocessing, numerics)."""
    content = [FORMAT_VERSION, request.digest, pass_index, sorted(identity.items())]
    return hashlib.sha256(_ENCODER.encode(content)).digest()


def is_worth_keeping(completion: Completion) -> bool:
    """An answer of the model, also a bad one; not a failure of machinery and not a cancelled pass."""
    return completion.status not in (Status.ERROR, Status.INVALID_INPUT) and completion.finish_reason in (
        FinishReason.STOP,
        FinishReason.LENGTH,
    )


class ResultCache:
    """Completions on disk by key. `folder` is made if need be. For use by several threads and processes at once."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder) / f"passes-v{FORMAT_VERSION}.sqlite"
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self._is_off = False
        self._has_rebuilt = False

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Completion]:
        """The entries that are there, by key."""
        none: list[tuple[bytes, bytes]] = []
        rows = self._use(lambda connection: list(_select(connection, keys)), none)
        found = {key: completion for key, value in rows if (completion := _unpack(key, value)) is not None}
        if len(found) < len(rows):
            self._rebuild(f"{len(rows) - len(found)} entries do not match their checksum")
        return found

    def put(self, entries: Iterable[tuple[bytes, Completion]]) -> None:
        """Store entries in one transaction. An entry that is already there is replaced."""
        rows = [(key, _pack(key, completion)) for key, completion in entries]
        if rows:
            self._use(lambda connection: _insert(connection, rows), None)

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._connection = None

    def _use(self, action: Callable[[sqlite3.Connection], _Result], otherwise: _Result) -> _Result:
        """What the action gives; `otherwise` when the cache is off or damaged. Damage leads to a rebuild, other trouble ends its use."""
        with self._lock:
            try:
                connection = self._open()
                return otherwise if connection is None else action(connection)
            except sqlite3.OperationalError as error:
                self._switch_off(error)
            except sqlite3.DatabaseError as error:
                self._rebuild(str(error))
            except OSError as error:
                self._switch_off(error)
            return otherwise

    def _open(self) -> sqlite3.Connection | None:
        if self._is_off:
            return None
        if self._connection is None or self._pid != os.getpid():  # a connection must not cross a fork
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = _connect(self.path)
            self._pid = os.getpid()
        return self._connection

    def _switch_off(self, error: Exception) -> None:
        warnings.warn(f"the result cache {self.path} is off: {error}", CacheWarning, stacklevel=4)
        self.close()
        self._is_off = True

    def _rebuild(self, reason: str) -> None:
        """Remove a damaged file, under a lock so that only one process does; a second damage in one life switches the cache off."""
        with self._lock:
            self.close()
            if self._has_rebuilt:
                self._switch_off(sqlite3.DatabaseError(f"damaged again: {reason}"))
                return
            self._has_rebuilt = True
            try:
                with _exclusive(self.path.with_suffix(".lock")):
                    if _is_sound(self.path):
                        return
                    warnings.warn(f"the result cache {self.path} is damaged ({reason}) and is built anew", CacheWarning, stacklevel=4)
                    for suffix in ("", "-wal", "-shm", "-journal"):
                        Path(f"{self.path}{suffix}").unlink(missing_ok=True)
            except OSError as error:
                self._switch_off(error)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may lose the last entries, never damage the file
        with connection:
            connection.execute("CREATE TABLE IF NOT EXISTS passes (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
    except BaseException:
        connection.close()
        raise
    return connection


def _select(connection: sqlite3.Connection, keys: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    for start in range(0, len(keys), _KEYS_PER_QUERY):
        part = keys[start : start + _KEYS_PER_QUERY]
        marks = ",".join("?" * len(part))
        yield from connection.execute(f"SELECT key, value FROM passes WHERE key IN ({marks})", part)


def _insert(connection: sqlite3.Connection, rows: Sequence[tuple[bytes, bytes]]) -> None:
    with connection:
        connection.executemany("INSERT OR REPLACE INTO passes VALUES (?, ?)", rows)


def _checksum(key: bytes, payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=_CHECKSUM_BYTES, key=key).digest()


def _pack(key: bytes, completion: Completion) -> bytes:
    payload = _ENCODER.encode(completion)
    return _checksum(key, payload) + payload


def _unpack(key: object, value: object) -> Completion | None:
    """The completion of an entry; None for one that is damaged."""
    if not isinstance(key, bytes) or not isinstance(value, bytes):
        return None
    payload = value[_CHECKSUM_BYTES:]
    if value[:_CHECKSUM_BYTES] != _checksum(key, payload):
        return None
    try:
        return _DECODER.decode(payload)
    except msgspec.DecodeError:
        return None


def _is_sound(path: Path) -> bool:
    """Whether a file is a whole database with right checksums: another process may have built it anew already."""
    try:
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)
        with contextlib.closing(connection):
            if connection.execute("PRAGMA quick_check").fetchone() != ("ok",):
                return False
            return all(_unpack(key, value) is not None for key, value in connection.execute("SELECT key, value FROM passes"))
    except sqlite3.DatabaseError:
        return False


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """One process at a time, where the platform has flock."""
    try:
        import fcntl
    except ImportError:  # pragma: no cover - Windows: a race between two rebuilds loses entries, the checksums still hold
        yield
        return
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
