"""One edit: a table on the terminal, or its record as JSON."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import msgspec

from editscore.cli.account import print_account
from editscore.cli.exits import DONE, FAILED
from editscore.cli.profile import check_profile, profiled
from editscore.cli.scorers import OpenScorer, ScorerOptions
from editscore.cli.targets import check_target
from editscore.data import load_sample
from editscore.types import EditSample, InvalidInputError, Score, ScorerStats, Status


class SingleOptions(msgspec.Struct, frozen=True):
    """The edit, how often to judge it, and what to do with the score."""

    source: str
    edited: str
    instruction: str
    report: Path | None = None
    passes: int = 4
    scorer: ScorerOptions = ScorerOptions()
    as_json: bool = False
    profile: Path | None = None


def score_one(options: SingleOptions, *, open_scorer: OpenScorer) -> int:
    """Score one edit and show it; the exit code says whether there is a score."""
    if options.report is not None:
        check_target(options.report, "report")
    check_profile(options.profile, options.scorer)
    sample = EditSample(source=options.source, edited=options.edited, instruction=options.instruction)
    score, seconds, stats = _judge(sample, options, open_scorer)
    if options.report is not None:
        _write_report(options, sample, score)
    if options.as_json:
        sys.stdout.write(msgspec.json.encode(score).decode() + "\n")
    else:
        from rich.console import Console

        from editscore.cli.tables import score_table

        Console(highlight=False).print(score_table(score, options, seconds))
    print_account(stats)
    return DONE if score.status is Status.OK else FAILED


def _judge(sample: EditSample, options: SingleOptions, open_scorer: OpenScorer) -> tuple[Score, float, ScorerStats]:
    """The score, the seconds it took, and what was computed.

    The input is read first: opening a model takes seconds, a wrong path need not wait for it.
    """
    started = time.perf_counter()
    try:
        sample = load_sample(sample)
    except InvalidInputError as error:
        judge, seed = options.scorer.judge or "", options.scorer.seed
        failed = Score(id="0", status=Status.INVALID_INPUT, message=str(error), judge=judge, seed=seed)
        return failed, time.perf_counter() - started, ScorerStats()
    scorer = open_scorer(options.scorer)
    try:
        with scorer:
            started = time.perf_counter()
            with profiled(scorer, options.profile):
                ((_, score),) = scorer.score_iter([sample], passes=options.passes)
                seconds = time.perf_counter() - started
            return score, seconds, scorer.stats()
    except KeyboardInterrupt:
        print_account(scorer.stats())
        raise


def _write_report(options: SingleOptions, sample: EditSample, score: Score) -> None:
    from editscore.cli.results import provenance, report_rows
    from editscore.data import ManifestRow
    from editscore.report import write_report

    assert options.report is not None
    fields = {"source": options.source, "edited": options.edited, "instruction": options.instruction}
    row = ManifestRow(0, "command line", score.id, fields, sample=sample)
    facts = {"judge": score.judge, "model": options.scorer.model, "adapter": options.scorer.adapter or "", "passes": str(options.passes)}
    facts["seed"] = str(options.scorer.seed)
    write_report(options.report, report_rows([(row, score)]), title="Score of one edit", provenance=provenance(score.identity, facts))
