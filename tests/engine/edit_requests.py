"""Requests that the engine's tests share."""

from __future__ import annotations

import numpy as np

from editscore.types import Choice, Image, ImagePart, Literal, Message, Request, Sampling, Text, TextPart

DIGITS = tuple(map(str, range(26)))
SIZES = ((56, 56), (84, 56), (70, 140), (33, 47))


def noise(width: int, height: int, seed: int) -> Image:
    """An image of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image(width, height, pixels.tobytes())


def score_answer(max_tokens: int = 12, on_limit: str = "close") -> tuple[Literal | Text | Choice, ...]:
    """The answer of a pointwise judge."""
    return (
        Literal('{"reasoning": "'),
        Text(max_tokens, on_limit=on_limit),
        Literal('", "score": ['),
        Choice("first", DIGITS),
        Literal(", "),
        Choice("second", DIGITS),
        Literal("]}"),
    )


def edit_request(
    index: int,
    *,
    answer: tuple[Literal | Text | Choice, ...] | None = None,
    num_images: int = 2,
    num_passes: int = 1,
    sampling: Sampling | None = None,
    seed: int = 42,
    first_pass: int = 0,
) -> Request:
    """A request with its own text and images, of a length that differs from its neighbours'."""
    parts: list[TextPart | ImagePart] = [TextPart("make the car red" + " the" * (index % 7) + f" {index}")]
    for i in range(num_images):
        width, height = SIZES[(index + i) % len(SIZES)]
        parts.append(ImagePart(noise(width, height, 10 * index + i), label="" if i else "source: "))
    return Request(
        messages=(Message("system", (TextPart("score"),)), Message("user", tuple(parts))),
        answer=answer or score_answer(),
        num_passes=num_passes,
        first_pass=first_pass,
        sampling=sampling or Sampling(),
        seed=seed,
    )
