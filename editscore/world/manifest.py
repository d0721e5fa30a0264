"""Groups on disk: PNG files and one manifest that `editscore score --input DIR` reads."""

import io
import os
from pathlib import Path
from typing import Any, Final

import msgspec
from PIL import Image as PillowImage

from editscore.data import atomic_write, remove_file
from editscore.types import InvalidInputError
from editscore.world.groups import sample_group, world_version
from editscore.world.palette import LATTICE
from editscore.world.records import Group, GroupEdit, Pixels, Split

MANIFEST: Final = "manifest.jsonl"
PARQUET_MANIFEST: Final = "manifest.parquet"
_IMAGES: Final = "images"


def write_groups(
    output_dir: str | os.PathLike[str],
    *,
    num: int,
    seed: int,
    split: Split = "report",
    num_edits: int = 4,
    size: int = LATTICE,
    parquet: bool = False,
    photos: tuple[Pixels, ...] = (),
) -> Path:
    """Write groups 0 .. num-1 of a split and seed, and return the manifest's path.

    The folder gets `images/GROUP/source.png`, `images/GROUP/K.png` and, last of all, `manifest.jsonl` (with `parquet`:
    `manifest.parquet`, which needs pyarrow). A manifest of an earlier run goes first, so a folder with a manifest is complete.
    Raises InvalidInputError.
    """
    if num < 1:
        raise InvalidInputError("num", f"must be at least 1, is {num}")
    if parquet:
        _need_pyarrow()
    folder = Path(output_dir)
    try:
        (folder / _IMAGES).mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise InvalidInputError("output", f"{folder}: cannot be made: {cause.strerror}") from cause
    for name in (MANIFEST, PARQUET_MANIFEST):
        remove_file(folder / name)
    version = world_version()
    rows: list[dict[str, Any]] = []
    for index in range(num):
        group = sample_group(split, index, seed=seed, num_edits=num_edits, size=size, photos=photos)
        rows += _write_group(folder, group, version)
    return _write_parquet(folder, rows) if parquet else _write_lines(folder, rows)


def manifest_row(group: Group, edit: GroupEdit, source: str, edited: str, version: str) -> dict[str, Any]:
    """One candidate as a manifest describes it; `source` and `edited` are paths relative to the manifest."""
    verdict = edit.verdict
    return {
        "id": edit.id,
        "group": group.id,
        "task_type": group.task_type,
        "instruction": group.instruction,
        "source": source,
        "edited": edited,
        "editor": edit.editor,
        "faults": [fault.tag for fault in edit.faults],
        "oracle_prompt_following": verdict.prompt_following,
        "oracle_consistency": verdict.consistency,
        "oracle_naturalness": verdict.naturalness,
        "oracle_artifacts": verdict.artifacts,
        "oracle_overall": round(verdict.overall, 4),
        "reasons": [verdict.sc_reason, verdict.pq_reason],
        "world_version": version,
    }


def _write_group(folder: Path, group: Group, version: str) -> list[dict[str, Any]]:
    place = f"{_IMAGES}/{group.id}"
    (folder / place).mkdir(exist_ok=True)
    source = f"{place}/source.png"
    _write_png(folder / source, group.source)
    rows = []
    for k, edit in enumerate(group.edits):
        edited = f"{place}/{k}.png"
        _write_png(folder / edited, edit.image)
        rows.append(manifest_row(group, edit, source, edited, version))
    return rows


def _write_png(path: Path, pixels: Pixels) -> None:
    """Whole or absent under its name. Not synced one by one: the manifest, which is, comes after all of them."""
    temporary = path.with_name(f".{path.name}.tmp")
    PillowImage.fromarray(pixels).save(temporary, format="PNG")
    os.replace(temporary, path)


def _write_lines(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / MANIFEST
    with atomic_write(path) as file:
        for row in rows:
            file.write(msgspec.json.encode(row) + b"\n")
    return path


def _need_pyarrow() -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as cause:
        raise InvalidInputError("parquet", "needs pyarrow: pip install 'editscore[data]'") from cause


def _write_parquet(folder: Path, rows: list[dict[str, Any]]) -> Path:
    import pyarrow
    import pyarrow.parquet

    path, buffer = folder / PARQUET_MANIFEST, io.BytesIO()
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    lists = pyarrow.list_(pyarrow.string())  # named: a column of empty lists has no type of its own
    table = pyarrow.table({n: pyarrow.array(v, lists) if n in ("faults", "reasons") else pyarrow.array(v) for n, v in columns.items()})
    pyarrow.parquet.write_table(table, buffer)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())
    return path
