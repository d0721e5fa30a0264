"""A quick look at a model in training: pair accuracy on development groups, without the engine.

Legend: E edits, K passes, V vocabulary. The published figures come from benchmarks/stages/bench_nano_judge.py, through the
engine; this one draws with torch's own generator.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from editscore.stats import PairCounts, count_pairs, group_pairs
from editscore.tuning.nano.config import NUM_SCORES
from editscore.tuning.nano.examples import Pixels, to_model_size
from editscore.tuning.nano.forward import Cache, embed, language_states, patches, vision_features
from editscore.tuning.nano.sequences import Encoder, Ints, rope_positions
from editscore.types import Sampling
from editscore.world import Group

Scores = NDArray[np.float64]
DIMENSIONS: Final = ("prompt_following", "consistency", "naturalness", "artifacts", "overall")
MIN_GAPS: Final = {"overall": 1.0}
MIN_GAP: Final = 3.0
CHUNK: Final = 96
MAX_NEW_TOKENS: Final = 64


class _Decoder:
    """Prompts of one kind in a left-padded batch, with their cache; `feed` gives the next logits."""

    def __init__(self, model: Any, encoder: Encoder, prompts: list[Ints], pixels: Pixels) -> None:
        self.model, self.language = model, model.model.language_model
        length = max(len(p) + 1 for p in prompts)
        shape = (len(prompts), length)
        ids, positions, known = np.zeros(shape, np.int64), np.zeros((3, *shape), np.int64), np.zeros(shape, bool)
        places = np.zeros(len(prompts), np.int64)
        for row, prompt in enumerate(prompts):
            opened = np.append(prompt, encoder.open)
            span = slice(length - len(opened), length)
            positions[:, row, span], places[row] = rope_positions(opened, encoder.image_pad)
            ids[row, span], known[row, span] = opened, True
        feature = np.full(shape, -1)
        at_images = (ids == encoder.image_pad) & known
        feature[at_images] = np.arange(int(at_images.sum()))
        self.known, self.places = torch.from_numpy(known), torch.from_numpy(places)
        mask = torch.ones(length, length, dtype=torch.bool).tril() & self.known[:, None, :] | torch.eye(length, dtype=torch.bool)
        features = vision_features(model.model.visual, patches(pixels))
        x = embed(self.language, torch.from_numpy(ids), torch.from_numpy(feature), features)
        self.cache: Cache = []
        states, _ = language_states(self.language, x, torch.from_numpy(positions), mask.unsqueeze(1), cache=self.cache)
        self.prompt_states = states[:, -2]
        self.logits = F.linear(states[:, -1], model.lm_head.weight).float()

    def repeat(self, times: int) -> None:
        """Each row `times` times, side by side."""
        self.cache = [(k.repeat_interleave(times, 0), v.repeat_interleave(times, 0)) for k, v in self.cache]
        self.known, self.places, self.logits = (t.repeat_interleave(times, 0) for t in (self.known, self.places, self.logits))

    def feed(self, tokens: Tensor) -> Tensor:
        """Append one token per row; the logits [rows, V] after it."""
        x = self.language.embed_tokens(tokens)[:, None]
        self.known = torch.cat([self.known, torch.ones(len(tokens), 1, dtype=torch.bool)], 1)
        positions = self.places[None, :, None].expand(3, -1, -1)
        states, _ = language_states(self.language, x, positions, self.known[:, None, None, :], cache=self.cache)
        self.places = self.places + 1
        self.logits = F.linear(states[:, -1], self.model.lm_head.weight).float()
        return self.logits


def _chunks(encoder: Encoder, groups: Items[Group], kind: str) -> list[tuple[list[Ints], Pixels]]:
    rows = [(group, edit) for group in groups for edit in group.edits]
    chunks = []
    for start in range(0, len(rows), CHUNK):
        prompts, pixels = [], []
        for group, edit in rows[start : start + CHUNK]:
            prompts.append(encoder.sc_prompt(group.instruction) if kind == "sc" else encoder.pq_prompt())
            pixels += [to_model_size(group.source)] if kind == "sc" else []
            pixels.append(to_model_size(edit.image))
        chunks.append((prompts, np.stack(pixels)))
    return chunks


def _expect(decoder: _Decoder, encoder: Encoder) -> Tensor:
    scale = torch.arange(NUM_SCORES, dtype=torch.float32)
    first = encoder.first_score
    num = len(decoder.logits)
    a = (decoder.feed(torch.full((num,), encoder.middle))[:, first : first + NUM_SCORES].softmax(-1) * scale).sum(-1)
    decoder.feed(first + a.round().long())
    b = (decoder.feed(torch.full((num,), encoder.comma))[:, first : first + NUM_SCORES].softmax(-1) * scale).sum(-1)
    return torch.stack([a, b], 1)


@torch.no_grad()
def expected_scores(model: Any, encoder: Encoder, groups: Items[Group]) -> Scores:
    """[E, 4]: the expectation over the score tokens after an empty reasoning."""
    parts = []
    for kind in ("sc", "pq"):
        chunks = _chunks(encoder, groups, kind)
        parts.append(torch.cat([_expect(_Decoder(model, encoder, prompts, pixels), encoder) for prompts, pixels in chunks]))
    return torch.cat(parts, 1).double().numpy()


def _draw(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> Tensor:
    if sampling.temperature == 0:
        return logits.argmax(-1)
    values, index = torch.topk(logits / sampling.temperature, sampling.top_k or logits.shape[-1], -1)
    p = values.softmax(-1)
    p = p.masked_fill(p.cumsum(-1) - p >= sampling.top_p, 0.0)
    return index.gather(1, torch.multinomial(p, 1, generator=generator)).squeeze(1)


def _sample(decoder: _Decoder, encoder: Encoder, sampling: Sampling, generator: torch.Generator) -> Tensor:
    """[rows, 2], NaN where the answer did not come to two scores."""
    first, rows = encoder.first_score, len(decoder.logits)
    scores = torch.full((rows, 2), float("nan"))
    seen = torch.zeros(rows, dtype=torch.long)  # tokens since the reasoning ended, 0 before
    logits = decoder.logits
    for _ in range(MAX_NEW_TOKENS):
        allowed = logits.clone()
        at_score = (seen == 1) | (seen == 3)
        outside = torch.ones(logits.shape[1], dtype=torch.bool)
        outside[first : first + NUM_SCORES] = False
        allowed[at_score[:, None] & outside[None, :]] = -torch.inf
        token = _draw(allowed, sampling, generator)
        token = torch.where(seen == 2, torch.full_like(token, encoder.comma), token)
        for column, stage in enumerate((1, 3)):
            scores[:, column] = torch.where(seen == stage, (token - first).float(), scores[:, column])
        seen = torch.where(seen > 0, seen + 1, (token == encoder.middle).long())
        if bool((seen > 3).all()):
            break
        logits = decoder.feed(token)
    return scores


@torch.no_grad()
def sampled_scores(model: Any, encoder: Encoder, groups: Items[Group], num_passes: int, sampling: Sampling, seed: int) -> Scores:
    """[E, K, 4]: scores after a sampled reasoning."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for kind in ("sc", "pq"):
        drawn = []
        for prompts, pixels in _chunks(encoder, groups, kind):
            decoder = _Decoder(model, encoder, prompts, pixels)
            decoder.repeat(num_passes)
            drawn.append(_sample(decoder, encoder, sampling, generator).view(len(prompts), num_passes, 2))
        parts.append(torch.cat(drawn))
    return torch.cat(parts, 2).double().numpy()


