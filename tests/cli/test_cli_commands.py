"""The command's frame: speed of --help, exit codes, one edit on the terminal, texts that would steer it."""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from editscore.cli import main
from editscore.cli.single import SingleOptions
from editscore.cli.tables import score_table
from editscore.report import DIMENSIONS
from editscore.types import Score, Status

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
        assert done.returncode == 0 and all(name in done.stdout for name in ("score", "world", "pull", "doctor"))
    assert min(seconds) < 0.3  # processor time: a neighbour on the machine does not change it


@pytest.mark.parametrize(
    "tokens",
    [
        ["--help"],
        ["score", "--help"],
        ["world", "--help"],
        ["world", "make", "--help"],
        ["pull", "--help"],
        ["pull", "prompts", "--help"],
        ["doctor", "--help"],
        ["--version"],
    ],
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


@pytest.mark.parametrize(
    ("changed", "code", "words"),
    [
        ({"--source": "gone.png"}, 1, "source: gone.png: No such file"),
        ({"--instruction": " "}, 1, "instruction: is empty"),
        ({"--judge": "nobody"}, 2, "editscore: judge: no judge 'nobody'; known: pointwise"),
        ({"--judge": "nobody", "--source": "gone.png"}, 2, "editscore: judge: no judge 'nobody'"),
    ],
)
def test_bad_input_of_one_edit_is_told_before_torch_loads(pairs: Path, changed: dict[str, str], code: int, words: str) -> None:
    options = {"--source": "0.png", "--edited": "1.png", "--instruction": "x", "--report": "page.html", **changed}
    tokens = ["score", *(token for pair in options.items() for token in pair)]
    script = f"import sys; from editscore.cli import main; code = main({tokens!r}); print('torch' in sys.modules, code)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=pairs)
    assert done.stdout.splitlines()[-1] == f"False {code}", done.stderr
    assert words in " ".join((done.stdout + done.stderr).split())
    assert (pairs / "page.html").exists() == (code == 1)  # a sample that failed has its card, bad usage writes nothing


def test_an_unknown_judge_of_a_manifest_is_told_before_torch_loads(pairs: Path) -> None:
    tokens = ["score", "--input", "pairs.jsonl", "--output", "out.jsonl", "--judge", "nobody"]
    script = f"import sys; from editscore.cli import main; code = main({tokens!r}); print('torch' in sys.modules, code)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=pairs)
    assert done.stdout.splitlines()[-1] == "False 2" and "judge: no judge 'nobody'" in done.stderr
    assert not list(pairs.glob("out*"))


def shown(score: Score) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(score_table(score, SingleOptions("a.png", "b.png", "x"), 1.0))
    return console.export_text()


@pytest.mark.parametrize(
    ("warning", "words"), [("out_of_domain", "was not trained on"), ("size_differs", "width or height"), ("reasoning_closed", "its limit")]
)
def test_a_warning_says_what_it_means(warning: str, words: str) -> None:
    (line,) = [line for line in shown(Score(id="a", status=Status.OK, warnings=(warning,))).splitlines() if "warning" in line]
    assert line.startswith(f"warning: {warning}: ") and words in line


def test_a_warning_without_a_text_is_its_name() -> None:
    assert "warning: new_one\n" in shown(Score(id="a", status=Status.OK, warnings=("new_one",)))


def test_dimensions_that_the_judge_does_not_set_are_left_out() -> None:
    only = shown(Score(id="a", status=Status.OK, overall=5.0))
    assert "Overall" in only and not any(label in only for label in (*DIMENSIONS.values(), "passes, raw"))
    two = shown(Score(id="a", status=Status.OK, overall=5.0, consistency=0.0))
    assert [label for label in DIMENSIONS.values() if label in two] == [DIMENSIONS["consistency"]] and "passes, raw" in two


def test_a_terminal_without_unicode_still_works(pairs: Path) -> None:
    fake = Path(__file__).with_name("fake_scorer.py")
    command = [sys.executable, str(fake), "0", "score", "--source", "0.png", "--edited", "1.png", "--instruction", "caf\u00e9"]
    done = subprocess.run(command, capture_output=True, cwd=pairs, timeout=60, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and b"caf?" in done.stdout, done.stderr


def test_a_budget_of_memory_that_cannot_hold_the_model_is_bad_usage(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    manifest = tmp_path / "pairs.jsonl"
    manifest.write_text('{"source": "a.png", "edited": "b.png", "instruction": "x"}\n')
    assert main(["score", "--input", str(manifest), "--output", str(tmp_path / "out.jsonl"), "--memory-gb", "0.01"]) == 2
    assert "memory_gb: 0.01 is too little" in capsys.readouterr().err
