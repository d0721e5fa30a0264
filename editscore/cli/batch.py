"""A manifest of edits: scored as a journalled run that survives being cut off, then written whole.

The journal lies beside the output (`scores.jsonl.journal`). It holds one entry per finished row and the configuration of the
run: the manifest's content, the judge's and the model's hashes, passes and seed. The same command goes on where the last one
stopped; another configuration is an error that says what changed. Rows whose image files changed since are scored again, and so
are rows that failed for want of input or by an error. The output appears whole, in input order, and the journal goes.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import sys
from collections import Counter
from pathlib import Path

import msgspec

from editscore.cli.account import print_account
from editscore.cli.exits import DONE, FAILED, INTERRUPTED
from editscore.cli.profile import check_profile, profiled
from editscore.cli.progress import open_progress
from editscore.cli.results import failed_row, output_line, provenance, report_rows
from editscore.cli.scorers import OpenScorer, SampleScorer, ScorerOptions
from editscore.cli.targets import check_target
from editscore.cli.text import plain
from editscore.data import Journal, Manifest, ManifestRow, atomic_write, read_manifest
from editscore.types import Identity, InvalidInputError, Score, Status

_TRIED_AGAIN = (Status.INVALID_INPUT, Status.ERROR)
_SHOWN_FAILURES = 10


class BatchOptions(msgspec.Struct, frozen=True):
    """From which manifest to which files, and how often each edit is judged."""

    input: Path
    output: Path
    report: Path | None = None
    passes: int = 4
    scorer: ScorerOptions = ScorerOptions()
    profile: Path | None = None
    shows_progress: bool = True

    @property
    def journal(self) -> Path:
        """`scores.jsonl.journal`, beside the output."""
        return self.output.with_name(self.output.name + ".journal")


def score_manifest(options: BatchOptions, *, open_scorer: OpenScorer) -> int:
    """Score every row and write the output (and the page); the exit code says whether a sample failed."""
    manifest = read_manifest(options.input)
    _check_targets(options, manifest)
    scores: dict[int, Score] = {}
    if not _run(options, manifest, open_scorer, scores):
        return INTERRUPTED
    ordered = [scores[row.index] for row in manifest.rows]
    _print_summary(options, ordered)
    return FAILED if any(score.status is not Status.OK for score in ordered) else DONE


def _run(options: BatchOptions, manifest: Manifest, open_scorer: OpenScorer, scores: dict[int, Score]) -> bool:
    """Fill `scores` from the journal and the scorer, write the files, remove the journal. False when that was interrupted."""
    scorer = open_scorer(options.scorer)
    try:
        with scorer, Journal(options.journal, _configuration(options, manifest, scorer)) as journal:
            scores.update(_finished(manifest, journal))
            if scores:
                print(f"going on: {len(scores)} of {len(manifest.rows)} samples are in {options.journal}", file=sys.stderr)
            with profiled(scorer, options.profile):
                _score_rest(options, manifest, scorer, journal, scores)
                print_account(scorer.stats())
            _write(options, [(row, scores[row.index]) for row in manifest.rows], scorer.identity())
            journal.remove()
    except KeyboardInterrupt:  # caught out here, so that scorer and journal have seen it and let go
        num_kept = sum(score.status not in _TRIED_AGAIN for score in scores.values())
        kept = f"{num_kept} of {len(manifest.rows)} samples are done, in {options.journal}"
        print(f"\nstopped: {kept}; the same command goes on from there", file=sys.stderr)
        print_account(scorer.stats())
        return False
    return True


def _check_targets(options: BatchOptions, manifest: Manifest) -> None:
    """Find out before any work that a target cannot be written, or would overwrite what is read."""
    check_profile(options.profile, options.scorer)
    asked = {"output": options.output, "report": options.report, "profile": options.profile}
    targets = {name: path for name, path in asked.items() if path is not None}
    real: dict[str, str] = {}
    for name, path in targets.items():
        real[name] = os.path.realpath(path)
        other = next((other for other in real if other != name and real[other] == real[name]), None)
        if other is not None:
            raise InvalidInputError(name, f"is the same file as the {other}")
    for name, path in targets.items():
        if real[name] == os.path.realpath(manifest.path):
            raise InvalidInputError(name, f"{path} is the manifest itself")
        check_target(path, name)


def _configuration(options: BatchOptions, manifest: Manifest, scorer: SampleScorer) -> dict[str, str]:
    """All that decides the output, as texts; a journal under another one is an error."""
    hashes = msgspec.structs.asdict(scorer.identity())
    return {
        "content of the manifest": manifest.digest,
        "passes": str(options.passes),
        "seed": str(options.scorer.seed),
        "judge": options.scorer.judge or "",
        **{f"{name} hash": value for name, value in hashes.items()},
    }


def _finished(manifest: Manifest, journal: Journal) -> dict[int, Score]:
    """The scores that an earlier run left and that still hold, by row."""
    scores: dict[int, Score] = {}
    for row in manifest.rows:
        entry = journal.entries.get(_key(row)) if row.sample is not None else None
        if entry is not None:
            score = msgspec.json.decode(entry, type=Score)
            if score.status not in _TRIED_AGAIN:
                scores[row.index] = score
    return scores


def _key(row: ManifestRow) -> str:
    """The row's place, and a stamp of its two files: size and time of change."""
    assert row.sample is not None
    stamps = []
    for path in (row.sample.source, row.sample.edited):
        try:
            found = os.stat(str(path))
            stamps.append(f"{found.st_size}:{found.st_mtime_ns}")
        except (OSError, ValueError):
            stamps.append("absent")
    return f"{row.index}:{hashlib.sha256(' '.join(stamps).encode()).hexdigest()[:16]}"


