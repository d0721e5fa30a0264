"""`editscore score --input`: order, fields, bad rows, exit codes, resuming after kill -9 and Ctrl-C, nothing half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from fake_scorer import write_rows

Command = Callable[..., int]
FAKE = Path(__file__).with_name("fake_scorer.py")


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_line_per_sample_in_input_order(pairs: Path, editscore_command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert editscore_command("score", "--input", pairs / "pairs.jsonl", "--output", pairs / "out.jsonl") == 0
    rows = read(pairs / "out.jsonl")
    assert [row["id"] for row in rows] == [f"s{i}" for i in range(12)]
    assert all(row["status"] == "ok" and 0 <= row["overall"] <= 10 and len(row["passes"]) == 4 for row in rows)
    assert rows[3]["instruction"] == "make it 3" and rows[3]["source"] == "3.png" and rows[3]["task_type"] == "tone"
    assert not (pairs / "out.jsonl.journal").exists()
    assert "12 samples: 12 ok" in capsys.readouterr().out


def test_colliding_fields_get_another_name(pairs: Path, editscore_command: Command) -> None:
    row = {"id": "a", "source": "0.png", "edited": "1.png", "instruction": "x", "status": "mine", "input_status": "theirs", "overall": 3}
    write_rows(pairs, [row])
    assert editscore_command("score", "--input", pairs / "pairs.jsonl", "--output", pairs / "out.jsonl") == 0
    (out,) = read(pairs / "out.jsonl")
    assert out["status"] == "ok" and out["input_input_status"] == "mine" and out["input_status"] == "theirs" and out["input_overall"] == 3


def test_bad_rows_do_not_end_the_run(pairs: Path, editscore_command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    (pairs / "cut.png").write_bytes((pairs / "0.png").read_bytes()[:200])
    (pairs / "text.png").write_text("no image")
    PIL.Image.new("RGB", (1, 1)).save(pairs / "one.png")
    good = {"source": "0.png", "edited": "1.png", "instruction": "x"}
    bad: list[tuple[Any, str]] = [
        ({**good, "id": "gone", "edited": "gone.png"}, "edited: {folder}/gone.png: No such file"),
        ({**good, "id": "cut", "source": "cut.png"}, "source: {folder}/cut.png: is truncated"),
        ({**good, "id": "text", "source": "text.png"}, "source: {folder}/text.png: is no image"),
        ({**good, "id": "empty", "instruction": ""}, "instruction: is empty"),
        ({**good, "id": "long", "instruction": "x" * 10_001}, "instruction: has 10,001 characters"),
        ({"id": "short", "source": "0.png", "instruction": "x"}, "edited: is missing"),
        (b'{"id": "latin", "instruction": "caf\xe9"}', "line: is not UTF-8"),
        (b"{broken", "line: is not JSON"),
        ({**good, "id": "ok-1"}, "id: 'ok-1' was used at pairs.jsonl:1 already"),
        ({**good, "id": "told", "instruction": "error"}, "told to: error"),
    ]
    last = {**good, "id": "ok-2", "source": "one.png", "instruction": "y" * 10_000}
    write_rows(pairs, [{**good, "id": "ok-1"}, *(row for row, _ in bad), last])
    assert editscore_command("score", "--input", pairs / "pairs.jsonl", "--output", pairs / "out.jsonl") == 1
    rows = read(pairs / "out.jsonl")
    assert (rows[0]["status"], rows[-1]["status"]) == ("ok", "ok")
    for number, ((_, words), row) in enumerate(zip(bad, rows[1:-1], strict=True), start=2):
        assert row["status"] == ("error" if "told" in words else "invalid_input") and row["overall"] is None
        assert row["message"].startswith(f"pairs.jsonl:{number}: ") and words.format(folder=pairs) in row["message"]
    shown = capsys.readouterr()
    assert "12 samples: 9 invalid_input, 2 ok, 1 error" in shown.out
    assert "12/12 done, 10 failed, " in shown.err  # rows that the manifest's reader rejected count, too


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["--input", "pairs.jsonl"], "--input needs --output"),
        (["--output", "out.jsonl"], "--output needs --input"),
        (["--input", "pairs.jsonl", "--output", "out.jsonl", "--source", "0.png"], "give either"),
        (["--input", "gone.jsonl", "--output", "out.jsonl"], "gone.jsonl: no such file"),
        (["--input", ".", "--output", "out.jsonl"], "manifest.jsonl"),
        (["--input", "pairs.jsonl", "--output", "pairs.jsonl"], "is the manifest itself"),
        (["--input", "pairs.jsonl", "--output", "."], "is a folder"),
        (["--input", "pairs.jsonl", "--output", "gone/out.jsonl"], "no such folder"),
        (["--input", "pairs.jsonl", "--output", "out.jsonl", "--report", "out.jsonl"], "same file"),
        (["--input", "pairs.jsonl", "--output", "out.jsonl", "--json"], "--json"),
        (["--input", "pairs.jsonl", "--output", "out.jsonl", "--passes", "0"], "--passes"),
        (["--input", "pairs.jsonl", "--output", "out.jsonl", "--dtype", "int4"], "--dtype"),
        (["--input", "pairs.jsonl", "--output", "/dev/null"], "not a regular file"),
        (
            ["--source", "0.png", "--edited", "1.png", "--instruction", "x", "--report", "gone/page.html"],
            "report: gone/page.html: no such folder",
        ),
        (["--what"], "--what"),
        ([], "give --source"),
        (["--source", "0.png"], "--edited and --instruction missing"),
    ],
)
def test_bad_usage_is_2_in_one_plain_message(
    pairs: Path,
    editscore_command: Command,
    tokens: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(pairs)
    before = sorted(os.listdir(pairs))
    assert editscore_command("score", *tokens) == 2
    error = capsys.readouterr().err
    assert error.startswith("editscore: ") and words in error and "Traceback" not in error
    assert sorted(os.listdir(pairs)) == before


def start(pairs: Path, delay_s: float, *more: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        str(FAKE),
        str(delay_s),
        "score",
        "--input",
        str(pairs / "pairs.jsonl"),
        "--output",
        str(pairs / "out.jsonl"),
        *more,
    ]

    def heed_interrupts() -> None:
        """Python heeds them only where its parent did, which a background job of a shell does not."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts)


