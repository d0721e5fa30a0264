"""Token sequences of prompts and answers, and their packing into rows.

Legend: N tokens of a sequence, R rows, L row length. A training sequence has a prompt, the answer with its reasoning, and a
second branch that continues the prompt as if the reasoning were empty; the branches do not see each other (`segment`), so the
score without reasoning costs three tokens more.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from editscore.tuning.nano.config import GRID, TOKENS_PER_IMAGE
from editscore.tuning.nano.vocabulary import (
    ASSISTANT,
    CLOSE,
    COMMA,
    END,
    IMAGE_PAD,
    MIDDLE,
    OPEN,
    QUALITY,
    START,
    VISION_END,
    VISION_START,
    token_ids,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
NO_LABEL = -1
PROMPT, REASONED, DIRECT = 0, 1, 2
UNKNOWN_REST = "; rest kept"  # stands after a phrase whose second half is not known


class Sequence(NamedTuple):
    """ids [N], positions [3, N], segment [N], labels [N] (the token predicted from here, -1 none), weights [N].

    `prompt_length` counts the prompt without the forced opening of the answer.
    """

    ids: Ints
    positions: Ints
    segment: Ints
    labels: Ints
    weights: Floats
    prompt_length: int


class Weights(NamedTuple):
    """Loss weights of reasoning tokens and of score tokens."""

    reasoning: float
    score: float


def rope_positions(ids: Ints, image_pad: int) -> tuple[Ints, int]:
    """M-RoPE positions [3, N] of a prompt whose images are GRID x GRID tokens, and the next position.

    Text counts up in all three axes; an image holds time still and counts rows and columns; the text after it goes on at
    the image's start + GRID (Qwen2-VL, arXiv 2409.12191, section 2.1).
    """
    positions = np.zeros((3, len(ids)), np.int64)
    rows, columns = np.divmod(np.arange(TOKENS_PER_IMAGE), GRID)
    place, index = 0, 0
    while index < len(ids):
        if ids[index] == image_pad:
            block = slice(index, index + TOKENS_PER_IMAGE)
            positions[:, block] = np.stack([np.zeros_like(rows), rows, columns]) + place
            place, index = place + GRID, index + TOKENS_PER_IMAGE
        else:
            positions[:, index] = place
            place, index = place + 1, index + 1
    return positions, place


class Encoder:
    """Turns texts and scores into sequences, token for token what the engine makes of the same prompt."""

    def __init__(self, tokenizer: Tokenizer, weights: Weights) -> None:
        self.tokenizer = tokenizer
        self.weights = weights
        ids = token_ids(tokenizer)
        self.image_pad = ids[IMAGE_PAD]
        self.end, self.open, self.middle, self.comma, self.close = (ids[t] for t in (END, OPEN, MIDDLE, COMMA, CLOSE))
        self.first_score = ids["0"]
        self._image = [ids[VISION_START]] + [self.image_pad] * TOKENS_PER_IMAGE + [ids[VISION_END]]
        self._start = [ids[START]]
        self._assistant = [ids[END], ids[ASSISTANT]]

    def text(self, text: str) -> list[int]:
        """Token ids of a plain text."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def prompt(self, text: str, num_images: int) -> Ints:
        """The chat template's tokens: one user message of a text and images, ready for the answer."""
        return np.array(self._start + self.text(text) + self._image * num_images + self._assistant, np.int64)

    def sc_prompt(self, instruction: str) -> Ints:
        """Source and edited picture under the instruction."""
        return self.prompt(instruction, 2)

    def pq_prompt(self) -> Ints:
        """The edited picture alone."""
        return self.prompt(QUALITY, 1)

    def unanswered(self, prompt: Ints) -> Sequence:
        """A prompt without labels, for heads that read its last state."""
        positions, _ = rope_positions(prompt, self.image_pad)
        zeros = np.zeros(len(prompt), np.int64)
        return Sequence(prompt, positions, zeros, zeros + NO_LABEL, zeros.astype(np.float32), len(prompt))

    def answered(self, prompt: Ints, reasoning: str, scores: tuple[int, int]) -> Sequence:
        """A prompt with its answer and the branch without reasoning."""
        opened = np.append(prompt, self.open)
        positions, place = rope_positions(opened, self.image_pad)
        words = self.text(reasoning)
        first, second = (self.first_score + score for score in scores)
        answer = [*words, self.middle, first, self.comma, second, self.close, self.end]
        direct = [self.middle, first, self.comma]
        num_prompt, num_answer = len(opened), len(answer)
        tail = np.concatenate([np.arange(num_answer), np.arange(len(direct))]) + place
        # The forced tokens (comma, close) are predicted too: without a grammar the model then still ends its answers.
        labels = [NO_LABEL] * (num_prompt - 1) + answer + [NO_LABEL] + [first, NO_LABEL, second]
        weights = np.full(len(labels), self.weights.reasoning, np.float32)
        at_scores = num_prompt + len(words)
        weights[[at_scores, at_scores + 2]] = self.weights.score
        weights[-3:] = self.weights.score
        weights[np.array(labels) == NO_LABEL] = 0.0
        return Sequence(
            np.concatenate([opened, answer, direct]),
            np.concatenate([positions, np.tile(tail, (3, 1))], 1),
            np.repeat(np.array([PROMPT, REASONED, DIRECT]), [num_prompt, num_answer, len(direct)]),
            np.array(labels, np.int64),
            weights,
            len(prompt),
        )

    def unfollowed(self, prompt: Ints, phrase: str) -> Sequence:
        """An answer of which only the phrase and a prompt following of 0 are known; the rest has no label."""
        sequence = self.answered(prompt, phrase + UNKNOWN_REST, (0, 0))
        start, words = len(prompt), len(self.text(phrase))
        first = start + len(self.text(phrase + UNKNOWN_REST)) + 1
        known = np.zeros(len(sequence.ids), bool)
        known[start : start + words] = known[first] = known[-3] = True
        labels, weights = np.where(known, sequence.labels, NO_LABEL), np.where(known, sequence.weights, np.float32(0))
        return sequence._replace(labels=labels, weights=weights)


