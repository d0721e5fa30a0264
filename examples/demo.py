"""`make demo`: edits of EditWorld and of photographs, judged by the embedded nano judge, as a table and as a page.

Everything runs on this machine: no download, no GPU. Writes `demo/report.html` and `demo/scores.jsonl`.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import photo_edits as edits
import PIL.Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

# Before torch starts its threads: waiting ones spin a little, then sleep, as in the command.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

import editscore
from editscore.data import atomic_write, to_image
from editscore.report import ReportRow, write_report
from editscore.types import EditSample, Score, Status
from editscore.world import MAX_EDITS, TASKS, load_photos, sample_group, world_version

PASSES = 4
PHOTO_SIDE = 448
WORLD_SIDE = 252
FOLDER = Path("demo")

PHOTO_CASES: tuple[tuple[str, str, tuple[tuple[str, edits.Edit], ...]], ...] = (
    ("tone_transfer", "make the image warm", (("warm", edits.warm), ("nothing done", edits.keep))),
    ("tone_transfer", "turn the picture gray", (("gray", edits.gray), ("gray, blurred", edits.blurred(edits.gray)))),
    ("tone_transfer", "give the picture a cool tone", (("cool", edits.cool), ("warm instead", edits.warm))),
    ("style_change", "make the image look like a sketch", (("sketch", edits.sketch), ("nothing done", edits.keep))),
    ("style_change", "turn the image into a poster", (("poster", edits.poster), ("poster, JPEG blocks", edits.blocky(edits.poster)))),
    ("style_change", "redraw the picture as a negative", (("negative", edits.negative), ("negative, noise", edits.noisy(edits.negative)))),
)


@dataclasses.dataclass(frozen=True)
class Case:
    """One edit of the demo. `truth` is the oracle's (0..10); photographs have none. `is_better` marks the better edit of a pair."""

    sample: EditSample
    task: str
    made_by: str
    is_better: bool
    truth: dict[str, float]


