"""Folders and sheets on disk: read back, they say what the world says."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from editscore.data import load_sample, read_manifest
from editscore.types import InvalidInputError
from editscore.world import TASKS, draw_sheet, sample_group, world_version, write_groups

FIELDS = (
    "id", "group", "task_type", "instruction", "source", "edited", "editor", "faults", "oracle_prompt_following", "oracle_consistency",
    "oracle_naturalness", "oracle_artifacts", "oracle_overall", "reasons", "world_version",
)  # fmt: skip


def test_a_folder_reads_back_as_the_world_made_it(tmp_path: Path) -> None:
    path = write_groups(tmp_path / "a" / "b", num=15, seed=7, num_edits=3)
    assert path.name == "manifest.jsonl"
    manifest = read_manifest(path.parent)
    assert len(manifest.rows) == 45 and not any(row.problem for row in manifest.rows)
    version = world_version()
    for k, row in enumerate(manifest.rows):
        group = sample_group("report", k // 3, seed=7, num_edits=3)
        edit, fields = group.edits[k % 3], row.fields
        assert tuple(fields) == FIELDS
        assert (fields["id"], fields["group"], fields["task_type"]) == (edit.id, group.id, group.task_type)
        assert (fields["instruction"], fields["editor"], fields["world_version"]) == (group.instruction, edit.editor, version)
        assert fields["faults"] == [f"{f.kind}:{f.grade}" for f in edit.faults]
        assert fields["reasons"] == [edit.verdict.sc_reason, edit.verdict.pq_reason]
        marks = [fields[f"oracle_{n}"] for n in ("prompt_following", "consistency", "naturalness", "artifacts")]
        assert fields["oracle_overall"] == pytest.approx((min(marks[:2]) * min(marks[2:])) ** 0.5 / 2.5, abs=1e-4)
        assert not Path(fields["source"]).is_absolute() and not Path(fields["edited"]).is_absolute()
        assert row.sample is not None
        sample = load_sample(row.sample)
        assert np.array_equal(np.frombuffer(sample.source.pixels, np.uint8), group.source.reshape(-1))
        assert np.array_equal(np.frombuffer(sample.edited.pixels, np.uint8), edit.image.reshape(-1))
    assert not [p for p in path.parent.rglob(".*")]


def test_the_same_call_writes_the_same_manifest(tmp_path: Path) -> None:
    one, two = (write_groups(tmp_path / name, num=4, seed=1).read_bytes() for name in ("one", "two"))
    assert one == two
    again = write_groups(tmp_path / "one", num=2, seed=1)
    assert len(again.read_bytes().splitlines()) == 8


def test_an_interrupted_run_leaves_no_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_groups(tmp_path, num=2, seed=1)
    import editscore.world.manifest as module

    def stop(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "sample_group", stop)
    with pytest.raises(KeyboardInterrupt):
        write_groups(tmp_path, num=3, seed=2)
    with pytest.raises(InvalidInputError):
        read_manifest(tmp_path)


def test_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="num"):
        write_groups(tmp_path, num=0, seed=0)
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidInputError, match="output"):
        write_groups(tmp_path / "file", num=1, seed=0)


def test_parquet_without_pyarrow_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InvalidInputError, match=r"pip install 'editscore\[data\]'"):
        write_groups(tmp_path / "p", num=1, seed=0, parquet=True)
    assert not (tmp_path / "p").exists()


def test_parquet_holds_the_same_rows(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    lines = write_groups(tmp_path / "l", num=3, seed=5).read_bytes().splitlines()
    write_groups(tmp_path / "p", num=3, seed=5, parquet=True)
    assert [row.fields for row in read_manifest(tmp_path / "p").rows] == [msgspec.json.decode(line) for line in lines]


def test_a_sheet_shows_the_pictures(tmp_path: Path) -> None:
    path = draw_sheet(tmp_path / "sheet.png", num=3, seed=2, num_edits=2, size=84)
    sheet = np.asarray(Image.open(path).convert("RGB"))
    group = sample_group("report", 1, seed=2, num_edits=2, size=84)
    for picture in (group.source, *(e.image for e in group.edits)):
        rows = [y for y in range(0, sheet.shape[0] - 84) for x in (14, 112, 210) if np.array_equal(sheet[y : y + 84, x : x + 84], picture)]
        assert len(rows) == 1
    with pytest.raises(InvalidInputError, match="num"):
        draw_sheet(tmp_path / "none.png", num=0)
    with pytest.raises(InvalidInputError, match="num_edits"):
        draw_sheet(tmp_path / "none.png", num_edits=12)
    assert not (tmp_path / "none.png").exists() and len(TASKS) == 13
