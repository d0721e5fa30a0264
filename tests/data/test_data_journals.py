"""Journals and atomic files: nothing lost to kill -9, nothing half-written, a changed configuration is an error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from editscore.data import Journal, JournalMismatchError, atomic_write
from editscore.types import InvalidInputError

CONFIGURATION = {"model": "abc", "passes": "4"}


def entries(path: Path) -> dict[str, object]:
    with Journal(path, CONFIGURATION) as journal:
        return {key: msgspec.json.decode(value) for key, value in journal.entries.items()}


def test_what_was_appended_is_there_again_and_can_be_added_to(tmp_path: Path) -> None:
    path = tmp_path / "out.journal"
    with Journal(path, CONFIGURATION) as journal:
        journal.append("a", {"x": 1})
        journal.append("a", {"x": 2})
    with Journal(path, CONFIGURATION) as journal:
        journal.append("b", [1.5, "é"])
    assert entries(path) == {"a": {"x": 2}, "b": [1.5, "é"]}
    with Journal(path, CONFIGURATION) as journal:
        journal.remove()
    assert not path.exists()


@settings(deadline=None)
@given(st.integers(0, 400))
def test_a_journal_cut_anywhere_keeps_its_whole_lines(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "out.journal"
    with Journal(path, CONFIGURATION) as journal:
        for index in range(5):
            journal.append(str(index), {"value": index})
    data = path.read_bytes()[:length]
    path.write_bytes(data)
    whole = max(0, data.count(b"\n") - 1)
    assert entries(path) == {str(index): {"value": index} for index in range(whole)}
    with Journal(path, CONFIGURATION) as journal:
        journal.append("new", True)
    assert entries(path) == {str(index): {"value": index} for index in range(whole)} | {"new": True}


def test_a_hole_in_the_middle_ends_what_counts(tmp_path: Path) -> None:
    path = tmp_path / "out.journal"
    with Journal(path, CONFIGURATION) as journal:
        for index in range(3):
            journal.append(str(index), index)
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*lines[:2], b"\0" * 20, *lines[3:]]))
    assert entries(path) == {"0": 0}


def test_another_configuration_is_an_error_that_says_what_changed(tmp_path: Path) -> None:
    path = tmp_path / "out.journal"
    with Journal(path, CONFIGURATION) as journal:
        journal.append("a", 1)
    with pytest.raises(JournalMismatchError) as caught:
        Journal(path, {"model": "abc", "passes": "8", "seed": "1"})
    assert caught.value.changes == {"passes": ("4", "8"), "seed": ("", "1")}
    assert "passes was '4', now '8'" in str(caught.value) and "model" not in str(caught.value).split(": ", 2)[2]
    assert entries(path) == {"a": 1}  # and the journal is as it was


def test_a_journal_without_entries_stands_in_nobodys_way(tmp_path: Path) -> None:
    Journal(tmp_path / "j", {"passes": "8"}).close()
    with Journal(tmp_path / "j", CONFIGURATION) as journal:
        journal.append("a", 1)
    assert entries(tmp_path / "j") == {"a": 1}


def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.journal"
    path.write_text("my diary\n")
    with pytest.raises(InvalidInputError, match="is no journal"):
        Journal(path, CONFIGURATION)
    assert path.read_text() == "my diary\n"


def test_two_runs_cannot_share_a_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", CONFIGURATION), pytest.raises(InvalidInputError, match="in use by another run"):
        Journal(tmp_path / "j", CONFIGURATION)


def test_kill_9_loses_nothing_that_was_appended(tmp_path: Path) -> None:
    path = tmp_path / "out.journal"
    code = f"""
import sys
from editscore.data import Journal
journal = Journal({str(path)!r}, {CONFIGURATION!r})
for index in range(10**6):
    journal.append(str(index), index)
    print(index, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    seen = [int(process.stdout.readline()) for _ in range(150)]
    process.send_signal(signal.SIGKILL)
    seen += [int(line) for line in process.stdout.read().split()]
    process.wait()
    kept = entries(path)
    assert {str(index) for index in seen} <= set(kept) and all(kept[key] == int(key) for key in kept)


def test_atomic_write_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:
        file.write(b"half")
        file.flush()
        raise KeyboardInterrupt
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["out.jsonl"]
    with atomic_write(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["out.jsonl"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~os.umask(os.umask(0o22))


def test_atomic_write_keeps_links_and_names_what_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    with atomic_write(tmp_path / "link.txt") as file:
        file.write(b"new")
    assert (tmp_path / "link.txt").is_symlink() and (tmp_path / "real.txt").read_text() == "new"
    for path, words in ((tmp_path, "is a folder"), (tmp_path / "gone" / "x", "cannot be written")):
        with pytest.raises(InvalidInputError, match=words) as caught, atomic_write(path):
            pass
        assert caught.value.field == "output"
