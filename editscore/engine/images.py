"""Images on their way to the vision tower: prepared ahead in threads, encoded once, their features kept for later requests."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from editscore.engine.config import EngineConfig
from editscore.engine.stats import StatsRecorder
from editscore.models.vlm import ImageFeatures, PreparedImage, VisionLanguageModel
from editscore.types import Image

FLOAT_BYTES = 4


class _Ahead(NamedTuple):
    """An image that a thread prepares, and the bytes of its patches."""

    future: Future[PreparedImage]
    num_bytes: int


class ImageEncoder:
    """Features of images by digest. What is not known yet runs through the vision tower in ragged batches."""

    def __init__(self, model: VisionLanguageModel, config: EngineConfig, stats: StatsRecorder) -> None:
        self._model, self._config, self._stats = model, config, stats
        self._features: OrderedDict[str, ImageFeatures] = OrderedDict()
        self._num_bytes = 0
        self._threads: ThreadPoolExecutor | None = None
        self._prepared: dict[str, _Ahead] = {}
        self._patch_bytes = model.sizes.patch_values * FLOAT_BYTES  # once: `sizes` walks through all weights

    def prepare_ahead(self, images: Iterable[Image]) -> None:
        """Starts resizing and cutting images that are wanted soon, beside the model's work, within `image_cache_mb` of patches."""
        room = self._config.image_cache_mb * 2**20 - sum(ahead.num_bytes for ahead in self._prepared.values())
        for image in images:
            if image.digest not in self._features and image.digest not in self._prepared:
                rows, columns = self._model.pixel_rule.grid(image)
                num_bytes = rows * columns * self._patch_bytes
                if num_bytes > room:
                    return
                room -= num_bytes
                self._threads = self._threads or ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="editscore-images")
                self._prepared[image.digest] = _Ahead(self._threads.submit(self._model.pixel_rule.prepare, image), num_bytes)

    def has_prepared(self, images: Iterable[Image]) -> bool:
        """Whether one of these was prepared ahead and not taken yet."""
        return any(image.digest in self._prepared for image in images)

    def keep_prepared(self, images: Iterable[Image]) -> None:
        """Gives back the memory of what was prepared ahead of other images than these."""
        for digest in self._prepared.keys() - {image.digest for image in images}:
            self._prepared.pop(digest).future.cancel()

    def forget(self) -> None:
        """Ends the threads and gives the memory of what was prepared and of the features back."""
        threads, self._threads = self._threads, None
        self._prepared.clear()
        self._features.clear()
        self._num_bytes = 0
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)

    def recount(self) -> None:
        """Counts the bytes of the features anew, after an interrupt between a change and its count."""
        self._num_bytes = sum(features.num_bytes for features in self._features.values())

    def encode(self, images: dict[str, Image]) -> dict[str, ImageFeatures]:
        """Features of images by digest; each image is encoded once while its features fit into the cache."""
        found = {digest: self._features[digest] for digest in images if digest in self._features}
        for digest in found:
            self._features.move_to_end(digest)
        missing = {digest: image for digest, image in images.items() if digest not in found}
        for batch in self._batches(missing):
            with self._stats.phase("prepare_images"):
                prepared = [self._take(images[digest]) for digest in batch]
            with self._stats.phase("encode_images"):
                found.update(zip(batch, self._model.encode_images(prepared), strict=True))
            self._stats.count(num_encoded_images=len(batch))
        for digest in missing:
            self._features[digest] = found[digest]
            self._num_bytes += found[digest].num_bytes
        while self._num_bytes > self._config.image_cache_mb * 2**20:
            self._num_bytes -= self._features.popitem(last=False)[1].num_bytes
        return found

    def _take(self, image: Image) -> PreparedImage:
        ahead = self._prepared.pop(image.digest, None)
        return self._model.pixel_rule.prepare(image) if ahead is None else ahead.future.result()

    def _batches(self, images: dict[str, Image]) -> Iterator[list[str]]:
        batch: list[str] = []
        num_patches = 0
        for digest, image in images.items():
            rows, columns = self._model.pixel_rule.grid(image)
            if batch and num_patches + rows * columns > self._config.image_patches:
                yield batch
                batch, num_patches = [], 0
            batch.append(digest)
            num_patches += rows * columns
        if batch:
            yield batch
