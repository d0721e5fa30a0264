"""`make gpu` without a GPU: parts that pass, fail, hang and depend on one another, each in a real process."""

import csv
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WRITES_A_ROW = """
from benchmarks.harness import Bench
bench = Bench("probe")
bench.compare("a <case>", "triton", "time", 2.0, "us", peer="roof", peer_value=1.5)
bench.save()
"""
RUN = """
import sys
from pathlib import Path
from benchmarks.gpu import Part, run_all
python = lambda code: (sys.executable, "-c", code)
parts = [
    Part("fails", python("print('the <reason>'); raise SystemExit(3)"), 20.0),
    Part("hangs", python("import subprocess, sys, time; print(subprocess.Popen(['sleep', '60']).pid, flush=True); time.sleep(60)"), 2.0),
    Part("needs what failed", python("print('never')"), 20.0, needs="fails"),
    Part("no such program", ("/nonexistent/program",), 20.0),
    Part("writes", python(Path(sys.argv[2]).read_text()), 60.0),
]
outcomes = run_all(parts, "NVIDIA Test 1", Path(sys.argv[1]))
print([(outcome.name, outcome.status) for outcome in outcomes])
print("child", outcomes[1].output.split()[0])
"""


def test_a_part_that_fails_or_hangs_leaves_the_others(tmp_path: Path) -> None:
    code = tmp_path / "row.py"
    code.write_text(WRITES_A_ROW)
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", RUN, tmp_path / "results", code], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - start < 50, "the part that hangs was waited for"
    statuses = ["failed", "timed out", "not reached", "failed", "passed"]
    names = ["fails", "hangs", "needs what failed", "no such program", "writes"]
    assert str(list(zip(names, statuses, strict=True))) in done.stdout
    stem = f"nvidia_test_1_{datetime.now(UTC):%Y-%m-%d}"
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [f"{stem}.csv", f"{stem}.html"]
    with (tmp_path / "results" / f"{stem}.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["machine"], row["case"], row["peer"], row["ratio"]) == ("NVIDIA Test 1", "a <case>", "roof", "0.75")
    page = (tmp_path / "results" / f"{stem}.html").read_text()
    assert "4 of 5 parts did not pass" in page
    assert "the &lt;reason&gt;" in page and "a &lt;case&gt;" in page and "width:75.0%" in page
    assert "<script" not in page and "http" not in page
    child = int(done.stdout.split("child ")[1].split()[0])
    assert not is_alive(child), "a process that the part started outlived it"


def is_alive(process: int) -> bool:
    for _ in range(50):
        status = Path(f"/proc/{process}/stat")
        try:
            os.kill(process, 0)
            if status.is_file() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return False
        except (ProcessLookupError, FileNotFoundError):
            return False
        time.sleep(0.1)
    return True


def test_what_the_budget_leaves_no_time_for_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.gpu import Part, run_parts

    parts = [
        Part("first", (sys.executable, "-c", "import time; time.sleep(60)"), 30.0),
        Part("second", (sys.executable, "-c", "pass"), 30.0),
    ]
    first, second = run_parts(parts, tmp_path, "a machine", budget_s=1.5)
    assert (first.status, second.status) == ("timed out", "not reached")
    assert first.seconds < 20


def test_every_part_that_is_needed_comes_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.gpu import BUDGET_S, parts

    names = [part.name for part in parts()]
    assert len(set(names)) == len(names)
    for place, part in enumerate(parts()):
        assert part.needs in ("", *names[:place])
        assert part.timeout_s <= BUDGET_S < 600
        if "-m" in part.command and part.command[part.command.index("-m") + 1].startswith("benchmarks."):
            assert (ROOT / (part.command[2].replace(".", "/") + ".py")).is_file()


def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path: Path) -> None:
    before = sorted((ROOT / "benchmarks" / "results").iterdir())
    environment = os.environ | {"PATH": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "benchmarks.gpu"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "no NVIDIA GPU" in done.stderr
    assert done.stdout == ""
    assert sorted((ROOT / "benchmarks" / "results").iterdir()) == before
