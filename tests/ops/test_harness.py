"""The rows that benchmarks write: columns, direction of the ratio, and nothing written when something is wrong."""

import csv
import json
import time
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEADER = "date,commit,machine,benchmark,case,subject,metric,value,unit,peer,peer_value,ratio"


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    import benchmarks.harness

    return benchmarks.harness


def test_rows_and_run_are_appended(harness: ModuleType, tmp_path: Path) -> None:
    for value in (2.0, 4.0):
        bench = harness.Bench("probe", config={"rows": 3}, results=tmp_path)
        assert bench.compare("a, b", "ours", "time", value, "ms", peer="theirs", peer_value=8.0) == 8.0 / value
        assert bench.compare("a, b", "ours", "accuracy", 0.9, "", peer="theirs", peer_value=0.6, higher_is_better=True) == pytest.approx(
            1.5
        )
        bench.add("a, b", "ours", "count", 12345678, "")
        path = bench.save()
        assert bench.rows == []
    assert path.read_text().splitlines()[0] == HEADER
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["ratio"] for row in rows] == ["4", "1.5", "", "2", "1.5", ""]
    assert rows[2]["peer"] == rows[2]["peer_value"] == ""
    assert {row["case"] for row in rows} == {"a, b"}
    runs = [json.loads(line) for line in (tmp_path / "probe.runs.jsonl").read_text().splitlines()]
    assert [run["date"] for run in runs] == [rows[0]["date"], rows[3]["date"]]
    assert all(run["config"] == {"rows": 3} and run["commit"] == rows[0]["commit"] and run["versions"]["torch"] for run in runs)


def test_a_peer_that_is_not_there_leaves_its_reason(harness: ModuleType, tmp_path: Path) -> None:
    bench = harness.Bench("probe", results=tmp_path)
    bench.absent("a, b", "flash_attn", "it is not installed")
    with bench.save().open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["subject"], row["metric"]) == ("flash_attn", "not run: it is not installed")
    assert row["value"] == row["unit"] == row["peer"] == row["ratio"] == ""


def test_nothing_is_written_beside_other_columns_or_a_bad_configuration(harness: ModuleType, tmp_path: Path) -> None:
    bench = harness.Bench("probe", config={"dtype": object()}, results=tmp_path)
    bench.add("a", "ours", "count", 1, "")
    with pytest.raises(TypeError):
        bench.save()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "probe.csv").write_text("date,value\n")
    other = harness.Bench("probe", results=tmp_path)
    other.add("a", "ours", "count", 1, "")
    with pytest.raises(ValueError, match="has the columns"):
        other.save()
    assert (tmp_path / "probe.csv").read_text() == "date,value\n"


def test_subjects_take_turns(harness: ModuleType) -> None:
    calls: list[str] = []
    subjects = {"fast": lambda: calls.append("fast"), "slow": lambda: (calls.append("slow"), time.sleep(0.004))}
    times = harness.time_interleaved(subjects, rounds=4, min_round_s=0.001)
    assert 0.004 <= times["slow"].min_s <= times["slow"].median_s
    assert times["fast"].min_s < times["slow"].min_s / 4
    assert all(len(timing.seconds) == 4 for timing in times.values())
    turns = [name for i, name in enumerate(calls) if i == 0 or calls[i - 1] != name]
    assert turns[:2] == ["fast", "slow"]
    assert turns.count("slow") >= 3
    with pytest.raises(ValueError, match="at least one"):
        harness.time_interleaved({})
