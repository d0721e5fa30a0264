"""`make gpu`: everything that only a GPU can tell, in under ten minutes, into benchmarks/results/<gpu>_<date>.csv and a page beside it.

    python -m benchmarks.gpu

Builds the package with its CUDA kernels, runs every test marked `gpu`, then every benchmark on the GPU. Each part is a process with a
time limit of its own: one that fails or hangs is named on the page with the end of its output, and the next one runs. Standard library
only, so that a build that fails leaves a page too. Without a GPU it says so, writes nothing, and exits with 1; with a part that did not
pass it exits with 1 as well, the page and the rows of the others being written.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from benchmarks.gpu_page import page
from benchmarks.harness import COLUMNS, ROOT

BUDGET_S = 570.0  # of the ten minutes, 30 s are left for the page and for processes that take long to end
TAIL_CHARACTERS = 4000
PYTHON = str(ROOT / ".venv" / "bin" / "python")

Status = Literal["passed", "failed", "timed out", "not reached"]


@dataclass(frozen=True)
class Part:
    """One process. `needs` names a part without which it cannot mean anything (the build)."""

    name: str
    command: tuple[str, ...]
    timeout_s: float
    needs: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a part ended; `output` is the end of what it printed."""

    name: str
    status: Status
    seconds: float
    output: str


def parts() -> list[Part]:
    """Compiler, build, device, tests, benchmarks. Without nvcc the build still passes, Triton's kernels alone being there."""

    def bench(name: str, module: str, *arguments: str, timeout_s: float = 90.0) -> Part:
        return Part(name, (PYTHON, "-m", f"benchmarks.{module}", *arguments), timeout_s, needs="device")

    sees = "import torch; print(torch.__version__); assert torch.cuda.is_available(), 'torch sees no CUDA device'"
    on_gpu = ("--device", "cuda")
    attention = "ops.bench_shared_prefix_attention"
    return [
        Part("nvcc", ("nvcc", "--version"), 30.0),
        Part("build", ("make", "setup"), 300.0),
        Part("device", (PYTHON, "-c", sees), 60.0),
        Part("tests", (PYTHON, "-m", "pytest", "-q", "-m", "gpu"), 240.0, needs="device"),
        bench("roofs", "gpu_roofs", timeout_s=45.0),
        bench("attention bf16, few samples", attention, *on_gpu, "--dtypes", "bf16", "--cases", "K=4", timeout_s=120.0),
        bench("sampler", "ops.bench_sample_tokens", *on_gpu, timeout_s=90.0),
        bench("append_kv", "ops.bench_append_kv", *on_gpu, timeout_s=45.0),
        bench("linear layers", "gpu_layers", timeout_s=60.0),
        bench("exact against fast", "gpu_engine", timeout_s=90.0),
        bench("prefill", "gpu_prefill", timeout_s=60.0),
        bench("activation", "ops.bench_gated_activation", *on_gpu, timeout_s=45.0),
        bench("attention bf16, K=8", attention, *on_gpu, "--dtypes", "bf16", "--cases", "K=8"),
        bench("attention bf16, K=16", attention, *on_gpu, "--dtypes", "bf16", "--cases", "K=16"),
    ]


def gpu_name() -> str | None:
    """The first GPU by name, from its driver; None without one."""
    if not shutil.which("nvidia-smi"):
        return None
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        return next(filter(None, map(str.strip, done.stdout.splitlines())), None)
    return None


def run_part(part: Part, limit_s: float, results: Path, machine: str) -> Outcome:
    """The part in a process group of its own, which is ended whole after `limit_s`; its rows go below `results`."""
    environment = os.environ | {"EDITSCORE_RESULTS": str(results), "EDITSCORE_MACHINE": machine, "OMP_WAIT_POLICY": "PASSIVE"}
    start = time.monotonic()
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                part.command,
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            return Outcome(part.name, "failed", 0.0, str(error))
        status: Status
        try:
            status = "passed" if process.wait(limit_s) == 0 else "failed"
        except subprocess.TimeoutExpired:
            status = "timed out"
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # also what a part left behind: it would share the GPU with the next
        process.wait()
        output.seek(0)
        text = output.read().decode(errors="replace")
    return Outcome(part.name, status, time.monotonic() - start, text[-TAIL_CHARACTERS:])


def run_parts(wanted: Sequence[Part], results: Path, machine: str, budget_s: float) -> list[Outcome]:
    """One after the other; a part whose need did not pass, or that the budget leaves no time for, is not reached."""
    end = time.monotonic() + budget_s
    outcomes: dict[str, Outcome] = {}
    for part in wanted:
        left = end - time.monotonic()
        if part.needs and outcomes[part.needs].status != "passed":
            outcome = Outcome(part.name, "not reached", 0.0, f"needs the part {part.needs!r}, which did not pass")
        elif left <= 1.0:
            outcome = Outcome(part.name, "not reached", 0.0, f"the {budget_s:.0f} s of the whole run were spent")
        else:
            outcome = run_part(part, min(part.timeout_s, left), results, machine)
        outcomes[part.name] = outcome
        print(f"{outcome.status:>11}  {outcome.seconds:6.1f} s  {outcome.name}", flush=True)
    return list(outcomes.values())


def gathered(results: Path) -> list[dict[str, str]]:
    """The rows of every benchmark that saved any."""
    rows: list[dict[str, str]] = []
    for path in sorted(results.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            rows += csv.DictReader(file)
    return rows


def run_all(wanted: Sequence[Part], gpu: str, folder: Path, budget_s: float = BUDGET_S) -> list[Outcome]:
    """Runs the parts, then writes `<gpu>_<date>.csv` (when there are rows) and `<gpu>_<date>.html` into `folder`."""
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as scratch:
        outcomes = run_parts(wanted, Path(scratch), gpu, budget_s)
        rows = gathered(Path(scratch))
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{re.sub('[^a-z0-9]+', '_', gpu.lower()).strip('_')}_{now:%Y-%m-%d}"
    if rows:
        with (folder / f"{stem}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    (folder / f"{stem}.html").write_text(page(gpu, now, outcomes, rows), encoding="utf-8")
    print(folder / f"{stem}.html")
    return outcomes


def main() -> int:
    """0 when every part passed, otherwise 1."""
    gpu = gpu_name()
    if gpu is None:
        print("make gpu: no NVIDIA GPU here (nvidia-smi names none); nothing was run and nothing written", file=sys.stderr)
        return 1
    outcomes = run_all(parts(), gpu, ROOT / "benchmarks" / "results")
    return 0 if all(outcome.status == "passed" for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
