"""One sample as HTML. Every text that is not ours goes through `text`."""

from __future__ import annotations

import html
import math
import re

from editscore.report.rows import DIMENSIONS, ReportRow, typical_pass
from editscore.report.thumbnails import Thumbnails
from editscore.types import Image, PassScore, Score, Status

STATUS_NAMES = {
    Status.OK: "ok",
    Status.PARSE_FAILED: "answer not readable",
    Status.REFUSED: "refused",
    Status.TRUNCATED: "answer cut off",
    Status.INVALID_INPUT: "invalid input",
    Status.ERROR: "error",
}
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_LONG_CHARACTERS = 400
_PUBLISHED_RANGE = 25


def text(value: object) -> str:
    """`value` as HTML text and as an attribute's value: escaped, control characters and lone surrogates made visible."""
    return html.escape(_CONTROLS.sub("\N{REPLACEMENT CHARACTER}", str(value)), quote=True)


def number(value: float | None, digits: int = 1) -> str:
    """A score for people; a dash where there is none."""
    return "\N{EN DASH}" if value is None else f"{value:.{digits}f}"


def card(row: ReportRow, place: int, thumbnails: Thumbnails) -> str:
    """An `<article>` whose data attributes are what the page sorts and filters by."""
    score = row.score
    values = {"overall": score.overall, **{name: getattr(score, name) for name in DIMENSIONS}, "spread": score.spread.overall}
    keys = " ".join(f'data-{name.replace("_", "-")}="{"" if value is None else f"{value:.6f}"}"' for name, value in values.items())
    state = "ok" if score.status is Status.OK else "failed"
    return (
        f'<article class="card {state}" data-place="{place}" data-id="{text(score.id)}" data-status="{text(score.status)}" '
        f'data-task="{text(row.task)}" data-warnings="{len(score.warnings)}" {keys}>'
        f"{_compare(row, thumbnails)}"
        f'<div class="body">{_head(row)}{_bars(row)}{_reasons(score)}{_passes(score)}{_notes(row)}</div>'
        "</article>"
    )


def _compare(row: ReportRow, thumbnails: Thumbnails) -> str:
    if row.source is None and row.edited is None:
        return '<div class="compare none"><p>no image</p></div>'
    shown = row.edited or row.source
    assert shown is not None
    source = _picture(row.source, "source", thumbnails)
    edited = _picture(row.edited, "edited", thumbnails)
    slider = ""
    if row.source is not None and row.edited is not None:
        slider = (
            '<span class="handle" aria-hidden="true"></span><input type="range" min="0" max="100" value="50" step="1" '
            f'aria-label="Wipe between source and edited image of {text(row.score.id)}">'
        )
    sizes = ", ".join(f"{name} {image.width} x {image.height}" for name, image in _images(row))
    small = " small" if max(shown.width, shown.height) <= 160 else ""
    return (
        f'<figure><div class="compare{small}" style="--ratio:{shown.width / shown.height:.4f}">{source}{edited}{slider}</div>'
        f"<figcaption>{text(sizes)}</figcaption></figure>"
    )


def _images(row: ReportRow) -> list[tuple[str, Image]]:
    return [(name, image) for name, image in (("source", row.source), ("edited", row.edited)) if image is not None]


def _picture(image: Image | None, role: str, thumbnails: Thumbnails) -> str:
    if image is None:
        return ""
    place = thumbnails.add(image)
    label = f'<span class="tag {role}" aria-hidden="true">{role}</span>'
    if place is None:
        return f'<span class="{role} left-out">left out to keep the page small</span>{label}'
    return f'<img class="{role}" alt="{role} image" data-image="{place}">{label}'


def _head(row: ReportRow) -> str:
    score = row.score
    chips = [f'<span class="chip id" title="id">{text(score.id)}</span>']
    if row.task:
        chips.append(f'<span class="chip task" title="task">{text(row.task)}</span>')
    if score.status is not Status.OK:
        chips.append(f'<span class="chip bad">{text(STATUS_NAMES[score.status])}</span>')
    chips += [f'<span class="chip warn" title="warning">{text(warning)}</span>' for warning in score.warnings]
    long = ' class="long" tabindex="0"' if len(row.instruction) > _LONG_CHARACTERS else ""
    spread = score.spread.overall
    deviation = "" if spread is None or len(score.passes) < 2 else f'<span class="spread">&plusmn; {number(spread)}</span>'
    truth = f'<span class="truth-text">oracle {number(row.truth["overall"])}</span>' if "overall" in row.truth else ""
    return (
        f'<header><div><p class="chips">{"".join(chips)}</p><h2{long} dir="auto">{text(row.instruction) or "(no instruction)"}</h2></div>'
        f'<p class="overall" title="overall, 0 to 10"><b>{number(score.overall)}</b>{deviation}{truth}</p></header>'
        + (f'<p class="message" dir="auto">{text(score.message)}</p>' if score.message else "")
    )


