"""What every benchmark shares: timing, roofs, and the rows of benchmarks/results/*.csv.

    bench = Bench("sample_tokens", config={"rows": 192, "vocabulary": 152_064})
    times = time_interleaved({"cpu": run_ours, "topk_chain": run_peer})
    bench.compare("192x152064 fp32", "cpu", "time", times["cpu"].min_s * 1e3, "ms", peer="topk_chain", peer_value=...)
    bench.save()

`save` appends rows to `benchmarks/results/<name>.csv` (columns: `COLUMNS`) and one line to `<name>.runs.jsonl` beside it with the
command, the resolved configuration, commit, machine and versions. The two are joined by `date`, which has microseconds.
EDITSCORE_RESULTS names another folder. A `ratio` above 1 always means that the subject is better than the peer; for the peer `roof`
it is our share of the roof.
"""

import csv
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(os.environ.get("EDITSCORE_RESULTS") or ROOT / "benchmarks" / "results")
COLUMNS = ("date", "commit", "machine", "benchmark", "case", "subject", "metric", "value", "unit", "peer", "peer_value", "ratio")
PACKAGES = ("editscore", "torch", "transformers", "tokenizers", "llguidance", "numpy", "pillow", "scikit-image", "triton", "vllm")


def commit() -> str:
    """Short hash of HEAD; `-dirty` when a file outside benchmarks/results differs or is not committed; `unknown` without git."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--", ".", ":!benchmarks/results")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}-dirty" if changed else head


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def machine() -> str:
    """Processor and number of cores this process may use, never a host name. EDITSCORE_MACHINE overrides it."""
    named = os.environ.get("EDITSCORE_MACHINE")
    if named:
        return named
    return f"{_cpu_model()} x{num_cores()}"


def num_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    fields: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    model = fields.get("model name") or platform.processor() or platform.machine()
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    flags = [flag for flag in wanted if flag in fields.get("flags", "").split()]
    return f"{model} ({' '.join(flags)})" if flags else model


def versions() -> dict[str, str]:
    """Python, platform and the packages that can change a figure; a package that is not installed is left out."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


