"""The model card: what the judge is for, its figures per task and per fault, and what it cannot see."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence as Items
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from editscore.data import atomic_write
from editscore.stats import PairCounts, count_pairs, group_pairs
from editscore.tuning.nano.config import IMAGE_SIZE
from editscore.tuning.nano.domain import warned_shares
from editscore.tuning.nano.evaluation import (
    DIMENSIONS,
    MIN_GAP,
    Scores,
    expected_scores,
    pair_table,
    sampled_scores,
    true_scores,
)
from editscore.types import Sampling
from editscore.world import TASKS, Group, sample_group, world_version

NUM_GROUPS: Final = 240
NUM_PASSES: Final = 8
LARGE_SIZE: Final = 256
NOTES: Final = "notes.md"  # in the run's folder: what a log does not say, for the card
# The columns of a verdict that each kind of fault is judged by.
FAULT_COLUMNS: Final = {"edit": [0], "collateral": [1], "quality": [2, 3]}


class Figures(msgspec.Struct, frozen=True):
    """Accuracies on report groups, through the training code: `overall_k[k][dimension]`, per task and per fault."""

    world_version: str
    samples: int
    minutes: float
    threshold: float
    accuracy: dict[str, dict[str, float]]
    ties: dict[str, dict[str, float]]
    per_task: dict[str, dict[str, float]]
    per_fault: dict[str, dict[str, float]]
    warned: dict[str, float]


def report_groups(num: int, seed: int, size: int = IMAGE_SIZE) -> list[Group]:
    """Unseen groups of four edits, the tasks in turn."""
    return [sample_group("report", index, seed=seed, task_type=TASKS[index % len(TASKS)], size=size) for index in range(num)]


def measure(run: Any, threshold: float, sampling: Sampling, num_passes: int = NUM_PASSES) -> Figures:
    """All figures of the card. `run` is a finished training run."""
    config = run.config
    groups = report_groups(NUM_GROUPS, config.world_seed)
    sampled = sampled_scores(run.model, run.encoder, groups, num_passes, sampling, seed=config.seed)
    expected = expected_scores(run.model, run.encoder, groups)
    tables = {f"K={k}": average_tables([pair_table(s, groups) for s in split_passes(sampled, k)]) for k in (1, 4, 8) if k <= num_passes}
    large = report_groups(NUM_GROUPS // 3, config.world_seed, LARGE_SIZE)
    sampled_large = sampled_scores(run.model, run.encoder, large, min(4, num_passes), sampling, seed=config.seed)
    tables[f"K=4, a third of the groups, drawn at {LARGE_SIZE} px"] = average_tables([pair_table(sampled_large, large)])
    tables["E"] = average_tables([pair_table(expected, groups)])
    most = sampled.mean(1)
    return Figures(
        world_version=world_version(),
        samples=run.progress.samples,
        minutes=round(run.progress.total_s / 60, 1),
        threshold=threshold,
        accuracy={name: {d: a for d, (a, _) in table.items()} for name, table in tables.items()},
        ties={name: {d: t for d, (_, t) in table.items()} for name, table in tables.items()},
        per_task=per_task(sampled, groups),
        per_fault=per_fault(most, groups),
        warned=warned_shares(run.model, run.heads.in_domain, run.encoder, threshold, config.world_seed),
    )


def split_passes(scores: Scores, size: int) -> list[Scores]:
    """[E, K, 4] into disjoint ensembles of `size` passes."""
    return [scores[:, start : start + size] for start in range(0, scores.shape[1] - size + 1, size)]


def average_tables(tables: list[dict[str, PairCounts]]) -> dict[str, tuple[float, float]]:
    """Per dimension the mean accuracy and the mean share of ties."""
    return {
        name: (float(np.mean([t[name].accuracy for t in tables])), float(np.mean([t[name].tie_share for t in tables])))
        for name in DIMENSIONS
    }


def per_task(sampled: Scores, groups: Items[Group]) -> dict[str, dict[str, float]]:
    """Prompt following and overall of each task, at four passes."""
    owner = np.repeat([group.task_type for group in groups], [len(group.edits) for group in groups])
    table = {}
    for task in TASKS:
        chosen = [group for group in groups if group.task_type == task]
        if chosen:
            tables = average_tables([pair_table(s[owner == task], chosen) for s in split_passes(sampled, min(4, sampled.shape[1]))])
            table[task] = {name: tables[name][0] for name in ("prompt_following", "consistency", "overall")}
    return table


def per_fault(scores: Scores, groups: Items[Group]) -> dict[str, dict[str, float]]:
    """For each fault, on its own side of the verdict: pairs whose worse edit has it and whose better one has not.

    scores [E, 4] on 0..25. A fault of the edit is judged by prompt following, a collateral one by consistency, one of quality by
    the lower of naturalness and artifacts; pairs differ by at least 3. Gives the accuracy and the number of pairs.
    """
    edits = [edit for group in groups for edit in group.edits]
    owner = np.repeat(np.arange(len(groups)), [len(group.edits) for group in groups])
    table: dict[str, dict[str, float]] = {}
    for part, columns in FAULT_COLUMNS.items():
        given, truth = (values[:, columns].min(1) for values in (scores, true_scores(groups)))
        kinds = [{fault.kind for fault in edit.faults if fault.part == part} for edit in edits]
        pairs = group_pairs(truth, owner, MIN_GAP)
        members: dict[str, list[int]] = defaultdict(list)
        for number, (better, worse) in enumerate(zip(pairs.better, pairs.worse, strict=True)):
            for kind in kinds[worse] - kinds[better]:
                members[kind].append(number)
        for kind in sorted(members):
            index = np.array(members[kind])
            counts = count_pairs(given[pairs.better[index]], given[pairs.worse[index]])
            table[f"{part}: {kind}"] = {"accuracy": counts.accuracy, "pairs": float(counts.num_judged)}
    return table


def _rows(table: dict[str, dict[str, float]], columns: Items[str]) -> list[str]:
    lines = ["| | " + " | ".join(column.replace("_", " ") for column in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, values in table.items():
        cells = [f"{values[c]:.0f}" if c == "pairs" else f"{values[c]:.3f}" for c in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


_HEAD: Final = """---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
---
# The nano judge

