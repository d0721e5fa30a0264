"""Manifests: rows in order, paths resolved, and a bad row is a row with a problem that names file, line and field."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from editscore.data import Manifest, read_manifest
from editscore.types import InvalidInputError

GOOD = {"id": "a", "source": "a.png", "edited": "sub/b.png", "instruction": "make it red"}


def manifest(folder: Path, *lines: Any, name: str = "pairs.jsonl") -> Manifest:
    raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    (folder / name).write_bytes(b"\n".join(raw) + b"\n")
    return read_manifest(folder / name)


def test_rows_resolve_against_the_manifest_and_carry_the_rest(tmp_path: Path) -> None:
    absolute = {**GOOD, "id": 7, "source": "/elsewhere/a.png", "note": {"deep": [1, 2.5, None]}}
    first, second, third = manifest(tmp_path, GOOD, b"", absolute, {k: v for k, v in GOOD.items() if k != "id"}).rows
    assert first.sample is not None and second.sample is not None and third.sample is not None
    assert first.sample.source == os.path.join(tmp_path, "a.png") and first.sample.edited == os.path.join(tmp_path, "sub/b.png")
    assert first.fields["source"] == "a.png" and first.extras == {}
    assert second.id == "7" and second.sample.source == "/elsewhere/a.png" and second.extras == {"note": {"deep": [1, 2.5, None]}}
    assert (second.where, third.where, third.id) == ("pairs.jsonl:3", "pairs.jsonl:4", "2")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"id": "x", "source": "\xff.png"}', "line: is not UTF-8: byte 0xff at column 24"),
        (b'{"id": "x", ', "line: is not JSON"),
        (b"[" * 100_000, "line: is not JSON"),
        (b"[1, 2]", "line: is not an object but list"),
        (b'"text"', "line: is not an object but str"),
        (b"null", "line: is not an object but NoneType"),
        ({**GOOD, "id": "a"}, "id: 'a' was used at pairs.jsonl:1 already"),
        ({**GOOD, "id": 1.5}, "id: needs a text or a whole number"),
        ({**GOOD, "id": True}, "id: needs a text or a whole number"),
        ({"id": "x", "edited": "b", "instruction": "c"}, "source: is missing"),
        ({**GOOD, "id": "x", "edited": None}, "edited: is missing"),
        ({**GOOD, "id": "x", "edited": ""}, "edited: is empty"),
        ({**GOOD, "id": "x", "source": 3}, "source: needs a text, not int"),
        ({**GOOD, "id": "x", "instruction": "  "}, "instruction: is empty"),
        ({**GOOD, "id": "x", "instruction": "x" * 10_001}, "instruction: has 10,001 characters"),
    ],
)
def test_a_bad_row_is_a_row_with_a_problem(tmp_path: Path, line: Any, words: str) -> None:
    first, second, third = manifest(tmp_path, GOOD, line, {**GOOD, "id": "z"}).rows
    assert first.sample is not None and third.sample is not None
    assert second.sample is None and second.problem.startswith("pairs.jsonl:2: ") and words in second.problem


def test_a_json_string_is_not_mistaken_for_a_decoding_problem(tmp_path: Path) -> None:
    (row,) = manifest(tmp_path, b'"line: no"').rows
    assert row.problem == "pairs.jsonl:1: line: is not an object but str"


def test_bom_and_crlf_are_fine(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode() + b"\r\n" + json.dumps({**GOOD, "id": "b"}).encode())
    assert [row.id for row in read_manifest(tmp_path / "m.jsonl").rows] == ["a", "b"]


def test_files_that_cannot_be_read_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "wide.jsonl").write_bytes(json.dumps(GOOD).encode("utf-16"))
    (tmp_path / "none.jsonl").write_bytes(b"\n\n")
    (tmp_path / "pairs.csv").write_text("id,source\n")
    (tmp_path / "bare").mkdir()
    cases = {"wide.jsonl": "UTF-16", "none.jsonl": "no rows", "pairs.csv": "neither", "bare": "manifest.jsonl", "gone.jsonl": "no such"}
    for name, words in cases.items():
        with pytest.raises(InvalidInputError, match=words) as caught:
            read_manifest(tmp_path / name)
        assert caught.value.field == "input" and name in str(caught.value)


def test_a_folder_is_read_through_its_manifest(tmp_path: Path) -> None:
    manifest(tmp_path, GOOD, name="manifest.jsonl")
    assert read_manifest(tmp_path) == read_manifest(tmp_path / "manifest.jsonl")


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=6))
def test_any_bytes_give_rows_or_one_clear_error(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "m.jsonl"
    path.write_bytes(b"\n".join([json.dumps(GOOD).encode(), *lines]))
    rows = read_manifest(path).rows
    assert rows[0].sample is not None and all(row.problem for row in rows[1:] if row.sample is None)


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow (extra [data]) is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [GOOD, {**GOOD, "id": "b", "instruction": None}]
    parquet.write_table(pyarrow.Table.from_pylist([{**row, "n": 3} for row in rows]), tmp_path / "m.parquet")
    first, second = read_manifest(tmp_path / "m.parquet").rows
    assert first.sample is not None and first.extras == {"n": 3}
    assert second.problem == "m.parquet:2: instruction: is missing"
    parquet.write_table(pyarrow.table({"id": ["a"], "source": ["a"]}), tmp_path / "short.parquet")
    with pytest.raises(InvalidInputError, match="has no column edited, instruction"):
        read_manifest(tmp_path / "short.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(InvalidInputError, match=r"bad\.parquet: cannot be read as parquet"):
        read_manifest(tmp_path / "bad.parquet")


def test_parquet_without_pyarrow_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    (tmp_path / "m.parquet").write_bytes(b"PAR1")
    with pytest.raises(InvalidInputError, match=r"pip install 'editscore\[data\]'"):
        read_manifest(tmp_path / "m.parquet")