@dataclass
class Bench:
    """The rows of one run of one benchmark. `config` is everything that decides the figures, resolved; it must be JSON."""

    name: str
    config: Mapping[str, Any] = field(default_factory=dict)
    results: Path = RESULTS
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="microseconds"))
    rows: list[dict[str, str]] = field(default_factory=list)

    def add(self, case: str, subject: str, metric: str, value: float, unit: str) -> None:
        """A figure without a peer."""
        self._append(case, subject, metric, value, unit, "", None, None)

    def compare(
        self,
        case: str,
        subject: str,
        metric: str,
        value: float,
        unit: str,
        *,
        peer: str,
        peer_value: float,
        higher_is_better: bool = False,
    ) -> float:
        """A figure beside a peer's in the same unit. Returns the ratio, above 1 when the subject is better.

        For times leave `higher_is_better` False (ratio = peer / ours); for throughputs and accuracies set it (ratio = ours / peer).
        """
        above, below = (value, peer_value) if higher_is_better else (peer_value, value)
        ratio = above / below if below else float("nan")
        self._append(case, subject, metric, value, unit, peer, peer_value, ratio)
        return ratio

    def absent(self, case: str, subject: str, reason: str) -> None:
        """A row that says why a subject was not run, without a figure."""
        self._append(case, subject, f"not run: {reason}", None, "", "", None, None)

    def _append(
        self,
        case: str,
        subject: str,
        metric: str,
        value: float | None,
        unit: str,
        peer: str,
        peer_value: float | None,
        ratio: float | None,
    ) -> None:
        shown = ["" if number is None else f"{number:.6g}" for number in (value, peer_value, ratio)]
        row = (self.date, commit_once(), machine(), self.name, case, subject, metric, shown[0], unit, peer, shown[1], shown[2])
        self.rows.append(dict(zip(COLUMNS, row, strict=True)))
        against = f"  {shown[2]}x against {peer} ({shown[1]} {unit})" if peer else ""
        print(f"{self.name} | {case} | {subject} | {metric} {shown[0]} {unit}{against}", flush=True)

    def save(self) -> Path:
        """Append the rows and the run's line; returns the CSV's path. The header is written once; other columns are refused."""
        self.results.mkdir(parents=True, exist_ok=True)
        path = self.results / f"{self.name}.csv"
        if path.exists() and path.stat().st_size:
            with path.open(newline="", encoding="utf-8") as file:
                header = tuple(next(csv.reader(file)))
            if header != COLUMNS:
                raise ValueError(f"{path} has the columns {header}, expected {COLUMNS}")
        run = {
            "date": self.date,
            "benchmark": self.name,
            "commit": commit_once(),
            "machine": machine(),
            "num_cores": num_cores(),
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "threads": {key: os.environ[key] for key in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT") if key in os.environ},
            "config": dict(self.config),
            "versions": versions(),
        }
        line = json.dumps(run, sort_keys=True)  # before anything is written: a configuration that is no JSON must not leave rows behind
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if not file.tell():
                writer.writeheader()
            writer.writerows(self.rows)
        with path.with_suffix(".runs.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        self.rows.clear()
        return path


_COMMIT = commit()  # of the code that was imported: taken now, not when a long run ends


def commit_once() -> str:
    """The commit as it was when this module was imported."""
    return _COMMIT


@dataclass(frozen=True)
class Timing:
    """Seconds per call, one entry per round."""

    seconds: tuple[float, ...]

    @property
    def min_s(self) -> float:
        return min(self.seconds)

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)


def time_interleaved(
    subjects: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 7,
    warmup: int = 1,
    min_round_s: float = 0.01,
    sync: Callable[[], None] | None = None,
) -> dict[str, Timing]:
    """Times every subject in every round, the order turning by one each round, so that a busy neighbour meets all of them alike.

    Each round calls a subject often enough to last `min_round_s`; where that is more than once, one more call comes first and does not
    count, so that no subject pays for what the one before it pushed out of the caches. `sync` (torch.cuda.synchronize) ends each
    measurement.
    Use minima for kernels and medians for stages; a ratio only ever between subjects of the same call.
    """
    if rounds < 1 or not subjects:
        raise ValueError("time_interleaved needs at least one round and one subject")
    wait = sync or (lambda: None)
    names = list(subjects)
    calls: dict[str, int] = {}
    for name in names:
        once = min(_seconds(subjects[name], 1, wait) for _ in range(max(warmup, 1)))
        calls[name] = max(1, int(min_round_s / max(once, 1e-9)))
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for place in range(len(names)):
            name = names[(place + turn) % len(names)]
            if calls[name] > 1:
                subjects[name]()
            seconds[name].append(_seconds(subjects[name], calls[name], wait))
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def _seconds(subject: Callable[[], object], calls: int, wait: Callable[[], None]) -> float:
    wait()
    start = time.perf_counter()
    for _ in range(calls):
        subject()
    wait()
    return (time.perf_counter() - start) / calls


def roof_subjects(num_bytes: int, device: str = "cpu") -> dict[str, Callable[[], object]]:
    """`roof_read` (reads `num_bytes`) and `roof_copy` (reads and writes them) to be timed beside the subjects."""
    import torch

    source = torch.ones(max(1, num_bytes // 4), dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    return {"roof_read": lambda: source.sum(), "roof_copy": lambda: target.copy_(source)}


def gemm_subject(dtype: Any, size: int = 1024, device: str = "cpu") -> tuple[Callable[[], object], float]:
    """A square matrix product of `size` in `dtype` to be timed beside the subjects, and its floating-point operations per call."""
    import torch

    left = torch.ones(size, size, dtype=dtype, device=device)
    right = torch.ones(size, size, dtype=dtype, device=device)
    return (lambda: left @ right), 2.0 * size**3