A Qwen2.5-VL model of {parameters:.2f} M parameters, trained from scratch on EditWorld in {minutes:.0f} minutes on one CPU thread while a
second process drew the pictures. It scores
edits of EditWorld pictures, and global edits (tone, style, background, quality) of photographs, through the same engine, judge
and scorer as a checkpoint of 8 B parameters.

**Use it to try, test, teach and develop. Judging photographs needs a real checkpoint**: `editscore score --model HUB_ID ...`.
Local edits of photographs and words outside its vocabulary come back with the warning `out_of_domain`.

Images are resized to 84 x 84 pixels: 9 tokens each. Whatever is smaller than about two pixels there, it cannot see.
"""

_LIMITS: Final = """
## What it cannot see

- Anything outside EditWorld: it has seen drawn shapes, signs, simple faces, and eleven photographs
  (in varied colors) as backgrounds, nothing else.
- Its reasons name objects and faults by word, but a reason may be wrong where the score is right, and the other way round.
- The lowest rows above are its weak spots; a fault with few pairs has a wide interval: 30 pairs at .80 mean .63 to .92.
- The warnings above were measured on six held-out photographs of one package, with local edits made by program (patches pasted,
  copied, erased, recolored, relit). A photograph with flat, drawing-like objects may pass without a warning.
"""


def write_card(folder: Path, run: Any, figures: Figures) -> None:
    """`README.md` beside the weights."""
    parameters = sum(p.numel() for p in run.model.parameters()) / 1e6
    lines = [_HEAD.format(parameters=parameters, minutes=figures.minutes)]
    lines += [
        f"## Figures ({NUM_GROUPS} unseen groups of four edits, world version `{figures.world_version}`)",
        "",
        "Pair accuracy: pairs of one group that differ by at least 3 of 25 points (overall: 1 of 10) in truth; strictly higher is",
        "right, a tie is wrong. E is the expectation over the score tokens with an empty reasoning, one pass. Computed by the",
        "training code; `benchmarks/stages/bench_nano_judge.py` measures the same through the engine, with intervals.",
        "",
        *_rows(figures.accuracy, DIMENSIONS),
        "",
        "Share of ties:",
        "",
        *_rows(figures.ties, DIMENSIONS),
        "",
        "## Per task (four passes)",
        "",
        *_rows(figures.per_task, ("prompt_following", "consistency", "overall")),
        "",
        f"## Per fault ({NUM_PASSES} passes)",
        "",
        "Pairs of which the worse edit has the fault and the better one has not; other faults may be present. Faults of the edit",
        "are judged by prompt following, collateral ones by consistency, those of quality by the lower of naturalness and artifacts.",
        "",
        *_rows(figures.per_fault, ("accuracy", "pairs")),
        "",
        "## Warnings",
        "",
        "| edits | share with `out_of_domain` |",
        "|---|---|",
        *(f"| {name} | {share:.3f} |" for name, share in figures.warned.items()),
        _LIMITS,
        "## How it was made",
        "",
        f"`make nano`: {figures.samples} edits in the main stage, {figures.minutes:.0f} minutes in all, configuration",
        f"`{run.config.digest[:16]}`. `training_log.txt`, `curve.csv` and `training.json` beside this file are of that run.",
        "",
    ]
    notes = run.folder / NOTES
    if notes.exists():
        lines += [notes.read_text(encoding="utf-8")]
    with atomic_write(folder / "README.md") as file:
        file.write("\n".join(lines).encode())