def wait_for_entries(pairs: Path, number: int) -> None:
    journal, deadline = pairs / "out.jsonl.journal", time.monotonic() + 30
    while not journal.exists() or journal.read_bytes().count(b"\n") < number + 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_kill_9_and_resume_give_the_same_bytes(pairs: Path) -> None:
    assert finish(start(pairs, 0.0))[0] == 0
    whole = (pairs / "out.jsonl").read_bytes()
    (pairs / "out.jsonl").unlink()
    process = start(pairs, 0.15)
    wait_for_entries(pairs, 3)
    process.kill()
    finish(process)
    assert not (pairs / "out.jsonl").exists()
    with (pairs / "out.jsonl.journal").open("ab") as journal:
        journal.write(b'{"key":"11:torn","val')  # as a kill in the middle of a write leaves it
    code, _, err = finish(start(pairs, 0.0))
    assert code == 0 and "going on: " in err and "of 12 samples" in err
    assert (pairs / "out.jsonl").read_bytes() == whole
    assert sorted(path.name for path in pairs.iterdir() if "out" in path.name) == ["out.jsonl"]


def test_ctrl_c_leaves_the_journal_and_says_how_to_go_on(pairs: Path) -> None:
    process = start(pairs, 0.15)
    wait_for_entries(pairs, 2)
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    num_kept = len((pairs / "out.jsonl.journal").read_text().splitlines()) - 1
    assert code == 130 and "Traceback" not in err and not out
    # The interrupt may have come while one more was scored or written.
    where = f"samples are done, in {pairs / 'out.jsonl.journal'}; the same command goes on from there"
    assert any(f"stopped: {n} of 12 {where}" in err.splitlines() for n in (num_kept - 1, num_kept)), err
    accounts = [f"passes: {9 * n}, {n} from the cache; prompts: {1000 * n:,} tokens" for n in (num_kept, num_kept + 1)]
    assert err.splitlines()[-1].startswith(tuple(accounts)), err
    assert 2 <= num_kept < 12 and not (pairs / "out.jsonl").exists()
    changed = finish(start(pairs, 0.0, "--passes", "2", "--model", "other"))
    assert changed[0] == 2 and "passes was '4', now '2'" in changed[2] and "model hash was" in changed[2]
    assert not (pairs / "out.jsonl").exists()
    code, _, err = finish(start(pairs, 0.0))
    assert code == 0 and f"going on: {num_kept} of 12 samples" in err and len(read(pairs / "out.jsonl")) == 12


