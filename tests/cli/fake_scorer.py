"""A scorer without a model: it reads the images as the real one does, and its numbers are a hash of what it was given.

As a program it is the command with that scorer: `python fake_scorer.py DELAY_S score --input ...`.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from editscore.cli.scorers import ScorerOptions
from editscore.data import load_sample
from editscore.types import EditSample, Identity, Image, InvalidInputError, PassScore, Score, ScorerStats, Spread, Status


class FakeScorer:
    """Finishes neighbours in swapped order. An instruction that holds a status's name gets that status."""

    def __init__(self, options: ScorerOptions, delay_s: float = 0.0) -> None:
        self.options = options
        self.delay_s = delay_s
        self.num_done = 0

    def identity(self) -> Identity:
        return Identity(model=hashlib.sha256(self.options.model.encode()).hexdigest(), adapter=self.options.adapter or "", prompts="p")

    def score_iter(self, samples: Iterable[EditSample], passes: int = 4) -> Iterator[tuple[int, Score]]:
        listed = list(samples)
        for first in range(0, len(listed), 2):
            for place in reversed(range(first, min(first + 2, len(listed)))):
                time.sleep(self.delay_s)
                self.num_done += 1
                yield place, self._score(listed[place], place, passes)

    def stats(self) -> ScorerStats:
        """As if every edit had one image, 1,000 prompt tokens, of which 400 were computed, and 25 generated ones."""
        n = self.num_done
        tokens = {"num_prompt_tokens": 1000 * n, "num_prefilled_tokens": 400 * n, "num_sampled_tokens": 25 * n}
        return ScorerStats(num_images=2 * n, num_encoded_images=n, num_finished_passes=8 * n, num_cached_passes=n, **tokens)

    def record_trace(self) -> None:
        self.events: list[dict[str, Any]] = []

    def trace(self) -> dict[str, Any]:
        return {"traceEvents": self.events}

    def _score(self, sample: EditSample, place: int, passes: int) -> Score:
        shared: dict[str, Any] = {"id": sample.id or str(place), "judge": "fake", "seed": self.options.seed, "identity": self.identity()}
        try:
            sample = load_sample(sample)
        except InvalidInputError as error:
            return Score(status=Status.INVALID_INPUT, message=str(error), **shared)
        for status in Status:
            if status is not Status.OK and status.value in sample.instruction:
                return Score(status=status, message=f"told to: {status.value}", num_passes=passes, num_failed_passes=passes, **shared)
        done = tuple(self._pass(sample, index) for index in range(passes))
        mean = sum(one.overall or 0.0 for one in done) / passes
        means = dict.fromkeys(("overall", "prompt_following", "consistency", "naturalness", "artifacts", "sc", "pq"), mean)
        return Score(status=Status.OK, **means, spread=Spread(overall=0.5), passes=done, num_passes=passes, **shared)

    def _pass(self, sample: EditSample, index: int) -> PassScore:
        assert isinstance(sample.source, Image) and isinstance(sample.edited, Image)
        content = f"{sample.source.digest}{sample.edited.digest}{sample.instruction}{self.options.seed}:{index}"
        raw = float(hashlib.sha256(content.encode()).digest()[0] % 26)
        reason = "plain \x1b[31m <b>reason</b> [red]"
        pair = (raw, raw)
        return PassScore(index=index, status=Status.OK, sc_raw=pair, pq_raw=pair, sc_reasoning=reason, overall=raw / 2.5)

    def __enter__(self) -> FakeScorer:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def write_rows(folder: Path, rows: list[Any]) -> None:
    """`pairs.jsonl` of these rows as JSON lines; bytes stand as they are."""
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    (folder / "pairs.jsonl").write_bytes(b"\n".join(lines) + b"\n")


if __name__ == "__main__":
    import editscore.cli.score
    from editscore.cli import main

    delay = float(sys.argv[1])
    editscore.cli.score.open_scorer = lambda options: FakeScorer(options, delay)  # type: ignore[assignment]
    assert "torch" not in sys.modules
    sys.exit(main(sys.argv[2:]))
