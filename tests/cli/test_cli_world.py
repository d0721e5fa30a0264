"""`editscore world`: a folder that `editscore score --input` reads, the same bytes for the same seed, a sheet, plain errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest

from editscore.cli import main

Command = Callable[..., int]


def test_a_made_folder_is_scored_with_its_truth(tmp_path: Path, editscore_command: Command) -> None:
    folder = tmp_path / "groups"
    assert editscore_command("world", "make", "--num", 3, "--edits", 2, "--seed", 7, "--output", folder) == 0
    assert editscore_command("world", "make", "--num", 3, "--edits", 2, "--seed", 7, "--output", tmp_path / "again") == 0
    for file in folder.rglob("*.*"):
        assert file.read_bytes() == (tmp_path / "again" / file.relative_to(folder)).read_bytes()
    assert editscore_command("score", "--input", folder, "--output", tmp_path / "out.jsonl", "--report", tmp_path / "page.html") == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(rows) == 6 and all(0 <= row["oracle_overall"] <= 10 and row["editor"] and row["world_version"] for row in rows)
    assert (tmp_path / "page.html").read_text().count('class="truth-text"') == 6


def test_a_sheet(tmp_path: Path) -> None:
    assert main(["world", "sheet", "--output", str(tmp_path / "sheet.png"), "--num", "2", "--edits", "2", "--size", "64"]) == 0
    assert PIL.Image.open(tmp_path / "sheet.png").width > 3 * 64


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["make"], "--output"),
        (["make", "--output", "x", "--num", "0"], "--num"),
        (["make", "--output", "x", "--size", "3"], "size: must be at least 28"),
        (["make", "--output", "x", "--edits", "99"], "num_edits"),
        (["make", "--output", "x", "--seed", "-1"], "--seed"),
        (["sheet", "--output", "x.png", "--split", "test"], "--split"),
    ],
)
def test_bad_usage(
    tokens: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["world", *tokens]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.glob("**/manifest.*"))
