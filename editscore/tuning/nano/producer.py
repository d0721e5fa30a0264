"""Batches drawn in a second process, so that pictures cost the training nothing while there is a second core."""

from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer

from editscore.tuning.nano.config import NanoConfig
from editscore.tuning.nano.examples import Batch, BatchSource, ImageBatch
from editscore.tuning.nano.photographs import training_photos
from editscore.tuning.nano.sequences import Encoder, Weights

DEPTH = 6  # batches ahead
PATIENCE_S = 5.0


def make_source(config: NanoConfig, tokenizer_json: str) -> BatchSource:
    """The recipe's batches, from what a process can be sent."""
    tokenizer = Tokenizer.from_str(tokenizer_json)
    return BatchSource(config, Encoder(tokenizer, Weights(config.reasoning_weight, config.score_weight)), training_photos())


def _produce(config_json: str, tokenizer_json: str, first: int, images_only: bool, batches: Any, stop: Any) -> None:
    source = make_source(NanoConfig.model_validate_json(config_json), tokenizer_json)
    number = first
    parent = multiprocessing.parent_process()

    def is_wanted() -> bool:
        return not stop.is_set() and (parent is None or parent.is_alive())

    while is_wanted():
        batch = source.images(number) if images_only else source.batch(number)
        while is_wanted():
            try:
                batches.put((number, batch), timeout=PATIENCE_S)
                break
            except queue.Full:
                continue
        number += 1
    batches.cancel_join_thread()


class Producer:
    """Batches `first`, `first + 1`, ... in order, drawn ahead by another process. A context manager."""

    def __init__(self, config: NanoConfig, tokenizer_json: str, first: int, *, images_only: bool = False) -> None:
        context = multiprocessing.get_context("spawn")
        self._queue = context.Queue(maxsize=DEPTH)
        self._stop = context.Event()
        args = (config.model_dump_json(), tokenizer_json, first, images_only, self._queue, self._stop)
        self._process = context.Process(target=_produce, args=args, daemon=True)

    def __enter__(self) -> Iterator[Batch | ImageBatch]:
        self._process.start()
        return self._batches()

    def _batches(self) -> Iterator[Batch | ImageBatch]:
        while True:
            try:
                _, batch = self._queue.get(timeout=PATIENCE_S)
            except queue.Empty:
                if not self._process.is_alive():
                    raise RuntimeError(f"the process that draws batches ended with code {self._process.exitcode}") from None
                continue
            yield batch

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._process.join(timeout=PATIENCE_S)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()
