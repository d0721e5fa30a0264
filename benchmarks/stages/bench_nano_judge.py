"""How good is the nano judge? Pair accuracy on EditWorld's report split, through the engine, beside judges that only compare pixels.

    python -m benchmarks.stages.bench_nano_judge [--groups 240] [--passes 8] [--model nano] [--device cpu] [--no-save]

Pairs are edits of one group whose truth differs by at least 3 of 25 points (overall: 1 of 10). Strictly higher is right, a tie is
wrong. K=1 is the mean over all single passes, K=4 over the disjoint blocks of four. Intervals: 95%, bootstrap over groups.
The shuffled run scores each group under the instruction of another one: what is left of prompt following then is not following.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from cyclopts import App, Parameter
from numpy.typing import NDArray

from benchmarks.harness import Bench
from editscore.stats import Interval, Pairs, bootstrap_ratio, compare_pairs, group_pairs, macro_mean, pearson, spearman
from editscore.types import EditSample, Image, Score
from editscore.world import TASKS, Group, sample_group, world_version

DIMENSIONS = ("prompt_following", "consistency", "naturalness", "artifacts", "overall")
MIN_GAP = {name: 1.0 if name == "overall" else 3.0 for name in DIMENSIONS}
# The least share of the overall pairs that each task has, and that each fault sets apart (one edit has it, the other not).
MIN_TASK_SHARE = 0.05
MIN_FAULT_SHARE = 0.008
MAX_SHUFFLED = 0.55
REPORT_SEED = 0

app = App(help=__doc__)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """The groups, the oracle's scores [E, 5] in the order of DIMENSIONS, and the group number of each edit [E]."""

    groups: list[Group]
    scores: Floats
    owner: NDArray[np.int64]

    def pairs(self, dimension: str) -> Pairs:
        """Pairs that differ enough in a dimension."""
        return group_pairs(self.scores[:, DIMENSIONS.index(dimension)], self.owner, MIN_GAP[dimension])


def load_truth(num_groups: int, seed: int = REPORT_SEED) -> Truth:
    """`num_groups` report groups of four edits, the tasks in turn."""
    groups = [sample_group("report", index, seed=seed, task_type=TASKS[index % len(TASKS)]) for index in range(num_groups)]
    verdicts = [edit.verdict for group in groups for edit in group.edits]
    scores = [[v.prompt_following, v.consistency, v.naturalness, v.artifacts, v.overall] for v in verdicts]
    return Truth(groups, np.array(scores, np.float64), np.repeat(np.arange(num_groups), [len(g.edits) for g in groups]))


def to_record(pixels: NDArray[np.uint8]) -> Image:
    """An array [H, W, 3] as the record that judges take."""
    return Image(pixels.shape[1], pixels.shape[0], np.ascontiguousarray(pixels).tobytes())


def samples_of(truth: Truth, instructions: list[str]) -> list[EditSample]:
    """One sample per edit, each group under its entry of `instructions`."""
    samples = []
    for group, instruction in zip(truth.groups, instructions, strict=True):
        source = to_record(group.source)
        samples += [EditSample(source, to_record(edit.image), instruction, id=edit.id) for edit in group.edits]
    return samples


def pass_scores(scores: list[Score], num_passes: int) -> Floats:
    """[E, K, 5]: raw pairs (0..25) and the overall (0..10) of every pass; NaN where a side failed."""
    table = np.full((len(scores), num_passes, len(DIMENSIONS)), np.nan)
    for row, score in enumerate(scores):
        for entry in score.passes:
            table[row, entry.index, :2] = entry.sc_raw if entry.sc_raw is not None else np.nan
            table[row, entry.index, 2:4] = entry.pq_raw if entry.pq_raw is not None else np.nan
            table[row, entry.index, 4] = entry.overall if entry.overall is not None else np.nan
    return table


