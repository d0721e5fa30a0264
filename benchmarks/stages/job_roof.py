"""The arithmetic limit of a job: the matrix products that cannot be avoided, over the rate that this machine multiplies matrices with.

Counted are two operations per weight and row: every generated token through the language model and the output head, every distinct
prefix of the prompts through the language model once, every distinct picture through the vision tower once. Attention is left out.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F

from benchmarks.stages.job_checkpoint import Shape
from editscore.models.vlm import VisionLanguageModel
from editscore.types import Request

NUM_ROWS, ROUNDS = (192, 1024), 5


def count_distinct(sequences: Iterable[Sequence[object]]) -> int:
    """Nodes of the tree of all prefixes: tokens that no sharing can spare."""
    root: dict[object, dict] = {}  # type: ignore[type-arg]
    count = 0
    for sequence in sequences:
        node = root
        for item in sequence:
            if item not in node:
                node[item] = {}
                count += 1
            node = node[item]
    return count


def flops(model: VisionLanguageModel, shape: Shape, requests: Sequence[Request], num_tokens: int) -> dict[str, float]:
    """Operations by phase; `num_tokens` is the number of generated tokens of one pass."""
    layer = shape.hidden * (2 * shape.hidden + 2 * shape.hidden * shape.kv_heads // shape.heads + 3 * shape.intermediate)
    language, head = shape.layers * layer, shape.vocabulary * shape.hidden
    passes = sum(request.num_passes for request in requests)
    pictures = {image.digest: image for request in requests for image in request.images}
    patches = sum(rows * columns for rows, columns in map(model.pixel_rule.grid, pictures.values()))
    block = shape.vision_hidden * (4 * shape.vision_hidden + 3 * shape.vision_intermediate)
    merger = 4 * shape.vision_hidden * (4 * shape.vision_hidden + shape.hidden) / 4
    patch = 3 * 2 * 14 * 14 * shape.vision_hidden
    return {
        "decode": 2.0 * passes * ((num_tokens - 1) * language + num_tokens * head),
        "prefill": 2.0 * count_distinct(_named(model, request) for request in requests) * language,
        "vision": 2.0 * patches * (shape.vision_depth * block + merger + patch),
    }


def _named(model: VisionLanguageModel, request: Request) -> list[object]:
    """A prompt's tokens, those of pictures by the picture and the place in it."""
    prompt = model.render(request.messages, request.images)
    names: list[object] = prompt.tokens.tolist()
    for (start, count), image in zip(prompt.image_spans, request.images, strict=True):
        names[start : start + count] = [(image.digest, place) for place in range(count)]
    return names


def gemm_rates(shape: Shape) -> tuple[float, float]:
    """The best rates of bf16 products with the language model's own layers: operations per second of the clock and of the processor."""
    best = [0.0, 0.0]
    for rows in NUM_ROWS:
        for outputs, inputs in ((shape.intermediate, shape.hidden), (shape.hidden, shape.intermediate)):
            x, weight = torch.randn(rows, inputs).bfloat16(), torch.randn(outputs, inputs).bfloat16()
            F.linear(x, weight)
            work = 2 * rows * inputs * outputs
            calls = max(1, int(1e11 / work))
            for _ in range(ROUNDS):
                clock, cpu = time.perf_counter(), time.process_time()
                for _ in range(calls):
                    F.linear(x, weight)
                spent = time.perf_counter() - clock, time.process_time() - cpu
                best = [max(rate, calls * work / seconds) for rate, seconds in zip(best, spent, strict=True)]
    return best[0], best[1]
