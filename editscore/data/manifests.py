"""Manifests: rows of edits to be judged, as JSON lines, parquet, or a folder with one of them inside.

A row has `source`, `edited` (paths, relative ones start at the manifest's folder), `instruction`, and an optional `id`; whatever
else it has is carried through. A row that is wrong becomes a `ManifestRow` with a `problem`; only a file that cannot be read as
a whole is an error.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from editscore.data.samples import check_instruction
from editscore.types import EditSample, InvalidInputError

NAMES = ("manifest.jsonl", "manifest.parquet")
REQUIRED = ("source", "edited", "instruction")
FIELDS = ("id", *REQUIRED)


class ManifestRow(msgspec.Struct, frozen=True):
    """One row. `where` names file and line; either `sample` is there or `problem` says why not ("FILE:LINE: FIELD: reason").

    `fields` is the row as written: `sample` holds the resolved paths, `fields` the ones in the file.
    """

    index: int
    where: str
    id: str
    fields: dict[str, Any]
    sample: EditSample | None = None
    problem: str = ""

    @property
    def extras(self) -> dict[str, Any]:
        """The fields that are carried through: all but id, source, edited and instruction."""
        return {name: value for name, value in self.fields.items() if name not in FIELDS}


class Manifest(msgspec.Struct, frozen=True):
    """The rows of one file, its path, and the SHA-256 (hex) of its bytes."""

    path: Path
    digest: str
    rows: tuple[ManifestRow, ...]


def read_manifest(path: str | os.PathLike[str], field: str = "input") -> Manifest:
    """Read `.jsonl` (or `.ndjson`), `.parquet`, or a folder that holds `manifest.jsonl` or `manifest.parquet`.

    Raises InvalidInputError(field) when the file is missing, of another kind, without rows, or (parquet) without a needed column.
    """
    file = _find(Path(path), field)
    try:
        data = file.read_bytes()
    except OSError as cause:
        raise InvalidInputError(field, f"{file}: {cause.strerror}") from cause
    records = _parquet_records(file, field) if file.suffix == ".parquet" else _json_records(file, data, field)
    rows = _rows(file, records)
    if not rows:
        raise InvalidInputError(field, f"{file}: holds no rows")
    return Manifest(path=file, digest=hashlib.sha256(data).hexdigest(), rows=tuple(rows))


def _find(path: Path, field: str) -> Path:
    if path.is_dir():
        for name in NAMES:
            if (path / name).is_file():
                return path / name
        raise InvalidInputError(field, f"{path}: a folder must hold {' or '.join(NAMES)}")
    if not path.exists():
        raise InvalidInputError(field, f"{path}: no such file or folder")
    if path.suffix not in (".jsonl", ".ndjson", ".parquet"):
        raise InvalidInputError(field, f"{path}: is neither .jsonl nor .parquet nor a folder")
    return path


def _json_records(file: Path, data: bytes, field: str) -> Iterator[tuple[str, Any]]:
    """(where, the decoded row or the error that it is) of every line that is not blank."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InvalidInputError(field, f"{file}: is UTF-16; save it as UTF-8")
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        yield f"{file.name}:{number}", _json_record(line)


def _json_record(line: bytes) -> Any:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as cause:
        return InvalidInputError("line", f"is not UTF-8: byte 0x{line[cause.start]:02x} at column {cause.start + 1}")
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError) as cause:
        return InvalidInputError("line", f"is not JSON: {cause}")


def _parquet_records(file: Path, field: str) -> Iterator[tuple[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as cause:
        raise InvalidInputError(field, f"{file}: parquet needs pyarrow: pip install 'editscore[data]'") from cause
    try:
        table = pyarrow.parquet.ParquetFile(file)
        columns = table.schema_arrow.names
        missing = [name for name in REQUIRED if name not in columns]
        if missing:
            raise InvalidInputError(field, f"{file}: has no column {', '.join(missing)}; its columns are {', '.join(columns)}")
        number = 0
        for batch in table.iter_batches():
            for record in batch.to_pylist():
                number += 1
                yield f"{file.name}:{number}", record
    except pyarrow.ArrowException as cause:
        raise InvalidInputError(field, f"{file}: cannot be read as parquet: {cause}") from cause


def _rows(file: Path, records: Iterator[tuple[str, Any]]) -> list[ManifestRow]:
    rows: list[ManifestRow] = []
    seen: dict[str, str] = {}
    for index, (where, record) in enumerate(records):
        fields = record if isinstance(record, dict) else {}
        sample_id = str(index)
        try:
            if isinstance(record, InvalidInputError):
                raise record
            if not isinstance(record, dict):
                raise InvalidInputError("line", f"is not an object but {type(record).__name__}")
            sample_id = _sample_id(fields, index)
            if sample_id in seen:
                raise InvalidInputError("id", f"{sample_id!r} was used at {seen[sample_id]} already")
            seen[sample_id] = where
            row = ManifestRow(index, where, sample_id, fields, sample=_sample(file.parent, sample_id, fields))
        except InvalidInputError as cause:
            row = ManifestRow(index, where, sample_id, fields, problem=f"{where}: {cause}")
        rows.append(row)
    return rows


def _sample_id(fields: dict[str, Any], index: int) -> str:
    """The row's id; a whole number counts as its digits, and a row without one is named by its place, from 0."""
    value = fields.get("id")
    if value is None or value == "":
        return str(index)
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise InvalidInputError("id", f"needs a text or a whole number, not {type(value).__name__}")
    return str(value)


def _sample(folder: Path, sample_id: str, fields: dict[str, Any]) -> EditSample:
    for name in REQUIRED:
        value = fields.get(name)
        if value is None:
            raise InvalidInputError(name, "is missing")
        if not isinstance(value, str):
            raise InvalidInputError(name, f"needs a text, not {type(value).__name__}")
        if not value:
            raise InvalidInputError(name, "is empty")
    check_instruction(fields["instruction"])
    return EditSample(
        source=str(folder / fields["source"]),
        edited=str(folder / fields["edited"]),
        instruction=fields["instruction"],
        id=sample_id,
    )
