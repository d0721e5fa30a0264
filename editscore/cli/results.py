"""From a row and its score to what is written: the output line, the card of the page, the footer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from editscore.data import ManifestRow, to_image
from editscore.report import DIMENSIONS, ReportRow
from editscore.types import EditSample, Identity, Image, InvalidInputError, Score, Status

_ORACLE = "oracle_"
_RAW_TO_TEN = 10 / 25
_NOTES = ("editor", "faults", "group")
_NOTE_CHARACTERS = 200


def output_line(row: ManifestRow, score: Score) -> bytes:
    """One JSON line: the Score record, then the row's own fields as they were written.

    A field of the row that has the name of a Score field is written as `input_<name>`, with as many `input_` as it takes; `id`
    is the score's.
    """
    record: dict[str, Any] = msgspec.to_builtins(score)
    fields = {name: value for name, value in row.fields.items() if name != "id"}
    taken = set(record) | set(fields)
    for name, value in fields.items():
        free = name
        while free in record or (free != name and free in taken):
            free = f"input_{free}"
        record[free] = value
    return msgspec.json.encode(record) + b"\n"


def failed_row(row: ManifestRow, seed: int) -> Score:
    """The score of a row that is no sample."""
    return Score(id=row.id, status=Status.INVALID_INPUT, message=row.problem, seed=seed)


def report_rows(pairs: Iterable[tuple[ManifestRow, Score]]) -> Iterator[ReportRow]:
    """The page's cards, images decoded one row at a time."""
    for row, score in pairs:
        fields = row.fields
        truth = {name: _truth(fields.get(_ORACLE + name), _RAW_TO_TEN) for name in DIMENSIONS}
        truth["overall"] = _truth(fields.get(_ORACLE + "overall"), 1.0)
        yield ReportRow(
            score=score,
            instruction=_text(fields.get("instruction")),
            source=_image(row.sample, "source"),
            edited=_image(row.sample, "edited"),
            task=_text(fields.get("task_type") or fields.get("task")),
            truth={name: value for name, value in truth.items() if value is not None},
            notes={name: note for name in _NOTES if (note := _note(fields.get(name)))},
        )


def provenance(identity: Identity, facts: Mapping[str, str]) -> dict[str, str]:
    """The page's footer: what was asked, then the hashes of what answered."""
    hashes = msgspec.structs.asdict(identity)
    return {**facts, **{f"{name} hash": value for name, value in hashes.items() if value}}


def _truth(value: Any, factor: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return min(max(value * factor, 0.0), 10.0)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _note(value: Any) -> str:
    if value is None or value == "" or value == []:
        return ""
    shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return shown if len(shown) <= _NOTE_CHARACTERS else shown[:_NOTE_CHARACTERS] + "..."


def _image(sample: EditSample | None, field: str) -> Image | None:
    if sample is None:
        return None
    try:
        return to_image(getattr(sample, field), field)
    except InvalidInputError:  # the score's message says so already
        return None
