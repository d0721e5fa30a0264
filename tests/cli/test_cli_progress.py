"""What a run says while it runs and at its end: the bar of a terminal, lines elsewhere, the account, and `--profile`'s complaints."""

from __future__ import annotations

import errno
import fcntl
import itertools
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from editscore.cli.account import account_lines
from editscore.cli.progress import LineProgress
from editscore.types import Score, ScorerStats, Status

Command = Callable[..., int]
FAKE = Path(__file__).with_name("fake_scorer.py")


def on_a_terminal(width: int, *command: object) -> tuple[int, list[str]]:
    """The exit code of a command in a terminal of its own, and the lines as they were drawn, without control sequences."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "CI")} | {"TERM": "xterm"}
    process = subprocess.Popen([str(word) for word in command], stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    drawn = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError as error:
            if error.errno != errno.EIO:  # what Linux says when the other side is gone
                raise
            break
        if not piece:
            break
        drawn += piece
    os.close(ours)
    return process.wait(60), re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.decode()))


def fake_run(folder: Path, *more: str, delay_s: float = 0.0) -> list[object]:
    return [sys.executable, FAKE, delay_s, "score", "--input", folder / "pairs.jsonl", "--output", folder / "out.jsonl", *more]


def test_a_terminal_gets_a_bar_with_counts_and_the_time_left(pairs: Path) -> None:
    code, lines = on_a_terminal(80, *fake_run(pairs, delay_s=0.15))
    assert code == 0
    bars = [line for line in lines if re.match(r" *\d+/12 ", line)]
    assert all(len(line) <= 80 for line in bars)
    half = [line for line in bars if re.match(r" *\d+/12 .* \d:\d\d:\d\d left .* images, .*k prompt, .* generated tokens", line)]
    assert half, bars
    assert re.match(r" *0/12 .* 0:00:00 so far", bars[0])
    number = int(re.search(r"(\d+) images", half[0]).group(1))  # type: ignore[union-attr]
    assert f"{number} images, {number * 400 / 1000:.1f}k prompt, {number * 25} generated tokens" in half[0]
    assert re.search(r"12/12 .* \d:\d\d:\d\d 12 images, 4\.8k prompt, 300 generated tokens", bars[-1]) and "left" not in bars[-1]


def test_failures_stand_before_the_counters(pairs: Path) -> None:
    (pairs / "1.png").unlink()
    code, lines = on_a_terminal(100, *fake_run(pairs))
    assert code == 1 and any("12/12" in line and "6 failed, 12 images, " in line for line in lines), lines


def test_a_narrow_terminal_keeps_count_bar_and_time(pairs: Path) -> None:
    _, lines = on_a_terminal(40, *fake_run(pairs))
    (last,) = {line.rstrip() for line in lines if "12/12" in line}
    assert len(last) <= 40 and "images" not in last and re.search(r"\d:\d\d:\d\d$", last)


def test_a_pipe_gets_plain_lines_and_the_account(pairs: Path) -> None:
    done = subprocess.run([str(word) for word in fake_run(pairs)], capture_output=True, text=True, timeout=60)
    count, account = done.stderr.splitlines()
    assert re.fullmatch(r"12/12 done, [\d.]+ a second \(tokens: [\d,]+ prompt, [\d,]+ generated\)", count)
    assert account == (
        "passes: 108, 12 from the cache; prompts: 12,000 tokens, 4,800 computed (60% shared); images: 24 shown, 12 encoded; "
        "generated: 300 tokens"
    )
    assert "12 samples: 12 ok" in done.stdout and "tokens" not in done.stdout and "\x1b" not in done.stderr


@pytest.mark.parametrize("terminal", [True, False])
def test_no_progress_leaves_the_account(pairs: Path, terminal: bool) -> None:
    command = fake_run(pairs, "--no-progress")
    if terminal:
        text = "\n".join(on_a_terminal(80, *command)[1])
    else:
        text = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60).stderr
    assert "12/12" not in text and "\u2501" not in text and "passes: 108" in text


def test_the_rate_of_tokens_is_that_of_the_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.chain([100.0, 104.0], itertools.repeat(112.0))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    stats = ScorerStats(num_prefilled_tokens=36_000, num_sampled_tokens=6_000)
    with LineProgress(10, 2, 1, lambda: stats) as progress:
        progress.advance(Score(id="a", status=Status.ERROR))
        progress.advance(Score(id="b", status=Status.ERROR))
        assert capsys.readouterr().err == "4/10 done, 3 failed, 0.2 a second (tokens: 3,000 prompt, 500 generated)\n"


FULL = ScorerStats(
    num_finished_passes=208,
    num_cached_passes=96,
    num_joined_passes=1_000,
    num_prompt_tokens=17_454,
    num_prefilled_tokens=5_022,
    num_images=72,
    num_encoded_images=28,
    num_steps=90,
    num_sampled_tokens=12_288,
    num_preempted_passes=3,
    attention="cpu avx512_bf16",
    seconds={"schedule": 0.04, "prepare_images": 0.06, "encode_images": 0.3, "prefill": 4.1, "decode": 9.8, "logits": 1.1, "sample": 0.0},
)


@pytest.mark.parametrize(
    ("stats", "lines"),
    [
        (
            FULL,
            [
                "passes: 1,304, 96 from the cache, 1,000 shared by equal questions; prompts: 17,454 tokens, 5,022 computed (71% shared); "
                "images: 72 shown, 28 encoded; generated: 12,288 tokens; started again for want of memory: 3 passes",
                "time: 4.1 s prompts, 9.8 s decoding, 1.1 s output head, 0.1 s preparing images, 0.3 s encoding images; "
                "attention: cpu avx512_bf16",
            ],
        ),
        (ScorerStats(), []),
        (ScorerStats(num_cached_passes=8, attention="cpu avx2"), ["passes: 8, all from the cache"]),
        (
            ScorerStats(num_finished_passes=2, num_prompt_tokens=9, num_prefilled_tokens=20, num_steps=1, attention="cpu, triton"),
            ["passes: 2; prompts: 9 tokens, 20 computed", "attention: cpu, triton"],
        ),
        (
            ScorerStats(num_finished_passes=20, num_failed_passes=1_000, num_cached_passes=7, num_cancelled_passes=4_000),
            ["passes: 1,027, 7 from the cache, 1,000 failed; cancelled: 4,000 passes"],
        ),
    ],
)
def test_the_account_leaves_out_what_is_zero(stats: ScorerStats, lines: list[str]) -> None:
    assert account_lines(stats) == lines


def test_one_edit_has_an_account_too(pairs: Path, editscore_command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    one = ("score", "--source", pairs / "0.png", "--edited", pairs / "1.png", "--instruction", "x", "--json")
    assert editscore_command(*one) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["status"] == "ok" and shown.err.startswith("passes: 9, 1 from the cache; prompts: 1,000 tokens")


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["--profile", "trace.json", "--devices", "cpu,cpu"], "profile: a trace is of one engine in this process"),
        (["--profile", "gone/trace.json"], "profile: gone/trace.json: no such folder"),
        (["--profile", "."], "profile: . is a folder"),
        (["--profile", "pairs.jsonl"], "profile: pairs.jsonl is the manifest itself"),
        (["--profile", "out.jsonl"], "profile: is the same file as the output"),
        (["--profile", "page.html", "--report", "page.html"], "profile: is the same file as the report"),
    ],
)
def test_a_profile_that_cannot_be_is_refused_before_anything_runs(
    pairs: Path,
    editscore_command: Command,
    tokens: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(pairs)
    before = sorted(os.listdir(pairs))
    assert editscore_command("score", "--input", "pairs.jsonl", "--output", "out.jsonl", *tokens) == 2
    assert f"editscore: {words}" in capsys.readouterr().err
    assert sorted(os.listdir(pairs)) == before


def test_a_profile_without_steps_says_why(
    pairs: Path, editscore_command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pairs)
    assert editscore_command("score", "--input", "pairs.jsonl", "--output", "out.jsonl", "--profile", "trace.json") == 0
    assert "profile: trace.json: it is empty, since nothing was computed; --no-cache" in capsys.readouterr().err
    assert json.loads((pairs / "trace.json").read_text())["otherData"]["stats"]["num_encoded_images"] == 12


def test_an_interrupted_run_still_has_its_trace(pairs: Path) -> None:
    command = [str(word) for word in fake_run(pairs, "--profile", str(pairs / "trace.json"), delay_s=0.15)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    )
    journal, deadline = pairs / "out.jsonl.journal", time.monotonic() + 30
    while not journal.exists() or journal.read_bytes().count(b"\n") < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command goes on from there" in err
    assert 2 <= json.loads((pairs / "trace.json").read_text())["otherData"]["stats"]["num_encoded_images"] < 12
    assert not list(pairs.glob(".*.tmp"))
