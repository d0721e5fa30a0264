"""`editscore doctor --parity`: our engine beside transformers, as a table and an exit code."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from editscore.cli.exits import DONE, FAILED
from editscore.cli.text import plain

if TYPE_CHECKING:
    from rich.table import Table

    from editscore.scoring.parity import Comparison, ParityReport


def show_parity(model: str, *, adapter: str | None, device: str, dtype: str, as_json: bool) -> int:
    """Run the comparison and print it; the exit code says whether every prompt passed."""
    from editscore.scoring.parity import check_parity

    if not sys.stderr.isatty():
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    report = check_parity(model, adapter=adapter, device=device, dtype=dtype, say=lambda words: print(f"{words} ...", file=sys.stderr))
    if as_json:
        sys.stdout.write(json.dumps({"parity": report.content(), "passed": report.passed}, indent=2) + "\n")
    else:
        _print(report, model, adapter)
    return DONE if report.passed else FAILED


def _print(report: ParityReport, model: str, adapter: str | None) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    tuned = f" with {plain(adapter)} {report.adapter[:12]}" if adapter else ""
    console.print(Text(f"{plain(model)} {report.model[:12]}{tuned}, {report.dtype} on {report.device}", style="bold"))
    console.print("Same messages, same images: the engine of this package beside transformers.\n")
    console.print(_table(report))
    for row in report.comparisons:
        if row.problem:
            console.print(Text(f"{row.prompt}: {plain(row.problem)}", style="red"))
    console.print(Text(_verdict(report), style="bold green" if report.passed else "bold red"))


def _table(report: ParityReport) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 1, 0))
    table.add_column("Images")
    for title in ("Prompt\ntokens", "Same greedy\ntokens", "Largest\nlogit", "Largest\ndifference", "Limit"):
        table.add_column(title, justify="right")
    table.add_column("")
    table.padding = (0, 2, 0, 0)
    for row in report.comparisons:
        same = f"{row.num_same_tokens} of {row.num_tokens}"
        verdict = Text("ok", style="green") if row.passed else Text("FAILED", style="bold red")
        numbers = (f"{row.largest_logit:.3g}", f"{row.difference:.1e}", f"{row.limit:.1e}")
        table.add_row(row.prompt, str(row.num_prompt_tokens), same, *numbers, verdict)
    return table


def _verdict(report: ParityReport) -> str:
    failed = [row for row in report.comparisons if not row.passed]
    if failed:
        return f"\nFAILED: {len(failed)} of {len(report.comparisons)} prompts differ from transformers by more than the limit, or otherwise"
    worst: Comparison = max(report.comparisons, key=lambda row: row.difference)
    tokens = "; all greedy tokens are the same" if all(row.num_same_tokens == row.num_tokens for row in report.comparisons) else ""
    return f"\npassed: no logit differs by more than {worst.difference:.1e} from transformers in float32{tokens}"
