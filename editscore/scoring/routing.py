"""Which engine gets a request: the one that has its images, unless another has far less to do.

All candidates of a source should meet in one engine, where the source is encoded and read once for all of them. A hash of the source
(rendezvous) would need no memory, but balances only many sources: of two sources on two engines both land on one every other time.
So a source goes to the engine with the least to do when it is first seen and stays while anything with it is under way. Hundreds
of candidates of one source would then leave the other engines idle to save the reading of one image; hence a limit: once the
source's engine is MOVE_PASSES ahead of another, reading the source there as well costs less than waiting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

# 32 edits with two questions and four passes: a full batch, so an engine has no use for more while another has nothing.
MOVE_PASSES = 256


@dataclass(eq=False)
class Place:
    """What is under way at one engine: passes, and requests by image."""

    num_passes: int = 0
    images: Counter[str] = field(default_factory=Counter)

    def admit(self, images: Sequence[str], num_passes: int) -> list[str]:
        """Count a request in; the images that were not here before."""
        fresh = [image for image in dict.fromkeys(images) if image not in self.images]
        self.images.update(images)
        self.num_passes += num_passes
        return fresh

    def release(self, images: Sequence[str]) -> list[str]:
        """Count a request out, but not its passes, which end one by one; the images that nothing here shows any more."""
        self.images.subtract(images)
        gone = [image for image in dict.fromkeys(images) if self.images[image] <= 0]
        for image in gone:
            del self.images[image]
        return gone


_Place = TypeVar("_Place", bound=Place)


def choose(places: Iterable[_Place], images: Sequence[str]) -> _Place:
    """The place for a request. Its first image that is anywhere decides: the source, or for a question without one the edited image.

    A request whose images are all in one place moves only at twice the limit, so that both questions about a candidate stay together.
    """
    places = list(places)
    known = next((image for image in images if any(image in place.images for place in places)), None)
    if known is None:
        return min(places, key=lambda place: place.num_passes)
    is_whole = any(all(image in place.images for image in images) for place in places)
    limit = MOVE_PASSES * (2 if is_whole else 1)
    return min(places, key=lambda place: place.num_passes + (0 if known in place.images else limit))
