"""`editscore score --profile`: a trace that a browser can draw, true to the clock, of a run that gives the same scores."""

from __future__ import annotations

import json
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch

from editscore.cli import main
from editscore.engine import Engine, stats
from editscore.engine.stats import PHASES, StatsRecorder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("profile") / "groups"
    assert main(["world", "make", "--num", "4", "--edits", "3", "--output", str(folder)]) == 0
    return folder


@pytest.fixture
def step_seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What a clock outside of the engine says of each of its steps."""
    seconds: list[float] = []
    step = Engine.step

    def timed(engine: Engine) -> list[Any]:
        started = time.perf_counter()
        try:
            return step(engine)
        finally:
            seconds.append(time.perf_counter() - started)

    monkeypatch.setattr(Engine, "step", timed)
    return seconds


def own_times(events: list[dict[str, Any]]) -> dict[str, float]:
    """Microseconds by name, those of inner events taken off the event around them. Fails unless events nest."""
    totals: dict[str, float] = {}
    around: list[tuple[float, str]] = []  # (end, name) of the events that are open, the innermost last
    for event in sorted(events, key=lambda event: (event["ts"], -event["dur"])):
        begin, end, name = event["ts"], event["ts"] + event["dur"], event["name"]
        while around and around[-1][0] <= begin + 1e-3:
            around.pop()
        if around:
            assert end <= around[-1][0] + 1e-3, f"{name} outlasts {around[-1][1]}"
            totals[around[-1][1]] -= event["dur"]
        totals[name] = totals.get(name, 0.0) + event["dur"]
        around.append((end, name))
    return totals


def test_the_trace_is_well_formed_and_true_to_the_clock(
    folder: Path, step_seconds: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["score", "--input", str(folder), "--no-cache", "--output"]
    out = folder.parent
    assert main([*run, str(out / "plain.jsonl")]) == 0
    step_seconds.clear()
    capsys.readouterr()
    assert main([*run, str(out / "traced.jsonl"), "--profile", str(out / "trace.json")]) == 0
    assert (out / "traced.jsonl").read_bytes() == (out / "plain.jsonl").read_bytes()
    error = capsys.readouterr().err
    assert f"profile: {out / 'trace.json'}: open it at https://ui.perfetto.dev" in error
    assert sorted(path.name for path in out.iterdir()) == ["groups", "plain.jsonl", "trace.json", "traced.jsonl"]

    trace = json.loads((out / "trace.json").read_text())
    events = trace["traceEvents"]
    for event in events:
        assert event["ph"] == "X" and event["name"] in PHASES and event["ts"] >= 0 and event["dur"] >= 0
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int)
    steps = [event["dur"] for event in events if event["name"] == "schedule"]
    assert len(steps) == len(step_seconds) == trace["otherData"]["stats"]["num_steps"]
    assert sum(steps) / 1e6 == pytest.approx(sum(step_seconds), rel=0.05)
    own = own_times(events)
    assert sum(own.values()) / 1e6 == pytest.approx(sum(step_seconds), rel=0.05)
    assert {"prepare_images", "encode_images", "prefill", "decode", "logits", "sample", "schedule"} == set(own)
    for phase, seconds in trace["otherData"]["stats"]["seconds"].items():
        assert own[phase] / 1e6 == pytest.approx(seconds, rel=0.05, abs=0.002), phase
    assert len(trace["otherData"]["identity"]["model"]) == 64


def test_one_edit_has_a_trace_too(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = json.loads((folder / "manifest.jsonl").read_text().splitlines()[0])
    one = ["score", "--source", str(folder / row["source"]), "--edited", str(folder / row["edited"]), "--instruction", row["instruction"]]
    assert main([*one, "--no-cache", "--json"]) == 0
    plain = capsys.readouterr().out
    assert main([*one, "--no-cache", "--json", "--profile", str(tmp_path / "trace.json")]) == 0
    assert capsys.readouterr().out == plain
    own_times(json.loads((tmp_path / "trace.json").read_text())["traceEvents"])


def test_a_trace_that_is_full_says_what_is_missing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started, phase = [], StatsRecorder.phase

    def counted(recorder: StatsRecorder, name: str) -> AbstractContextManager[None]:
        started.append(name)
        return phase(recorder, name)

    monkeypatch.setattr(StatsRecorder, "phase", counted)
    monkeypatch.setattr(stats, "MAX_EVENTS", 25)
    targets = ["--output", str(tmp_path / "out.jsonl"), "--profile", str(tmp_path / "trace.json")]
    assert main(["score", "--input", str(folder), "--no-cache", *targets]) == 0
    trace = json.loads((tmp_path / "trace.json").read_text())
    assert sum(event["ph"] == "X" for event in trace["traceEvents"]) == 25 < len(started)
    assert trace["otherData"]["num_dropped_events"] == len(started) - 25
    warning = f"warning: the trace has the last 25 phases; {len(started) - 25:,} earlier ones were not kept"
    assert warning in capsys.readouterr().err.splitlines()
    assert len(trace["otherData"]["identity"]["model"]) == 64