def _score_rest(options: BatchOptions, manifest: Manifest, scorer: SampleScorer, journal: Journal, scores: dict[int, Score]) -> None:
    """Score the rows that `scores` lacks, into the journal and into `scores`, as they finish."""
    scores.update((row.index, failed_row(row, options.scorer.seed)) for row in manifest.rows if row.sample is None)
    rest = [row for row in manifest.rows if row.index not in scores]
    samples = [row.sample for row in rest if row.sample is not None]
    keys = [_key(row) for row in rest]  # before the files are read: a later change then shows
    failed = sum(score.status is not Status.OK for score in scores.values())
    counts = {"done": len(scores), "failed": failed}
    with open_progress(len(manifest.rows), **counts, read_stats=scorer.stats, is_shown=options.shows_progress) as progress:
        for place, score in scorer.score_iter(samples, passes=options.passes):
            row = rest[place]
            if score.status in _TRIED_AGAIN:
                score = msgspec.structs.replace(score, message=f"{row.where}: {score.message}")
            journal.append(keys[place], score)
            scores[row.index] = score
            progress.advance(score)


def _write(options: BatchOptions, pairs: list[tuple[ManifestRow, Score]], identity: Identity) -> None:
    if options.report is not None:
        from editscore.report import write_report

        judge = next((score.judge for _, score in pairs if score.judge), options.scorer.judge or "")
        facts = {
            "manifest": str(options.input),
            "judge": judge,
            "model": options.scorer.model,
            "adapter": options.scorer.adapter or "",
            "passes": str(options.passes),
            "seed": str(options.scorer.seed),
        }
        title = f"Scores of {options.input.name}"
        write_report(options.report, report_rows(pairs), title=title, provenance=provenance(identity, facts), expected_rows=len(pairs))
    with atomic_write(options.output) as file:
        for row, score in pairs:
            file.write(output_line(row, score))


def _print_summary(options: BatchOptions, scores: list[Score]) -> None:
    """What came out, on stdout: counts, the first failures, the mean, the files."""
    counts = Counter(score.status.value for score in scores)
    failures = [score for score in scores if score.status is not Status.OK]
    print(f"{len(scores)} samples: " + ", ".join(f"{number} {status}" for status, number in counts.most_common()))
    for score in failures[:_SHOWN_FAILURES]:
        print(f"  {plain(score.id)}: {score.status.value}: {plain(score.message)}")
    if len(failures) > _SHOWN_FAILURES:
        print(f"  ... and {len(failures) - _SHOWN_FAILURES} more")
    overalls = [score.overall for score in scores if score.overall is not None]
    spreads = [score.spread.overall for score in scores if score.spread.overall is not None]
    if overalls:
        spread = f", median spread over passes {statistics.median(spreads):.2f}" if spreads else ""
        print(f"mean overall {statistics.fmean(overalls):.2f}{spread}")
    print(" ".join(str(path) for path in (options.output, options.report) if path is not None))