def pixel_judges(truth: Truth) -> dict[str, Floats]:
    """[E] per judge: the negative mean squared difference to the source, and the structural similarity with it."""
    from skimage.metrics import structural_similarity

    l2, ssim = [], []
    for group in truth.groups:
        source = group.source.astype(np.float64)
        for edit in group.edits:
            l2.append(-float(np.mean((edit.image - source) ** 2)))
            ssim.append(float(structural_similarity(group.source, edit.image, channel_axis=2)))
    return {"pixel_l2": np.array(l2), "ssim": np.array(ssim)}


@dataclass(frozen=True)
class Accuracy:
    """Per group sums: right and tied pairs (means over ensembles), judged pairs."""

    right: Floats
    tied: Floats
    judged: Floats

    @property
    def interval(self) -> Interval:
        return bootstrap_ratio(self.right, self.judged)

    @property
    def tie_share(self) -> float:
        return float(self.tied.sum() / self.judged.sum())


def accuracy(truth: Truth, dimension: str, ensembles: list[Floats]) -> Accuracy:
    """The mean accuracy of several score vectors [E] on the same pairs. A failed score's pairs leave the denominator."""
    pairs = truth.pairs(dimension)
    sums = np.zeros((3, len(truth.groups)))
    for scores in ensembles:
        outcome = compare_pairs(scores[pairs.better], scores[pairs.worse])
        for row, wanted in enumerate((outcome == 1, outcome == 0, outcome > -2)):
            sums[row] += np.bincount(pairs.group, weights=wanted, minlength=len(truth.groups))
    right, tied, judged = sums / len(ensembles)
    return Accuracy(right, tied, judged)


def ensembles_of(passes: Floats, dimension: str, size: int) -> list[Floats]:
    """Means over disjoint blocks of `size` passes, NaN without one good pass."""
    column = passes[:, :, DIMENSIONS.index(dimension)]
    blocks = [column[:, start : start + size] for start in range(0, column.shape[1] - size + 1, size)]
    return [np.array([row[np.isfinite(row)].mean() if np.isfinite(row).any() else np.nan for row in block]) for block in blocks]


def check_shares(truth: Truth, bench: Bench) -> list[str]:
    """Shares of tasks and faults among the overall pairs; a line for each that is too small."""
    pairs = truth.pairs("overall")
    edits = [edit for group in truth.groups for edit in group.edits]
    tags = [{f"{fault.part}:{fault.kind}" for fault in edit.faults} for edit in edits]
    tasks = Counter(truth.groups[group].task_type for group in pairs.group.tolist())
    faults = Counter(tag for a, b in zip(pairs.better, pairs.worse, strict=True) for tag in tags[a] ^ tags[b])
    problems = []
    for kind, counts, least in (("task", tasks, MIN_TASK_SHARE), ("fault", faults, MIN_FAULT_SHARE)):
        shares = {name: count / len(pairs.group) for name, count in counts.items()}
        rarest = min(shares, key=lambda name: shares[name])
        bench.add("pairs", kind, "smallest share", shares[rarest], rarest)
        problems += [f"{kind} {name} is in {share:.3f} of the pairs, under {least}" for name, share in shares.items() if share < least]
    return problems


def add_accuracy(bench: Bench, case: str, subject: str, found: Accuracy) -> float:
    """Accuracy, its interval and the ties as rows; returns the accuracy."""
    interval = found.interval
    bench.add(case, subject, "pair accuracy", interval.estimate, "share")
    bench.add(case, subject, "pair accuracy, low", interval.low, "share")
    bench.add(case, subject, "pair accuracy, high", interval.high, "share")
    bench.add(case, subject, "ties", found.tie_share, "share")
    return interval.estimate


