"""The whole page: head, summary, toolbar, cards, provenance. One file, no request to anywhere.

The page carries a content security policy that allows its one script by hash and images from data addresses only, so that even
a text that slipped through the escaping could neither run nor call home.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from editscore.report.cards import STATUS_NAMES, card, number, text
from editscore.report.rows import DIMENSIONS, ReportRow
from editscore.report.summary import Summary
from editscore.report.thumbnails import Thumbnails, thumbnail_side
from editscore.types import Status

_SORTS = {"place": "Input order", "overall": "Overall", **DIMENSIONS, "spread": "Spread", "id": "Name"}


def write_report(
    path: str | os.PathLike[str],
    rows: Iterable[ReportRow],
    *,
    title: str = "EditScore report",
    provenance: Mapping[str, str] | None = None,
    expected_rows: int = 100,
) -> None:
    """Write the page to `path`; it appears whole or not at all.

    rows: read once and one at a time, so that a generator may decode images as they are needed.
    provenance: what made the scores, shown in the footer.
    expected_rows: about how many rows come; it sets the size of the thumbnails.
    """
    page = render_report(rows, title=title, provenance=provenance, expected_rows=expected_rows)
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(page)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def render_report(
    rows: Iterable[ReportRow],
    *,
    title: str = "EditScore report",
    provenance: Mapping[str, str] | None = None,
    expected_rows: int = 100,
) -> bytes:
    """The page as UTF-8; see `write_report`."""
    thumbnails = Thumbnails(thumbnail_side(expected_rows))
    summary = Summary()
    cards = []
    for place, row in enumerate(rows):
        summary.add(row)
        cards.append(card(row, place, thumbnails))
    script = _asset("page.js")
    page = "\n".join(
        [
            _head(title, script),
            _masthead(title, summary),
            _toolbar(summary),
            f'<main id="cards">{"".join(cards)}<p id="nothing" hidden>No sample fits these filters.</p></main>',
            _footer(provenance or {}, thumbnails.num_left_out),
            f'<script type="application/json" id="images">{msgspec.json.encode(thumbnails.addresses).decode()}</script>',
            f"<script>{script}</script>",
            "</body></html>\n",
        ]
    )
    return page.encode("utf-8", "replace")


def _asset(name: str) -> str:
    return (importlib.resources.files("editscore.report") / name).read_text(encoding="utf-8")


def _head(title: str, script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        '<link rel="icon" href="data:,">'
        f"<title>{text(title)}</title><style>{_asset('page.css')}</style></head><body>"
    )


def _masthead(title: str, summary: Summary) -> str:
    tiles = [("samples", str(summary.num_rows)), ("mean overall", number(summary.mean("overall"), 2))]
    tiles += [("median spread", number(summary.median_spread, 2)), ("failed", str(summary.num_failed))]
    cells = "".join(
        f'<div class="tile{" alarm" if name == "failed" and summary.num_failed else ""}"><dd>{value}</dd><dt>{name}</dt></div>'
        for name, value in tiles
    )
    return (
        f'<header class="masthead"><div class="title"><h1>{text(title)}</h1>'
        '<button type="button" id="theme" aria-label="Colours: follow the system">'
        '<span aria-hidden="true">\N{CIRCLE WITH RIGHT HALF BLACK}</span> <span id="theme-name">Auto</span></button></div>'
        f'<div class="overview"><dl class="tiles">{cells}</dl>{summary.histogram()}</div>{summary.task_table()}</header>'
    )


def _toolbar(summary: Summary) -> str:
    statuses = [("", "All"), *((status.value, STATUS_NAMES[status]) for status in Status if summary.statuses[status])]
    if summary.num_failed:
        statuses.insert(1, ("failed", "All failed"))
    if summary.num_warned:
        statuses.append(("warned", "With warnings"))
    tasks = [("", "All"), *((task, task or "(none)") for task in sorted(summary.tasks))] if any(summary.tasks) else [("", "All")]
    return (
        '<noscript><p class="message">Images, sorting and filters need JavaScript; this page loads nothing from elsewhere.</p></noscript>'
        '<form class="toolbar" role="search" aria-label="Sort and filter">'
        f"{_select('sort', 'Sort by', list(_SORTS.items()))}"
        '<button type="button" id="direction" aria-pressed="false" aria-label="Descending order">'
        '<span aria-hidden="true">\N{UPWARDS ARROW}</span></button>'
        f"{_select('status', 'Status', statuses)}{_select('task', 'Task', tasks)}"
        '<label class="find">Find<input type="search" id="find" placeholder="instruction, id, reason"></label>'
        f'<output id="shown" aria-live="polite">{summary.num_rows} of {summary.num_rows}</output></form>'
        '<p class="legend"><span><i class="key fill"></i>mean</span><span><i class="key dot"></i>one pass</span>'
        + ('<span><i class="key truth"></i>oracle</span>' if summary.has_truth else "")
        + "<span>drag across an image to compare</span></p>"
    )


def _select(name: str, label: str, options: list[tuple[str, str]]) -> str:
    body = "".join(f'<option value="{text(value)}">{text(shown)}</option>' for value, shown in options)
    return f'<label>{label}<select id="{name}">{body}</select></label>'


def _footer(provenance: Mapping[str, str], num_left_out: int) -> str:
    pairs = "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in provenance.items() if value)
    left_out = f"<p>{num_left_out} images were left out to keep this page small.</p>" if num_left_out else ""
    return (
        f"<footer><h2>Where these numbers come from</h2>{left_out}<dl>{pairs}</dl>"
        "<p>Scores are on 0 to 10, higher is better. Edit = min(prompt following, consistency), image = min(naturalness, artifacts), "
        "overall = sqrt(edit * image), averaged over passes; artifacts: 10 means none. A failed sample has no score.</p></footer>"
    )
