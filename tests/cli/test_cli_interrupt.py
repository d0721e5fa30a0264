"""Ctrl-C while a real judge scores in a process of its own: what was finished is on disk, and the command says so and what it did."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from editscore.cli import main

NUM_EDITS, PASSES = 150, 8
COMMAND = [sys.executable, "-c", "import sys; from editscore.cli import main; sys.exit(main())"]


def start(*tokens: str, cache: Path) -> subprocess.Popen[str]:
    """Heeds interrupts, which a background job of a shell would not."""
    return subprocess.Popen(
        [*COMMAND, *tokens],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def num_stopped(err: str, total: int, journal: Path) -> int:
    """What the command says is done; it may be one less than the journal has, when the interrupt came while that one was written."""
    words = rf"^stopped: (\d+) of {total} samples are done, in {re.escape(str(journal))}; the same command goes on from there$"
    found = re.search(words, err, re.MULTILINE)
    assert found, err
    return int(found[1])


@pytest.mark.parametrize("devices", [(), pytest.param(("--devices", "cpu,cpu"), marks=pytest.mark.slow)])
def test_many_edits(tmp_path: Path, devices: tuple[str, ...]) -> None:
    assert main(["world", "make", "--num", str(NUM_EDITS // 3), "--edits", "3", "--output", str(tmp_path / "groups")]) == 0
    out, journal = tmp_path / "out.jsonl", tmp_path / "out.jsonl.journal"
    run = ["score", "--input", str(tmp_path / "groups"), "--output", str(out), "--passes", str(PASSES), "--no-cache", *devices]
    process = start(*run, cache=tmp_path)
    deadline = time.monotonic() + 120
    while not journal.exists() or journal.read_bytes().count(b"\n") < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in err and not out.exists(), err
    statuses = [json.loads(line)["value"]["status"] for line in journal.read_text().splitlines()[1:]]
    assert set(statuses) == {"ok"} and len(statuses) < NUM_EDITS
    assert num_stopped(err, NUM_EDITS, journal) in (len(statuses) - 1, len(statuses))
    passes = re.search(r"^passes: ([\d,]+)", err, re.MULTILINE)
    assert passes and int(passes[1].replace(",", "")) >= 2 * PASSES * len(statuses), err
    assert re.search(r"^time: .* s decoding.*; attention: cpu ", err, re.MULTILINE), err

    process = start(*run, cache=tmp_path)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0 and f"going on: {len(statuses)} of {NUM_EDITS} samples" in err, err
    assert [json.loads(line)["status"] for line in out.read_text().splitlines()] == ["ok"] * NUM_EDITS
    assert not journal.exists()


def test_one_edit(tmp_path: Path) -> None:
    """So many passes take seconds; the interrupt comes soon after the cache is asked, which is when the engine gets its work."""
    assert main(["world", "make", "--num", "1", "--edits", "1", "--output", str(tmp_path / "groups")]) == 0
    row = json.loads((tmp_path / "groups" / "manifest.jsonl").read_text())
    images = [str(tmp_path / "groups" / row[field]) for field in ("source", "edited")]
    one = ["--source", images[0], "--edited", images[1], "--instruction", row["instruction"], "--passes", "1024"]
    process = start("score", *one, cache=tmp_path)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("editscore/**/*.sqlite*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in err and not out
    assert err.splitlines()[-1] == "editscore: interrupted"
    assert re.search(r"prompts: [\d,]+ tokens", err), err
