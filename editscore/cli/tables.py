"""One score as a table for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from editscore.cli.single import SingleOptions
from editscore.cli.text import plain
from editscore.report import DIMENSIONS, typical_pass
from editscore.types import PassScore, Score, Status

_BAR_CELLS = 20
_WARNINGS = {
    "out_of_domain": "the judge was not trained on such images or words; do not trust these numbers",
    "size_differs": "the two images differ in width or height",
    "reasoning_closed": "the judge's reasoning was cut at its limit in at least one pass; the numbers were asked for after that",
}
_SIDES = {"prompt_following": ("sc_raw", 0), "consistency": ("sc_raw", 1), "naturalness": ("pq_raw", 0), "artifacts": ("pq_raw", 1)}


def score_table(score: Score, options: SingleOptions, seconds: float) -> RenderableType:
    """Overall and the dimensions with spread and passes, the reasons of a typical pass, warnings, and who judged."""
    parts: list[RenderableType] = [
        Text(plain(options.instruction), style="bold"),
        Text(plain(f"{options.source} -> {options.edited}"), style="dim"),
    ]
    if score.status is not Status.OK:
        parts.append(Text(f"no score: {score.status.value}: {plain(score.message)}", style="bold red"))
    if score.overall is not None:
        parts.append(Padding(_numbers(score), (1, 0)))
    one = typical_pass(score)
    if one is not None:
        parts += _reasons(one)
    parts += [Text(f"warning: {explained(warning)}", style="yellow") for warning in score.warnings]
    failed = f", {score.num_failed_passes} failed" if score.num_failed_passes else ""
    model = f"{plain(options.scorer.model)} {score.identity.model[:12]}".strip()
    facts = f"{score.judge or 'judge'}, {model}, {options.passes} passes{failed}, seed {options.scorer.seed}, {seconds:.1f} s"
    parts.append(Text(facts, style="dim"))
    return Group(*parts)


def explained(warning: str) -> str:
    """The warning's name, and what it means where that is known."""
    return ": ".join([plain(warning), *([_WARNINGS[warning]] if warning in _WARNINGS else [])])


def _numbers(score: Score) -> Table:
    """Overall and the dimensions that the judge sets."""
    dimensions = {name: label for name, label in DIMENSIONS.items() if getattr(score, name) is not None}
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    table.add_column("0 to 10")
    table.add_column("mean", justify="right")
    table.add_column("spread", justify="right")
    table.add_column("passes, raw" if dimensions else "")
    table.add_row(Text("Overall", style="bold"), bar(score.overall), _mean(score.overall), _spread(score.spread.overall), "")
    for name, label in dimensions.items():
        side, place = _SIDES[name]
        raw = [getattr(one, side) for one in score.passes]
        passes = Text(" ".join("-" if pair is None else f"{pair[place]:g}" for pair in raw), style="dim")
        table.add_row(label, bar(getattr(score, name)), _mean(getattr(score, name)), _spread(getattr(score.spread, name)), passes)
    return table


def bar(value: float | None) -> Text:
    """A value on 0..10 as a bar of 20 cells."""
    filled = 0 if value is None else round(value / 10 * _BAR_CELLS)
    return Text("\N{BOX DRAWINGS HEAVY HORIZONTAL}" * filled, style="cyan") + Text(
        "\N{BOX DRAWINGS LIGHT HORIZONTAL}" * (_BAR_CELLS - filled), style="dim"
    )


def _mean(value: float | None) -> Text:
    return Text("-" if value is None else f"{value:.2f}", style="bold")


def _spread(value: float | None) -> Text:
    return Text("" if value is None else f"\N{PLUS-MINUS SIGN} {value:.2f}", style="dim")


def _reasons(one: PassScore) -> list[RenderableType]:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, reason in (("Edit", one.sc_reasoning), ("Image", one.pq_reasoning)):
        if reason:
            table.add_row(name, Text(plain(reason)))
    return [Padding(table, (0, 0, 1, 0))] if table.rows else []