def test_what_is_tried_again_does_not_count_as_done(pairs: Path) -> None:
    """A row that is no sample, one whose image is gone, and one that met an error: the same command tries them again."""
    rows = [json.loads(line) for line in (pairs / "pairs.jsonl").read_text().splitlines()]
    write_rows(pairs, [{**rows[0], "edited": "gone.png"}, {**rows[1], "instruction": "error"}, b"{broken", *rows[3:]])
    process = start(pairs, 0.15)
    wait_for_entries(pairs, 4)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    entries = [json.loads(line) for line in (pairs / "out.jsonl.journal").read_text().splitlines()[1:]]
    num_kept = sum(entry["value"]["status"] == "ok" for entry in entries)
    assert code == 130 and num_kept == len(entries) - 2
    assert any(f"stopped: {n} of 12 samples are done" in err for n in (num_kept - 1, num_kept)), err
    assert f"going on: {num_kept} of 12 samples" in finish(start(pairs, 0.0))[2]


def interrupted(pairs: Path, number: int) -> None:
    process = start(pairs, 0.1)
    wait_for_entries(pairs, number)
    process.kill()
    finish(process)


def test_a_changed_manifest_or_image_is_noticed(pairs: Path) -> None:
    interrupted(pairs, 4)
    manifest = (pairs / "pairs.jsonl").read_bytes()
    (pairs / "pairs.jsonl").write_bytes(manifest.replace(b"make it 11", b"make it 12"))
    code, _, err = finish(start(pairs, 0.0))
    assert code == 2 and "content of the manifest was" in err
    (pairs / "pairs.jsonl").write_bytes(manifest)
    PIL.Image.new("RGB", (5, 5), "red").save(pairs / "0.png")
    assert finish(start(pairs, 0.0))[0] == 0
    resumed = (pairs / "out.jsonl").read_bytes()
    assert finish(start(pairs, 0.0))[0] == 0 and (pairs / "out.jsonl").read_bytes() == resumed


def test_rows_that_failed_for_want_of_input_are_tried_again(pairs: Path) -> None:
    image = (pairs / "1.png").read_bytes()
    (pairs / "1.png").unlink()
    interrupted(pairs, 6)
    (pairs / "1.png").write_bytes(image)
    assert finish(start(pairs, 0.0))[0] == 0
    assert {row["status"] for row in read(pairs / "out.jsonl")} == {"ok"}


def test_a_failing_scorer_leaves_the_old_output_alone(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import editscore.cli.score
    from editscore.cli import main

    class Breaks:
        def __init__(self, options: object) -> None:
            raise RuntimeError("no memory")

    (pairs / "out.jsonl").write_text("old\n")
    monkeypatch.setattr(editscore.cli.score, "open_scorer", Breaks)
    with pytest.raises(RuntimeError):
        main(["score", "--input", str(pairs / "pairs.jsonl"), "--output", str(pairs / "out.jsonl")])
    assert (pairs / "out.jsonl").read_text() == "old\n" and not (pairs / "out.jsonl.journal").exists()


def test_the_report_comes_along(pairs: Path, editscore_command: Command) -> None:
    rows = [json.loads(line) for line in (pairs / "pairs.jsonl").read_text().splitlines()]
    oracle = {"oracle_prompt_following": 20, "oracle_overall": 7.5, "editor": "painter", "faults": ["blur"]}
    write_rows(pairs, [{**rows[0], **oracle}, {**rows[1], "source": "gone.png"}, b"\xff"])
    command = ("score", "--input", pairs / "pairs.jsonl", "--output", pairs / "out.jsonl", "--report", pairs / "page.html")
    assert editscore_command(*command) == 1
    page = (pairs / "page.html").read_text()
    assert page.count("<article") == 3 and "oracle 7.5" in page and "painter" in page and "gone.png: No such file" in page
    assert "model hash" in page and "pairs.jsonl:3: line: is not UTF-8" in page