@torch.no_grad()
def prompt_states(model: Any, encoder: Encoder, edits: Items[tuple[Pixels, Pixels, str]]) -> Tensor:
    """[E, H]: the final-norm state of the last SC prompt token of each (source, edited, instruction)."""
    states = []
    for start in range(0, len(edits), CHUNK):
        chunk = edits[start : start + CHUNK]
        pixels = np.stack([to_model_size(image) for source, edited, _ in chunk for image in (source, edited)])
        states.append(_Decoder(model, encoder, [encoder.sc_prompt(text) for _, _, text in chunk], pixels).prompt_states)
    return torch.cat(states)


def overall(scores: Scores) -> Scores:
    """[..., 4] on 0..25 to the overall [...] on 0..10: sqrt(min(pf, c) * min(n, a)) / 2.5."""
    result: Scores = np.sqrt(np.minimum(scores[..., 0], scores[..., 1]) * np.minimum(scores[..., 2], scores[..., 3])) / 2.5
    return result


def true_scores(groups: Items[Group]) -> Scores:
    """[E, 4]: the oracle's."""
    verdicts = [edit.verdict for group in groups for edit in group.edits]
    return np.array([[v.prompt_following, v.consistency, v.naturalness, v.artifacts] for v in verdicts], np.float64)


def pair_table(scores: Scores, groups: Items[Group]) -> dict[str, PairCounts]:
    """Pair counts per dimension. scores [E, 4], or [E, K, 4]: then means over passes (overall: mean of the overalls)."""
    truth = true_scores(groups)
    owner = np.repeat(np.arange(len(groups)), [len(group.edits) for group in groups])
    passes = scores if scores.ndim == 3 else scores[:, None]
    table = {}
    for column, name in enumerate(DIMENSIONS):
        given = overall(passes).mean(1) if name == "overall" else passes[:, :, column].mean(1)
        wanted = overall(truth) if name == "overall" else truth[:, column]
        pairs = group_pairs(wanted, owner, MIN_GAPS.get(name, MIN_GAP))
        table[name] = count_pairs(given[pairs.better], given[pairs.worse])
    return table
