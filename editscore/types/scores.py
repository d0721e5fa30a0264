"""What comes out: the verdict on one edit, its passes, and the identity of what made it."""

from __future__ import annotations

import enum

import msgspec


class Status(enum.StrEnum):
    """What became of a sample or of a pass. Only `OK` carries numbers."""

    OK = "ok"
    PARSE_FAILED = "parse_failed"
    REFUSED = "refused"
    TRUNCATED = "truncated"
    INVALID_INPUT = "invalid_input"
    ERROR = "error"


class PassScore(msgspec.Struct, frozen=True):
    """One pass of the self-ensemble. `sc_raw` and `pq_raw` are pairs on 0..score_range, None where that side failed.

    `sc_raw` = (prompt following, consistency), `pq_raw` = (naturalness, artifacts: 0 full of them, score_range none).
    `overall` (0..10) is sqrt(min(sc) * min(pq)), None unless both sides are good.
    """

    index: int
    status: Status
    sc_raw: tuple[float, float] | None = None
    pq_raw: tuple[float, float] | None = None
    sc_reasoning: str = ""
    pq_reasoning: str = ""
    overall: float | None = None
    message: str = ""


class Spread(msgspec.Struct, frozen=True):
    """Standard deviation (population, 0..10) over the good passes of each field; None without a good pass."""

    overall: float | None = None
    prompt_following: float | None = None
    consistency: float | None = None
    naturalness: float | None = None
    artifacts: float | None = None
    sc: float | None = None
    pq: float | None = None


class Identity(msgspec.Struct, frozen=True):
    """SHA-256 hashes (hex) of all that decides a score; empty where there is none (no adapter)."""

    model: str = ""
    adapter: str = ""
    prompts: str = ""
    preprocessing: str = ""
    numerics: str = ""


class Score(msgspec.Struct, frozen=True):
    """The verdict on one sample; docs/score.md is its contract. All means are on 0..10, higher is better, None when absent."""

    id: str
    status: Status
    message: str = ""
    overall: float | None = None
    prompt_following: float | None = None
    consistency: float | None = None
    naturalness: float | None = None
    artifacts: float | None = None
    sc: float | None = None
    pq: float | None = None
    spread: Spread = Spread()
    passes: tuple[PassScore, ...] = ()
    num_passes: int = 0
    num_failed_passes: int = 0
    warnings: tuple[str, ...] = ()
    aggregation: str = "average_last"
    judge: str = ""
    identity: Identity = Identity()
    seed: int = 42
