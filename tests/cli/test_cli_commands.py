"""The command's frame: speed of --help, exit codes, one edit on the terminal, texts that would steer it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from editscore.cli import main

Command = Callable[..., int]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=60)


def test_help_is_fast_and_lists_the_commands() -> None:
    seconds = []
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = run("-m", "editscore", "--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.returncode == 0 and all(name in done.stdout for name in ("score", "world", "doctor"))
    assert min(seconds) < 0.3  # processor time: a neighbour on the machine does not change it


@pytest.mark.parametrize(
    "tokens", [["--help"], ["score", "--help"], ["world", "--help"], ["world", "make", "--help"], ["doctor", "--help"], ["--version"]]
)
def test_no_help_imports_torch(tokens: list[str]) -> None:
    code = f"import sys; from editscore.cli import main; code = main({tokens!r}); print('torch' in sys.modules, code)"
    done = run("-c", code)
    assert done.stdout.splitlines()[-1] == "False 0", done.stderr


def test_version_and_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0 and capsys.readouterr().out.startswith("editscore 0.")
    assert main([]) == 0 and "Commands" in capsys.readouterr().out
    assert main(["scor"]) == 2 and 'Did you mean "score"' in capsys.readouterr().err


def test_a_closed_pipe_is_no_traceback() -> None:
    command = f"{sys.executable} -m editscore score --help | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr


ONE = ("score", "--source", "0.png", "--edited", "1.png", "--instruction")


def test_one_edit_is_a_readable_table(
    pairs: Path, editscore_command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pairs)
    assert editscore_command(*ONE, "make [red] \x1b[2J it", "--passes", "3", "--seed", "7") == 0
    out = capsys.readouterr().out
    for wanted in (
        "make [red]",
        "0.png -> 1.png",
        "Overall",
        "Prompt following",
        "Artifacts",
        "0.50",
        "<b>reason</b> [red]",
        "3 passes",
        "seed 7",
    ):
        assert wanted in out
    assert "\x1b" not in out


def test_one_edit_as_json_and_with_a_page(
    pairs: Path, editscore_command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pairs)
    assert editscore_command(*ONE, "x", "--json", "--report", "page.html") == 0
    record = json.loads(capsys.readouterr().out)
    assert record["status"] == "ok" and record["id"] == "0" and len(record["passes"]) == 4
    assert "<article" in (pairs / "page.html").read_text()


def test_a_failed_sample_is_1(
    pairs: Path, editscore_command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pairs)
    assert editscore_command("score", "--source", "gone.png", "--edited", "1.png", "--instruction", "x") == 1
    assert "no score: invalid_input: source: gone.png: No such file" in capsys.readouterr().out.replace("\n", " ")
    assert editscore_command(*ONE, "parse_failed please", "--json") == 1
    assert json.loads(capsys.readouterr().out)["overall"] is None


def test_a_terminal_without_unicode_still_works(pairs: Path) -> None:
    fake = Path(__file__).with_name("fake_scorer.py")
    command = [sys.executable, str(fake), "0", "score", "--source", "0.png", "--edited", "1.png", "--instruction", "caf\u00e9"]
    done = subprocess.run(command, capture_output=True, cwd=pairs, timeout=60, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and b"caf?" in done.stdout, done.stderr