def report_judge(bench: Bench, truth: Truth, name: str, passes: Floats, peers: dict[str, Floats]) -> None:
    """Rows of the judge per dimension and K, the gain from K=1 to K=4, correlations, and the pixel judges beside it."""
    for column, dimension in enumerate(DIMENSIONS):
        found = {k: accuracy(truth, dimension, ensembles_of(passes, dimension, k)) for k in (1, 4, 8) if k <= passes.shape[1]}
        for k, one in found.items():
            add_accuracy(bench, dimension, f"{name} K={k}", one)
        most = max(found)
        if 4 in found:
            gain = bootstrap_ratio(found[4].right - found[1].right, found[1].judged)
            for metric, value in zip(("", ", low", ", high"), gain, strict=True):
                bench.add(dimension, name, f"K=4 minus K=1{metric}", value, "share")
        mean = ensembles_of(passes, dimension, most)[0]
        bench.add(dimension, f"{name} K={most}", "Pearson", pearson(mean, truth.scores[:, column]), "r")
        bench.add(dimension, f"{name} K={most}", "Spearman", spearman(mean, truth.scores[:, column]), "rho")
        ours = found[most].interval.estimate
        for peer, scores in peers.items():
            theirs = add_accuracy(bench, dimension, peer, accuracy(truth, dimension, [scores]))
            bench.compare(
                dimension, f"{name} K={most}", "pair accuracy", ours, "share", peer=peer, peer_value=theirs, higher_is_better=True
            )


def report_tasks(bench: Bench, truth: Truth, name: str, passes: Floats) -> None:
    """Accuracy of prompt following and overall per task at the largest K of 1 and 4, and their macro means."""
    size = 4 if passes.shape[1] >= 4 else 1
    for dimension in ("prompt_following", "overall"):
        found = accuracy(truth, dimension, ensembles_of(passes, dimension, size))
        values = {}
        for task in TASKS:
            mine = np.array([group.task_type == task for group in truth.groups])
            judged = float(found.judged[mine].sum())
            values[task] = float(found.right[mine].sum()) / judged if judged else float("nan")
            bench.add(f"{dimension}, {task}", f"{name} K={size}", "pair accuracy", values[task], "share")
        bench.add(f"{dimension}, macro mean", f"{name} K={size}", "pair accuracy", macro_mean(values), "share")


def run_shuffled(bench: Bench, scorer: Any, truth: Truth, name: str) -> float:
    """Prompt following under other groups' instructions, at K=4."""
    rng = np.random.default_rng(11)
    shift = int(rng.integers(1, len(truth.groups) - 1))
    order = rng.permutation(len(truth.groups))
    instructions = [""] * len(truth.groups)
    for place, group in enumerate(order):
        instructions[group] = truth.groups[order[(place + shift) % len(order)]].instruction
    passes = pass_scores(scorer.score(samples_of(truth, instructions), passes=4), 4)
    return add_accuracy(
        bench,
        "prompt_following",
        f"{name} K=4, shuffled instructions",
        accuracy(truth, "prompt_following", ensembles_of(passes, "prompt_following", 4)),
    )


@app.default
def main(
    *,
    groups: int = 240,
    passes: int = 8,
    model: str = "nano",
    device: str = "cpu",
    save: Annotated[bool, Parameter(negative="--no-save")] = True,
) -> int:
    """Measure a judge; exit code 1 when a task or fault is too rare or shuffled instructions still score too well."""
    import editscore

    truth = load_truth(groups)
    config = {"groups": groups, "passes": passes, "model": model, "device": device, "world_version": world_version()}
    with editscore.load(model, device=device, cache=None) as scorer:
        bench = Bench("nano_judge", {**config, "identity": str(scorer.identity())})
        problems = check_shares(truth, bench)
        scores = scorer.score(samples_of(truth, [group.instruction for group in truth.groups]), passes=passes)
        table = pass_scores(scores, passes)
        bench.add("all", model, "failed passes", float(np.isnan(table).any(2).mean()), "share")
        bench.add("all", model, "out_of_domain", float(np.mean([_is_warned(score) for score in scores])), "share")
        report_judge(bench, truth, model, table, pixel_judges(truth))
        report_tasks(bench, truth, model, table)
        shuffled = run_shuffled(bench, scorer, truth, model)
    if shuffled > MAX_SHUFFLED:
        problems.append(f"prompt following under shuffled instructions is {shuffled:.3f}, over {MAX_SHUFFLED}")
    if save:
        bench.save()
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def _is_warned(score: Score) -> bool:
    return any(warning.startswith("out_of_domain") for warning in score.warnings)


if __name__ == "__main__":
    sys.exit(app())
