"""What a judge is: policy in plain Python, which asks with requests and reads completions."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol, runtime_checkable

from editscore.types import Completion, EditSample, Request, Score


@runtime_checkable
class Judge(Protocol):
    """Turns one edit into a score by asking a model through requests.

    `name` is what `--judge` takes. `prompts_digest` is the SHA-256 (hex) of everything on the judge's side that decides a
    score: prompts, shape of the answer, sampling, reading, aggregation. It is part of a score's identity.

    A judge may also have `pixels`, a mapping with `min_pixels` and `max_pixels`: the limits of an image's area that its prompts
    were made with. They hold where the checkpoint's `editscore.json` sets no pixels of its own.
    """

    @property
    def name(self) -> str: ...

    @property
    def prompts_digest(self) -> str: ...

    def run(self, sample: EditSample, *, num_passes: int, seed: int) -> Generator[list[Request], list[Completion], Score]:
        """Judge one sample, both of whose images are `Image` records.

        Yields a non-empty list of requests and is sent their completions, request by request and pass by pass in that order.
        Returns the score; the scorer fills in `id` and the engine's part of `identity`.
        """
        ...