class Rows(NamedTuple):
    """Packed sequences: ids, segment, document, labels, weights, feature [R, L], positions [3, R, L], starts [sequences].

    `feature` is the row of the image features that stands at a token, -1 for words. `starts` is where a sequence begins in
    the flattened rows.
    """

    ids: Ints
    positions: Ints
    segment: Ints
    document: Ints
    labels: Ints
    weights: Floats
    feature: Ints
    starts: Ints


def place_sequences(lengths: list[int], row_length: int) -> list[list[int]]:
    """First fit, longest first: the sequences of each row."""
    rows: list[list[int]] = []
    used: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        row = next((r for r, taken in enumerate(used) if taken + lengths[index] <= row_length), len(rows))
        if row == len(rows):
            rows.append([])
            used.append(0)
        rows[row].append(index)
        used[row] += lengths[index]
    return rows


def pack(sequences: list[Sequence], images: list[tuple[int, ...]], image_pad: int, row_length: int) -> Rows:
    """Pack sequences into rows of at least `row_length`; `images[i]` are the image numbers of sequence i, in order."""
    lengths = [len(s.ids) for s in sequences]
    length = max(row_length, -(-max(lengths) // 16) * 16)
    layout = place_sequences(lengths, length)
    shape = (len(layout), length)
    ids, segment, document, labels, feature = (np.full(shape, fill, np.int64) for fill in (0, PROMPT, -1, NO_LABEL, -1))
    positions, weights = np.zeros((3, *shape), np.int64), np.zeros(shape, np.float32)
    starts = np.zeros(len(sequences), np.int64)
    for row, members in enumerate(layout):
        offset = 0
        for index in members:
            sequence = sequences[index]
            span = slice(offset, offset + lengths[index])
            ids[row, span], segment[row, span], document[row, span] = sequence.ids, sequence.segment, index
            labels[row, span], weights[row, span], positions[:, row, span] = sequence.labels, sequence.weights, sequence.positions
            at_images = offset + np.flatnonzero(sequence.ids == image_pad)
            cells = np.arange(TOKENS_PER_IMAGE)
            feature[row, at_images] = np.concatenate([number * TOKENS_PER_IMAGE + cells for number in images[index]])
            starts[index] = row * length + offset
            offset = span.stop
    return Rows(ids, positions, segment, document, labels, weights, feature, starts)
