"""The pointwise judge: two questions per edit, reasoning first, K passes, min and square root."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from typing import Any

import msgspec

from editscore.judges.aggregation import pass_overall, summarize
from editscore.judges.config import PointwiseConfig
from editscore.judges.domain import OUT_OF_DOMAIN, has_unknown_words, is_outside_by_head
from editscore.judges.prompts import edit_images
from editscore.judges.published import find_prompts
from editscore.judges.reading import FIRST, SECOND, Reading, read_completion
from editscore.types import Choice, Completion, EditSample, Identity, Literal, PassScore, Request, Score, Status, Text

# Changes when reading or aggregation changes what comes out of the same completions.
READING_VERSION = 1
# The JSON around the reasoning of a free answer.
_FREE_TOKENS = 24
_RETRIED = (Status.PARSE_FAILED, Status.REFUSED, Status.TRUNCATED)


class PointwiseJudge:
    """Scores one edit at a time on an absolute scale, as EditScore does (arXiv 2509.23909)."""

    name = "pointwise"

    def __init__(self, config: PointwiseConfig | None = None) -> None:
        self.config = config or PointwiseConfig()
        self._prompts = find_prompts(self.config.prompts)
        self._answer = _answer_of(self.config)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> PointwiseJudge:
        """The judge that a checkpoint's `editscore.json` describes. Raises InvalidInputError naming the key at fault."""
        return cls(PointwiseConfig.from_settings(settings))

    @property
    def pixels(self) -> Mapping[str, int]:
        """The limits of an image's area that the prompts were made with; empty leaves them to the checkpoint."""
        return self._prompts.pixels

    @cached_property
    def prompts_digest(self) -> str:
        """SHA-256 (hex) of the prompts and of the whole configuration."""
        content = [self.name, READING_VERSION, self._prompts.digest(self.config.score_range), self.config.model_dump(mode="json")]
        return hashlib.sha256(msgspec.json.encode(content)).hexdigest()

    def run(self, sample: EditSample, *, num_passes: int, seed: int) -> Generator[list[Request], list[Completion], Score]:
        """Ask both questions for all passes, then again for the passes that failed, and average what is good."""
        source, edited = edit_images(sample)
        requests = self._requests(sample, num_passes, seed)
        completions = yield requests
        first = completions[0]
        sides = [self._read(completions[side * num_passes : (side + 1) * num_passes]) for side in range(2)]
        for attempt in range(1, self.config.max_retries + 1):
            again = list(self._retries(requests, sides, retry_seed(seed, attempt)))
            if not again:
                break
            completions = yield [request for _, request in again]
            places = [(side, index) for side, r in again for index in range(r.first_pass, r.first_pass + r.num_passes)]
            for (side, index), reading in zip(places, self._read(completions), strict=True):
                sides[side][index] = reading
        passes = [self._pass(index, sc, pq) for index, (sc, pq) in enumerate(zip(*sides, strict=True))]
        warnings = []
        domain = self.config.domain
        if has_unknown_words(sample.instruction, domain) or is_outside_by_head(first, domain):
            warnings.append(OUT_OF_DOMAIN)
        if (source.width, source.height) != (edited.width, edited.height):
            warnings.append("size_differs")
        if any(reading.was_closed for side in sides for reading in side if reading.pair is not None):
            warnings.append("reasoning_closed")
        return self._score(sample, passes, warnings, seed)

    def _requests(self, sample: EditSample, num_passes: int, seed: int) -> list[Request]:
        shared: dict[str, Any] = {"num_passes": num_passes, "sampling": self.config.sampling.resolve(), "seed": seed}
        read = (self.config.domain.head,) if self.config.domain.head else ()
        return [
            Request(self._prompts.sc(sample, self.config.score_range), self._answer, read=read, **shared),
            Request(self._prompts.pq(sample, self.config.score_range), self._answer, **shared),
        ]

    def _read(self, completions: Sequence[Completion]) -> list[Reading]:
        return [read_completion(completion, self.config.score_range) for completion in completions]

    def _retries(self, requests: Sequence[Request], sides: Sequence[Sequence[Reading]], seed: int) -> Iterator[tuple[int, Request]]:
        """One request per side and run of neighbouring passes that failed in a way that another draw can mend."""
        if self.config.sampling.temperature == 0:
            return  # greedy: the same answer again
        for side, readings in enumerate(sides):
            failed = [index for index, reading in enumerate(readings) if reading.status in _RETRIED]
            for _, group in groupby(enumerate(failed), key=lambda item: item[1] - item[0]):
                run = [index for _, index in group]
                yield side, msgspec.structs.replace(requests[side], first_pass=run[0], num_passes=len(run), seed=seed)

    def _pass(self, index: int, sc: Reading, pq: Reading) -> PassScore:
        problems = [f"{name}: {side.message}" for name, side in (("SC", sc), ("PQ", pq)) if side.status is not Status.OK]
        is_good = sc.pair is not None and pq.pair is not None
        return PassScore(
            index=index,
            status=sc.status if sc.status is not Status.OK else pq.status,
            sc_raw=sc.pair,
            pq_raw=pq.pair,
            sc_reasoning=sc.reasoning,
            pq_reasoning=pq.reasoning,
            overall=pass_overall(sc.pair, pq.pair, self.config.score_range) if sc.pair and pq.pair else None,
            message="" if is_good else "; ".join(problems),
        )

    def _score(self, sample: EditSample, passes: Sequence[PassScore], warnings: Sequence[str], seed: int) -> Score:
        config = self.config
        summary = summarize(passes, score_range=config.score_range, aggregation=config.aggregation)
        return Score(
            id=sample.id,
            passes=tuple(passes),
            num_passes=len(passes),
            num_failed_passes=sum(p.status is not Status.OK for p in passes),
            warnings=tuple(warnings),
            aggregation=config.aggregation,
            judge=self.name,
            identity=Identity(prompts=self.prompts_digest),
            seed=seed,
            **vars(summary),
        )


def retry_seed(seed: int, attempt: int) -> int:
    """The seed (0..2^63) of a retry: another one for every attempt, the same whenever the same attempt is made."""
    return int.from_bytes(hashlib.sha256(f"{seed}:retry:{attempt}".encode()).digest()[:8], "little") >> 1


def _answer_of(config: PointwiseConfig) -> tuple[Literal | Text | Choice, ...]:
    if not config.constrained:
        return (Text(config.max_reasoning_tokens + _FREE_TOKENS),)
    grades = tuple(str(grade) for grade in range(config.score_range + 1))
    reasoning = Text(config.max_reasoning_tokens, config.on_limit)
    return (
        Literal('{"reasoning": "'),
        reasoning,
        Literal('", "score": ['),
        Choice(FIRST, grades),
        Literal(", "),
        Choice(SECOND, grades),
        Literal("]}"),
    )
