"""What the engine holds of a request while it runs: the job, its prompt in the KV store, and its passes in flight."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from torch import Tensor

from editscore.engine.grammar import AnswerGrammar, AnswerState
from editscore.engine.prefixes import chain
from editscore.models.vlm import Prompt
from editscore.types import Image, Request

Int32s = npt.NDArray[np.int32]


@dataclass(eq=False)
class Leaf:
    """A distinct prompt: its tokens and positions (the leading forced tokens of the answer included) and what was computed.

    `num_prompt_tokens` leaves the forced tokens out. `logits` [vocabulary] belong to the last token, `hidden` [H] to the last
    token of the prompt itself. `slot` is its row in the engine's leaf table, -1 while it is not in the KV store. `num_users`
    counts open requests, `num_rows` passes in flight; `must_clear` says that the keys and values hold numbers that are not finite.
    `links` name its full pages (`prefixes.chain`); the first `num_shared` tokens lie in pages that another prompt brought.
    """

    key: bytes
    tokens: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    next_position: int
    num_prompt_tokens: int
    image_spans: tuple[tuple[int, int], ...]
    images: tuple[Image, ...]
    links: tuple[bytes, ...]
    num_shared: int = 0
    num_users: int = 0
    num_rows: int = 0
    must_clear: bool = False
    pages: Int32s = field(default_factory=lambda: np.empty(0, np.int32))
    slot: int = -1
    logits: Tensor | None = None
    hidden: Tensor | None = None

    @staticmethod
    def of(prompt: Prompt, leading: tuple[int, ...], images: tuple[Image, ...]) -> Leaf:
        """The leaf of a rendered prompt followed by `leading` forced tokens."""
        tokens = np.concatenate([prompt.tokens, np.asarray(leading, np.int64)])
        after = np.broadcast_to(prompt.next_position + np.arange(len(leading)), (3, len(leading)))
        positions = np.concatenate([prompt.positions, after], axis=1)
        key = b"".join([tokens.tobytes(), len(leading).to_bytes(4, "little"), *(bytes.fromhex(image.digest) for image in images)])
        links = chain(tokens, positions, prompt.image_spans, images)
        return Leaf(key, tokens, positions, prompt.next_position + len(leading), len(prompt.tokens), prompt.image_spans, images, links)

    def leave_store(self) -> None:
        """Forgets pages and results; the prompt is computed again when it is next needed."""
        self.slot, self.num_shared, self.pages, self.logits, self.hidden = -1, 0, np.empty(0, np.int32), None, None


@dataclass(eq=False)
class Job:
    """A request that was added: its passes that wait to start, and those that are still to be delivered (`open`)."""

    id: int
    request: Request
    grammar: AnswerGrammar
    leaf: Leaf
    waiting: list[int]
    open: set[int]
    heads: dict[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(eq=False)
class Row:
    """A pass in flight. `num_fed` of its answer's tokens are in the KV store; `slot` is its row in the engine's tables.

    `logprobs` holds the log-probabilities of drawn tokens by their place in the answer, where the request asks for them.
    """

    job: Job
    pass_index: int
    answer: AnswerState
    key: int
    slot: int
    num_fed: int
    num_sampled: int = 0
    logprobs: dict[int, float] = field(default_factory=dict)
