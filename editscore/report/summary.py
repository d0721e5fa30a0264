"""Figures over all rows: counts, means, a histogram, a table by task."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict

from editscore.report.cards import number, text
from editscore.report.rows import DIMENSIONS, ReportRow
from editscore.types import Status

_BINS = 20


class Summary:
    """Collects rows one at a time; failed samples are counted and stay out of every mean."""

    def __init__(self) -> None:
        self.num_rows = 0
        self.num_warned = 0
        self.has_truth = False
        self.statuses: Counter[Status] = Counter()
        self.tasks: Counter[str] = Counter()
        self._spreads: list[float] = []
        self._values: defaultdict[tuple[str, str], list[float]] = defaultdict(list)  # (task, field) -> values of good samples

    def add(self, row: ReportRow) -> None:
        """Count one row."""
        score = row.score
        self.num_rows += 1
        self.num_warned += bool(score.warnings)
        self.has_truth = self.has_truth or bool(row.truth)
        self.statuses[score.status] += 1
        self.tasks[row.task] += 1
        if score.spread.overall is not None:
            self._spreads.append(score.spread.overall)
        for name in ("overall", *DIMENSIONS):
            value = getattr(score, name)
            if value is not None:
                self._values[row.task, name].append(value)

    @property
    def num_failed(self) -> int:
        """Samples whose status is not ok."""
        return self.num_rows - self.statuses[Status.OK]

    @property
    def median_spread(self) -> float | None:
        """Median over samples of the standard deviation over passes."""
        return statistics.median(self._spreads) if self._spreads else None

    def values(self, name: str) -> list[float]:
        """The values of one field over all good samples."""
        return [value for (_, field), values in self._values.items() if field == name for value in values]

    def mean(self, name: str, task: str | None = None) -> float | None:
        """Mean of one field over the good samples (of one task); None without any."""
        values = self.values(name) if task is None else self._values[task, name]
        return statistics.fmean(values) if values else None

    def histogram(self) -> str:
        """The distribution of `overall` in steps of half a point, as inline SVG."""
        counts = Counter(min(int(value * _BINS / 10), _BINS - 1) for value in self.values("overall"))
        if not counts:
            return ""
        top = max(counts.values())
        bars = "".join(
            f'<rect x="{place * 12 + 1}" y="{60 - 56 * counts[place] / top:.2f}" width="10" height="{56 * counts[place] / top:.2f}" rx="2">'
            f"<title>{place / 2:g} to {(place + 1) / 2:g}: {counts[place]}</title></rect>"
            for place in range(_BINS)
            if counts[place]
        )
        ticks = "".join(f'<text x="{tick * 24}" y="74" text-anchor="{_anchor(tick)}">{tick}</text>' for tick in (0, 5, 10))
        label = f"Histogram of overall, {sum(counts.values())} samples"
        return (
            f'<svg class="histogram" viewBox="0 0 240 78" role="img" aria-label="{label}">'
            f'<line x1="0" x2="240" y1="60.5" y2="60.5"></line>{bars}{ticks}</svg>'
        )

    def task_table(self) -> str:
        """Means by task, worst first; empty when there are fewer than two tasks."""
        if len(self.tasks) < 2:
            return ""
        names = ("overall", *DIMENSIONS)
        head = "".join(f'<th scope="col">{label}</th>' for label in ("Task", "Samples", "Overall", *DIMENSIONS.values()))
        order = sorted(self.tasks, key=lambda task: (self.mean("overall", task) is None, self.mean("overall", task) or 0.0, task))
        lines = "".join(
            f'<tr><th scope="row">{text(task or "(none)")}</th><td>{self.tasks[task]}</td>'
            + "".join(f"<td>{_cell(self.mean(name, task))}</td>" for name in names)
            + "</tr>"
            for task in order
        )
        return (
            f'<details class="by-task"><summary>Means of {len(self.tasks)} tasks, lowest first</summary>'
            f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div></details>'
        )


def _cell(value: float | None) -> str:
    shown = number(value)
    return shown if value is None else f'<span class="cell" style="--v:{value:.2f}">{shown}</span>'


def _anchor(tick: int) -> str:
    return {0: "start", 10: "end"}.get(tick, "middle")
