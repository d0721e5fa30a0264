"""The page of `make gpu`: which parts passed, and every figure beside its peer, in one HTML file that loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Protocol


class Ended(Protocol):
    """How a part ended."""

    @property
    def name(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def output(self) -> str: ...


ROOFS = ("roof", "gemm", "copy")  # peers that are a bound: the ratio is a share, drawn as a bar
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c; background: #fff }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 }
th, td { text-align: left; padding: .25rem .75rem; border-bottom: 1px solid #8886 }
td.number { text-align: right; font-variant-numeric: tabular-nums }
pre { background: #8882; padding: .75rem; overflow-x: auto }
.bar { background: #8884; width: 8rem; height: .7rem }
.bar div { background: #2a6f97; height: 100% }
.passed { color: #1b7837 }
.failed, .timed, .not { color: #d6604d; font-weight: 600 }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #161616 } }
"""


def page(gpu: str, now: datetime, outcomes: Sequence[Ended], rows: Sequence[Mapping[str, str]]) -> str:
    """The whole document."""
    failed = [outcome for outcome in outcomes if outcome.status != "passed"]
    summary = "every part passed" if not failed else f"{len(failed)} of {len(outcomes)} parts did not pass"
    commits = ", ".join(sorted({row["commit"] for row in rows})) or "unknown"
    title = f"EditScore kernels on {gpu}, {now:%Y-%m-%d}"
    body = [f"<h1>{escape(title)}</h1>", f"<p>{escape(summary)}; commit {escape(commits)}; {now:%H:%M} UTC</p>"]
    body += ["<h2>Parts</h2>", _table(("part", "status", "seconds"), [_part_cells(outcome) for outcome in outcomes])]
    for outcome in failed:
        body.append(f"<h3>{escape(outcome.name)}: {escape(outcome.status)}</h3><pre>{escape(outcome.output)}</pre>")
    for benchmark in dict.fromkeys(row["benchmark"] for row in rows):
        mine = [row for row in rows if row["benchmark"] == benchmark]
        heads = ("case", "subject", "metric", "value", "against", "peer", "ratio", "share of the roof")
        body += [f"<h2>{escape(benchmark)}</h2>", _table(heads, [_row_cells(row) for row in mine])]
    if not rows:
        body.append("<p>No benchmark wrote a row.</p>")
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>\n'


def _table(heads: Sequence[str], lines: Sequence[str]) -> str:
    return f"<table><tr>{''.join(f'<th>{escape(head)}</th>' for head in heads)}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _part_cells(outcome: Ended) -> str:
    status = f'<td class="{outcome.status.split()[0]}">{escape(outcome.status)}</td>'
    return f'<td>{escape(outcome.name)}</td>{status}<td class="number">{outcome.seconds:.1f}</td>'


def _row_cells(row: Mapping[str, str]) -> str:
    words = "".join(f"<td>{escape(row[name])}</td>" for name in ("case", "subject", "metric"))
    value = f'<td class="number">{escape(row["value"])} {escape(row["unit"])}</td><td>{escape(row["peer"])}</td>'
    numbers = "".join(f'<td class="number">{escape(row[name])}</td>' for name in ("peer_value", "ratio"))
    return f"{words}{value}{numbers}<td>{_bar(row)}</td>"


def _bar(row: Mapping[str, str]) -> str:
    if row["peer"] not in ROOFS or not row["ratio"]:
        return ""
    share = min(max(float(row["ratio"]), 0.0), 1.0)
    return f'<div class="bar" title="{100 * share:.0f}%"><div style="width:{100 * share:.1f}%"></div></div>'
