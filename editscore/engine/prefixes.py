"""Which pages already hold the beginning of a prompt: a chain of hashes, one link per full page.

A link is the hash of the link before it and of all that decides a page's keys and values: its tokens, their positions and the images
they stand for. Two prompts that begin alike have the same links, so the second one takes the pages of the first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from editscore_kernels.kv import PAGE_TOKENS

from editscore.types import Image

Int32s = npt.NDArray[np.int32]


def chain(
    tokens: npt.NDArray[np.int64],
    positions: npt.NDArray[np.int64],
    image_spans: Sequence[tuple[int, int]],
    images: Sequence[Image],
) -> tuple[bytes, ...]:
    """The links of the full pages of a prompt: tokens [T], positions [3, T], spans (first token, number of tokens) of its images."""
    links: list[bytes] = []
    previous = b""
    for first in range(0, len(tokens) - PAGE_TOKENS + 1, PAGE_TOKENS):
        last = first + PAGE_TOKENS
        digest = hashlib.blake2b(previous, digest_size=16)
        digest.update(tokens[first:last].tobytes())
        digest.update(np.ascontiguousarray(positions[:, first:last]).tobytes())
        for (start, length), image in zip(image_spans, images, strict=True):
            if start < last and first < start + length:
                digest.update(f"{image.digest} {start - first} {length}".encode())
        previous = digest.digest()
        links.append(previous)
    return tuple(links)


class PrefixIndex:
    """Pages by link, for as long as somebody uses them."""

    def __init__(self) -> None:
        self._pages: dict[bytes, int] = {}
        self._links: dict[int, bytes] = {}

    def match(self, links: Sequence[bytes]) -> Int32s:
        """The pages of the longest known beginning of `links`."""
        pages = []
        for link in links:
            if link not in self._pages:
                break
            pages.append(self._pages[link])
        return np.asarray(pages, np.int32)

    def publish(self, links: Sequence[bytes], pages: Int32s) -> None:
        """These pages hold, or will hold after the next call of the model, what `links` name. A known link keeps its page."""
        for link, page in zip(links, pages.tolist(), strict=True):
            if link not in self._pages:
                self._pages[link] = page
                self._links[page] = link

    def forget(self, pages: Int32s) -> None:
        """These pages are free."""
        for page in pages.tolist():
            link = self._links.pop(page, None)
            if link is not None:
                del self._pages[link]