def _bars(row: ReportRow) -> str:
    score = row.score
    if all(getattr(score, name) is None for name in DIMENSIONS):
        return ""
    lines = []
    for name, label in DIMENSIONS.items():
        value: float | None = getattr(score, name)
        dots = "".join(f'<i class="dot" style="--v:{dot:.3f}"></i>' for dot in _dots(score, name))
        truth = row.truth.get(name)
        mark = "" if truth is None else f'<i class="truth" style="--v:{truth:.3f}" title="oracle {number(truth)}"></i>'
        fill = "" if value is None else f'<i class="fill" style="--v:{value:.3f}"></i>'
        spread: float | None = getattr(score.spread, name)
        title = f"{label}: {number(value, 2)}" + ("" if spread is None else f", spread {number(spread, 2)}")
        lines.append(
            f'<dt>{label}</dt><dd title="{title}"><span class="bar" aria-hidden="true">{fill}{dots}{mark}</span><b>{number(value)}</b></dd>'
        )
    return f'<dl class="bars">{"".join(lines)}</dl>'


def _dots(score: Score, name: str) -> list[float]:
    """The passes' values of one dimension on 0..10; one pass needs no dots."""
    side = 0 if name in ("prompt_following", "naturalness") else 1
    pairs = [one.sc_raw if name in ("prompt_following", "consistency") else one.pq_raw for one in score.passes]
    factor = _raw_to_ten(score)
    values = [pair[side] * factor for pair in pairs if pair is not None]
    return values if len(values) > 1 else []


def _raw_to_ten(score: Score) -> float:
    """10 / score_range, which a score does not hold: read off a pass, whose overall is sqrt(min(sc) * min(pq)) * 10 / range."""
    for one in score.passes:
        if one.overall and one.sc_raw and one.pq_raw:
            return one.overall / math.sqrt(min(one.sc_raw) * min(one.pq_raw))
    return 10 / _PUBLISHED_RANGE


def _reasons(score: Score) -> str:
    one = typical_pass(score)
    if one is None:
        return ""
    lines = [("Edit", one.sc_reasoning), ("Image", one.pq_reasoning)]
    body = "".join(f'<p><span class="side">{side}</span><span dir="auto">{text(reason)}</span></p>' for side, reason in lines if reason)
    return f'<div class="reasons">{body}</div>' if body else ""


def _passes(score: Score) -> str:
    if not score.passes:
        return ""
    failed = f", {score.num_failed_passes} failed" if score.num_failed_passes else ""
    head = "".join(f'<th scope="col">{name}</th>' for name in ("Pass", "Edit", "Image", "Overall", "Reasons"))
    body = "".join(_pass_line(one) for one in score.passes)
    word = "pass" if len(score.passes) == 1 else "passes"
    return (
        f'<details class="passes"><summary>{len(score.passes)} {word}{failed}</summary>'
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></details>'
    )


def _pass_line(one: PassScore) -> str:
    def pair(raw: tuple[float, float] | None) -> str:
        return number(None) if raw is None else f"{raw[0]:g} / {raw[1]:g}"

    reasons = [reason for reason in (one.sc_reasoning, one.pq_reasoning) if reason]
    if one.status is not Status.OK:
        reasons.insert(0, f"{STATUS_NAMES[one.status]}: {one.message}" if one.message else STATUS_NAMES[one.status])
    lines = "".join(f'<span dir="auto">{text(reason)}</span>' for reason in reasons)
    state = "" if one.status is Status.OK else ' class="failed"'
    cells = f"<td>{pair(one.sc_raw)}</td><td>{pair(one.pq_raw)}</td><td>{number(one.overall)}</td>"
    return f'<tr{state}><th scope="row">{one.index + 1}</th>{cells}<td class="words">{lines}</td></tr>'


def _notes(row: ReportRow) -> str:
    if not row.notes:
        return ""
    pairs = "".join(f'<div><dt>{text(name)}</dt><dd dir="auto">{text(value)}</dd></div>' for name, value in row.notes.items())
    return f'<dl class="notes">{pairs}</dl>'
