"""Is our engine's answer that of transformers? The same checkpoint, the same messages and images, once through each.

Each prompt runs through the engine alone, where its logits are recorded, and with all others together; then one whole forward of
transformers over prompt and answer gives the logits to compare with, and its greedy search the tokens. In float32 no logit may differ
by more than `LIMIT` and the tokens must be the same. In a lower precision transformers' own error is the yardstick: against
transformers in float32 we may be off by twice as much as transformers is in that precision on any of the prompts, plus `LIMIT`; tokens
may differ there.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from editscore.engine import Engine
from editscore.models.vlm import VisionLanguageModel, load_model, resolve
from editscore.scoring.engines import check_device
from editscore.scoring.peer import Peer, PeerSource
from editscore.types import Image, ImagePart, Message, Request, Sampling, Status, Text, TextPart

LIMIT = 1e-4
NUM_TOKENS = 16
# Images by (width, height): of sides that are no multiples of a patch, wide, high, small.
_PROMPTS: tuple[tuple[tuple[int, int], ...], ...] = ((), ((224, 168),), ((61, 150),), ((140, 140), (140, 140)), ((252, 90), (33, 47)))


@dataclass(frozen=True)
class Comparison:
    """One prompt. `difference` is the largest of any logit before any token of the answer; `problem` says what else is wrong."""

    prompt: str
    num_prompt_tokens: int = 0
    num_tokens: int = 0
    num_same_tokens: int = 0
    difference: float = float("nan")
    limit: float = LIMIT
    largest_logit: float = float("nan")
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Not for a difference that is no number."""
        return not self.problem and self.difference <= self.limit


@dataclass(frozen=True)
class ParityReport:
    """All prompts of one checkpoint; hashes as in a score's identity."""

    model: str
    adapter: str
    dtype: str
    device: str
    comparisons: tuple[Comparison, ...]

    @property
    def passed(self) -> bool:
        """Whether every prompt passed."""
        return bool(self.comparisons) and all(comparison.passed for comparison in self.comparisons)

    def content(self) -> dict[str, Any]:
        """The report as plain values; a number that is none is None."""
        rows = [{**asdict(comparison), "passed": comparison.passed} for comparison in self.comparisons]
        rows = [{name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in row.items()} for row in rows]
        return {**asdict(self), "comparisons": rows, "passed": self.passed}


@dataclass(frozen=True)
class _Answer:
    """What the engine made of one prompt: tokens, the logits before each [n, V], and what went wrong."""

    prompt_tokens: tuple[int, ...]
    tokens: tuple[int, ...]
    logits: Tensor
    problem: str = ""


class _Recorder(VisionLanguageModel):
    """A model that keeps the logits it gave, row by row."""

    def __init__(self, model: VisionLanguageModel) -> None:
        super().__init__(model.network, model.chat, model.pixel_rule, model.identity, model.eos_token_ids, model.heads)
        self.seen: list[Tensor] = []

    def logits(self, hidden: Tensor, *, buffer: Tensor | None = None) -> Tensor:
        found = super().logits(hidden, buffer=buffer)
        self.seen.extend(found.float().cpu())
        return found


def check_parity(
    model: str,
    *,
    adapter: str | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    say: Callable[[str], None] = lambda _: None,
) -> ParityReport:
    """Compare on a few prompts; `say` hears what is being done. The two never lie in memory together.

    Raises InvalidInputError naming model, adapter or device.
    """
    check_device(device)
    requests = parity_requests()
    say("loading the model for the engine")
    ours = load_model(model, adapter=adapter, device=device, dtype=dtype)
    own = resolve(model)
    tuned = resolve(adapter) if adapter is not None else own if own != ours.chat.folder else None
    source, precision, identity = PeerSource.of(ours, tuned), ours.dtype, ours.identity
    say("running the engine")
    answers = _run_engine(ours, requests)
    del ours
    gc.collect()
    say("running transformers in float32")
    gold = _run_peer(source, torch.float32, requests, answers)
    if precision is torch.float32:
        theirs = gold
    else:
        gc.collect()
        say(f"running transformers in {dtype}")
        theirs = _run_peer(source, precision, requests, answers)
    errors = [float((a.logits - b.logits).abs().max()) for a, b in zip(theirs, gold, strict=True) if a is not None and b is not None]
    limit = LIMIT + 2 * max(errors, default=0.0)
    rows = [_compare(*row, limit, is_exact=precision is torch.float32) for row in zip(requests, answers, gold, theirs, strict=True)]
    return ParityReport(identity.model, identity.adapter, dtype, device, tuple(rows))


