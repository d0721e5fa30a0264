"""Positions of M-RoPE (Qwen2-VL, arXiv 2409.12191 section 2.1): three coordinates per token, computed here and passed explicitly.

Text counts on in all three. An image at position p puts its merged token (row r, column c) at (p, p + r, p + c), and the text
after it goes on at p + max(rows, columns).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def mrope_positions(num_tokens: int, spans: Sequence[tuple[int, int, int]]) -> tuple[npt.NDArray[np.int64], int]:
    """Positions [3, num_tokens] and the position of the next text token.

    `spans` are the images in order: (index of the first token, rows, columns), rows and columns in merged tokens.
    """
    positions = np.empty((3, num_tokens), np.int64)
    start = position = 0
    for first, rows, columns in spans:
        positions[:, start:first] = np.arange(position, position + first - start)
        position += first - start
        start = first + rows * columns
        positions[0, first:start] = position
        positions[1, first:start] = position + np.repeat(np.arange(rows), columns)
        positions[2, first:start] = position + np.tile(np.arange(columns), rows)
        position += max(rows, columns)
    positions[:, start:] = np.arange(position, position + num_tokens - start)
    return positions, position + num_tokens - start