def world_cases() -> list[Case]:
    """For each of the thirteen tasks a good edit and a poor one, by two of the eleven simulated editors."""
    cases = []
    for index, task in enumerate(TASKS):
        group = sample_group("report", index, seed=11, task_type=task, num_edits=MAX_EDITS, size=WORLD_SIDE)
        ranked = sorted(group.edits, key=lambda edit: edit.verdict.overall)
        for edit, is_better in ((ranked[-1], True), (ranked[len(ranked) // 3], False)):
            verdict = edit.verdict
            truth = {name: getattr(verdict, name) / 2.5 for name in ("prompt_following", "consistency", "naturalness", "artifacts")}
            sample = EditSample(to_image(group.source), to_image(edit.image), group.instruction, id=f"{task}-{'ab'[not is_better]}")
            cases.append(Case(sample, task, edit.editor, is_better, {**truth, "overall": verdict.overall}))
    return cases


def photo_cases() -> list[Case]:
    """Global edits of photographs that the judge was not trained on; none when scikit-image is not installed."""
    cases = []
    photos = load_photos("report")
    for index, (task, instruction, versions) in enumerate(PHOTO_CASES if photos else ()):
        picture = PIL.Image.fromarray(np.asarray(photos[index % len(photos)]))
        picture.thumbnail((PHOTO_SIDE, PHOTO_SIDE))
        for place, (name, edit) in enumerate(versions):
            sample = EditSample(to_image(picture), to_image(edit(picture)), instruction, id=f"photo-{index}-{'ab'[place]}")
            cases.append(Case(sample, task, name, place == 0, {}))
    return cases


def show(console: Console, cases: list[Case], scores: list[Score]) -> None:
    """The table, and how often the better edit of a pair got the higher score."""
    wide = console.width >= 110
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim")
    for name, width in (("instruction", 26), ("made by", 12)) if not wide else (("task", 17), ("instruction", 44), ("made by", 20)):
        table.add_column(name, width=width, overflow="ellipsis", no_wrap=True)
    for name, width in (("oracle", 6), ("score", 5), ("", 4), ("edit", 4), ("same", 4), ("real", 4), ("clean", 5)):
        table.add_column(name, justify="right", no_wrap=True, width=width)
    for case, score in zip(cases, scores, strict=True):
        oracle = f"{case.truth['overall']:.1f}" if case.truth else "-"
        means = (score.prompt_following, score.consistency, score.naturalness, score.artifacts)
        overall = "-" if score.overall is None else f"[bold]{score.overall:.1f}[/]"
        spread = "" if score.spread.overall is None else f"[dim]\N{PLUS-MINUS SIGN}{score.spread.overall:.1f}[/]"
        asked = [case.task, case.sample.instruction] if wide else [case.sample.instruction]
        words = [*(asked if case.is_better else [""] * len(asked)), case.made_by]
        table.add_row(*words, oracle, overall, spread, *("-" if m is None else f"[dim]{m:.1f}[/]" for m in means))
    console.print(table)
    pairs = list(zip(scores[::2], scores[1::2], strict=True))
    right = sum((better.overall or 0.0) > (worse.overall or 0.0) for better, worse in pairs)
    console.print("[dim]oracle: EditWorld's true overall; photographs have no oracle (-). score: nano's overall[/]", soft_wrap=True)
    console.print("[dim]edit: prompt following, same: consistency, real: naturalness, clean: no artifacts; all 0 to 10[/]", soft_wrap=True)
    console.print(f"The better edit of a pair got the higher score in {right} of {len(pairs)} pairs.")


def save(cases: list[Case], scores: list[Score], seconds: float) -> None:
    """`demo/scores.jsonl` and `demo/report.html`."""
    FOLDER.mkdir(exist_ok=True)
    with atomic_write(FOLDER / "scores.jsonl") as file:
        for score in scores:
            file.write(msgspec.json.encode(score) + b"\n")
    rows = [
        ReportRow(
            score, c.sample.instruction, to_image(c.sample.source), to_image(c.sample.edited), c.task, c.truth, {"made by": c.made_by}
        )
        for c, score in zip(cases, scores, strict=True)
    ]
    facts = {
        "judge": scores[0].judge,
        "model": "nano",
        "passes": str(PASSES),
        "seed": str(scores[0].seed),
        "world version": world_version(),
    }
    facts |= {f"{name} hash": value for name, value in msgspec.structs.asdict(scores[0].identity).items()}
    facts["scored in"] = f"{seconds:.1f} s"
    write_report(FOLDER / "report.html", rows, title="Edits judged by nano", provenance=facts, expected_rows=len(rows))


def main() -> int:
    """Make the edits, score them, show them."""
    started = time.perf_counter()
    console = Console()
    cases = world_cases() + photo_cases()
    console.print(f"{len(cases)} edits: {2 * len(TASKS)} of EditWorld, {len(cases) - 2 * len(TASKS)} of photographs; {PASSES} passes each.")
    scores: dict[int, Score] = {}
    with editscore.load("nano", cache=None) as scorer:
        before = time.perf_counter()
        finished = scorer.score_iter([case.sample for case in cases], passes=PASSES)
        for place, score in track(finished, "judging", total=len(cases), console=console, transient=True):
            scores[place] = score
        seconds = time.perf_counter() - before
    ordered = [scores[place] for place in range(len(cases))]
    show(console, cases, ordered)
    save(cases, ordered, seconds)
    console.print(
        NEXT.format(page=FOLDER / "report.html", seconds=seconds, total=time.perf_counter() - started), highlight=False, soft_wrap=True
    )
    return 0 if all(score.status is Status.OK for score in ordered) else 1


NEXT = """Judged in {seconds:.1f} s, {total:.1f} s in all. The page: [bold]{page}[/] (open it in a browser, drag across an image)

What to try next
  one edit          .venv/bin/editscore score --source a.png --edited b.png --instruction "make the image dark"
  a bigger world    .venv/bin/editscore world make --num 50 --output groups
                    .venv/bin/editscore score --input groups --output scores.jsonl --report page.html
  this machine      .venv/bin/editscore doctor
  your photographs  nano knows EditWorld and global edits only. A real checkpoint judges photographs:
                    .venv/bin/editscore score --model Qwen/Qwen2.5-VL-7B-Instruct --adapter EditScore/EditScore-7B \\
                        --device cuda --input pairs.jsonl --output scores.jsonl --report page.html"""

if __name__ == "__main__":
    sys.exit(main())