def parity_requests() -> list[Request]:
    """Prompts with no, one and two images of different sizes; greedy answers."""
    requests = []
    for number, sizes in enumerate(_PROMPTS):
        images = [ImagePart(_picture(*size, seed=10 * number + i), f"\nimage {i + 1}: ") for i, size in enumerate(sizes)]
        words = TextPart("make the circle red " * (number + 1) + f"and then {number}?")
        parts: tuple[TextPart | ImagePart, ...] = (words, *images) if number % 2 else (*images, words)
        messages = (Message("system", (TextPart("You compare."),)), Message("user", parts))
        requests.append(Request(messages, (Text(NUM_TOKENS),), sampling=Sampling(temperature=0.0)))
    return requests


def _picture(width: int, height: int, seed: int) -> Image:
    """Noise over a slope of colour."""
    slope = np.linspace(0, 200, width)[None, :, None] * np.array([1.0, 0.5, 0.2]) + np.linspace(0, 40, height)[:, None, None]
    noise = np.random.default_rng(seed).integers(0, 40, (height, width, 3))
    return Image(width, height, (slope + noise).clip(0, 255).astype(np.uint8).tobytes())


def _run_engine(model: VisionLanguageModel, requests: Sequence[Request]) -> list[_Answer]:
    recorder = _Recorder(model)
    engine = Engine(recorder)
    together = engine.generate(requests)
    answers = []
    for request, other in zip(requests, together, strict=True):
        recorder.seen.clear()
        (completion,) = engine.generate([request])
        # An answer that reaches its limit of tokens is as good as any here.
        problem = "" if completion.status in (Status.OK, Status.TRUNCATED) else completion.message
        prompt = () if problem else tuple(model.render(request.messages, request.images).tokens.tolist())
        if not problem and completion.tokens != other.tokens:
            problem = "the engine answers otherwise when it runs all prompts together"
        if not problem and len(recorder.seen) != len(completion.tokens):
            problem = f"the engine computed {len(recorder.seen)} rows of logits for {len(completion.tokens)} tokens"
        # What follows a placeholder of an image, should a model write one, transformers cannot be asked about: it misses the image.
        is_image = [token == model.image_token_id for token in completion.tokens]
        end = is_image.index(True) + 1 if True in is_image else len(is_image)
        logits = torch.stack(recorder.seen[:end]) if recorder.seen else torch.empty(0, model.vocab_size)
        answers.append(_Answer(prompt, completion.tokens[:end], logits, problem))
    return answers


@dataclass(frozen=True)
class _Opinion:
    """What transformers makes of a prompt, given our answer."""

    prompt_tokens: tuple[int, ...]
    tokens: tuple[int, ...]
    logits: Tensor


def _run_peer(source: PeerSource, dtype: torch.dtype, requests: Sequence[Request], answers: Sequence[_Answer]) -> list[_Opinion | None]:
    """None for a prompt that the engine did not answer."""
    peer = Peer(source, dtype)
    opinions: list[_Opinion | None] = []
    for request, answer in zip(requests, answers, strict=True):
        if not answer.tokens:
            opinions.append(None)
            continue
        inputs = peer.inputs(request.messages, request.images)
        logits, tokens = peer.logits(inputs, answer.tokens), peer.greedy(inputs, NUM_TOKENS)
        opinions.append(_Opinion(tuple(inputs["input_ids"][0].tolist()), tuple(tokens), logits))
    return opinions


def _compare(
    request: Request, ours: _Answer, gold: _Opinion | None, theirs: _Opinion | None, limit: float, *, is_exact: bool
) -> Comparison:
    name = "text alone" if not request.images else " and ".join(f"{image.width}x{image.height}" for image in request.images)
    if ours.problem or gold is None or theirs is None:
        return Comparison(name, len(ours.prompt_tokens), len(ours.tokens), limit=limit, problem=ours.problem or "the engine gave no answer")
    tokens = theirs.tokens[: len(ours.tokens)]
    same = next((i for i, (a, b) in enumerate(zip(ours.tokens, tokens, strict=False)) if a != b), len(tokens))
    problem = ""
    if ours.prompt_tokens != gold.prompt_tokens:
        problem = f"transformers reads the prompt as {len(gold.prompt_tokens)} other tokens"
    elif is_exact and ours.tokens != tokens:
        gap = float(gold.logits[min(same, len(gold.logits) - 1)].topk(2).values.diff().abs())
        problem = f"greedy tokens part at token {same + 1}, where the two best logits are {gap:.1e} apart"
    elif not float(gold.logits.std()) > limit:
        problem = "the logits are all alike, which proves nothing"
    difference = float((ours.logits - gold.logits).abs().max())
    return Comparison(name, len(ours.prompt_tokens), len(ours.tokens), same, difference, limit, float(gold.logits.abs().max()), problem)
