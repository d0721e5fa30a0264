"""The heads that only training uses, and the losses.

Legend: I images, E edits, T merged tokens of an image, H hidden size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration

from editscore.tuning.nano.config import NUM_SCORES, TOKENS_PER_IMAGE, NanoConfig
from editscore.tuning.nano.examples import Batch, ImageTruth
from editscore.tuning.nano.forward import embed, language_states, patches, row_mask, vision_features
from editscore.tuning.nano.sequences import NO_LABEL
from editscore.world import CELL_FIELDS, CLASSES, IMAGE_FIELDS, QUALITY_FAULTS

CELL_CLASSES = [CLASSES[field] for field in CELL_FIELDS]
IMAGE_CLASSES = [CLASSES[field] for field in IMAGE_FIELDS]
NUM_GLOBALS = 4
NUM_TARGETS = 3
# A grade other than "no fault" is rare and decides the PQ scores.
QUALITY_WEIGHT = 3.0
QUALITY_POSITIVE_WEIGHT = 4.0


class Heads(nn.Module):
    """Linear heads on image features, on the states after the comparing layer, and the one that ships: `in_domain`."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.cell = nn.Linear(hidden, sum(CELL_CLASSES))
        self.image = nn.Linear(2 * hidden, sum(IMAGE_CLASSES) + CLASSES["quality"] * len(QUALITY_FAULTS))
        self.compare_cell = nn.Linear(hidden, sum(CELL_CLASSES) + 2 + NUM_TARGETS)
        self.compare_image = nn.Linear(2 * hidden, NUM_GLOBALS + CLASSES["camera"])
        self.in_domain = nn.Linear(hidden, 1)


class Losses(NamedTuple):
    """total to be minimised; the parts as plain numbers for the log."""

    total: Tensor
    parts: dict[str, float]


def _pooled(features: Tensor) -> Tensor:
    """[I, T, H] to mean and maximum [I, 2H]."""
    return torch.cat([features.mean(1), features.amax(1)], -1)


def _recall(logits: Tensor, truth: Tensor) -> float:
    """Share of right answers where the truth is not 0."""
    wanted = truth > 0
    return float((logits.argmax(-1) == truth)[wanted].float().mean()) if bool(wanted.any()) else float("nan")


def vision_loss(heads: Heads, features: Tensor, truth: ImageTruth) -> Losses:
    """What each cell holds, and background, light, style and quality faults of the whole. features [I * T, H]."""
    cells, image, quality = (torch.from_numpy(t) for t in truth)
    num_images = len(cells)
    tokens = features[: num_images * TOKENS_PER_IMAGE].view(num_images, TOKENS_PER_IMAGE, -1).float()
    parts: dict[str, float] = {}
    total = tokens.new_zeros(())
    for k, logits in enumerate(heads.cell(tokens).flatten(0, 1).split(CELL_CLASSES, -1)):
        wanted = cells[..., k].flatten()
        total = total + F.cross_entropy(logits, wanted)
        parts[CELL_FIELDS[k]] = _recall(logits.detach(), wanted)
    *globals_, grades = heads.image(_pooled(tokens)).split([*IMAGE_CLASSES, CLASSES["quality"] * len(QUALITY_FAULTS)], -1)
    for k, logits in enumerate(globals_):
        total = total + 0.5 * F.cross_entropy(logits, image[:, k])
        parts[IMAGE_FIELDS[k]] = _recall(logits.detach(), image[:, k])
    grades = grades.reshape(-1, CLASSES["quality"])
    weight = grades.new_tensor([1.0] + [QUALITY_POSITIVE_WEIGHT] * (CLASSES["quality"] - 1))
    total = total + 0.5 * QUALITY_WEIGHT * F.cross_entropy(grades, quality.flatten(), weight=weight)
    parts["quality"] = _recall(grades.detach(), quality.flatten())
    return Losses(total, parts)


def compare_loss(heads: Heads, states: Tensor, batch: Batch) -> Losses:
    """At each edited-image token: what the source's cell held, whether it changed, whether the instruction means it.

    states [R * L, H] after the comparing layer.
    """
    edits = batch.edits
    index = torch.from_numpy(edits.edited_at)[:, None] + torch.arange(TOKENS_PER_IMAGE)
    tokens = states[index].float()
    source = torch.from_numpy(batch.truth.cells[edits.source]).flatten(0, 1)
    changed, target = (torch.from_numpy(t).flatten() for t in (edits.changed, edits.target))
    *fields, change, aim = heads.compare_cell(tokens).flatten(0, 1).split([*CELL_CLASSES, 2, NUM_TARGETS], -1)
    total = torch.stack([F.cross_entropy(logits, source[:, k]) for k, logits in enumerate(fields)]).sum()
    total = total + 2.0 * F.cross_entropy(change, changed) + 2.0 * F.cross_entropy(aim, target)
    globals_, camera = heads.compare_image(_pooled(tokens)).split([NUM_GLOBALS, CLASSES["camera"]], -1)
    total = total + F.binary_cross_entropy_with_logits(globals_, torch.from_numpy(edits.globals).float()) * 2.0
    total = total + F.cross_entropy(camera, torch.from_numpy(edits.camera))
    color = _recall(fields[1].detach(), source[:, 1])
    parts = {"source_color": color, "changed": _recall(change.detach(), changed), "target": _recall(aim.detach(), target)}
    return Losses(total, parts)


def soft_targets(sigma: float) -> Tensor:
    """[26, 26]: a Gaussian of `sigma` points about each score, summing to 1."""
    scores = torch.arange(NUM_SCORES, dtype=torch.float32)
    return torch.softmax(-((scores[:, None] - scores[None, :]) ** 2) / (2 * sigma**2), -1)


def answer_loss(logits: Tensor, labels: Tensor, weights: Tensor, soft: Tensor, first_score: int, score_weight: float) -> Losses:
    """Weighted cross entropy of the labelled tokens; score tokens against their soft target. logits [M, vocabulary]."""
    log_p = F.log_softmax(logits.float(), -1)
    is_score = (labels >= first_score) & (labels < first_score + NUM_SCORES) & (weights == score_weight)
    plain = -log_p.gather(1, labels[:, None]).squeeze(1)
    scores = (labels - first_score).clamp(0, NUM_SCORES - 1)
    softened = -(soft[scores] * log_p[:, first_score : first_score + NUM_SCORES]).sum(-1)
    each = torch.where(is_score, softened, plain)
    total = (each * weights).sum() / weights.sum()
    hit = logits.detach().argmax(-1) == labels
    parts = {
        "answer": float(total.detach()),
        "words_right": float(hit[~is_score].float().mean()),
        "scores_right": float(hit[is_score].float().mean()),
    }
    return Losses(total, parts)


def batch_losses(
    model: Qwen2_5_VLForConditionalGeneration, heads: Heads, batch: Batch, config: NanoConfig, first_score: int, sigma: float
) -> Losses:
    """All losses of one batch, forward pass included. `sigma` is the width of the soft score targets."""
    rows = batch.rows
    ids, positions, segment, document, labels, feature = (
        torch.from_numpy(t) for t in (rows.ids, rows.positions, rows.segment, rows.document, rows.labels, rows.feature)
    )
    language = model.model.language_model
    with torch.autocast("cpu", torch.bfloat16):
        features = vision_features(model.model.visual, patches(batch.pixels))
        x = embed(language, ids, feature, features)
        states, tapped = language_states(language, x, positions, row_mask(document, segment), tap=config.compare_layer)
        states = states.flatten(0, 1)
        chosen = torch.nonzero(labels.flatten() != NO_LABEL).squeeze(1)
        logits = F.linear(states[chosen], model.lm_head.weight)
    assert tapped is not None
    weights = torch.from_numpy(rows.weights).flatten()[chosen]
    answer = answer_loss(logits, labels.flatten()[chosen], weights, soft_targets(sigma), first_score, config.score_weight)
    vision = vision_loss(heads, features, batch.truth)
    compare = compare_loss(heads, tapped.flatten(0, 1), batch)
    domain_logits = heads.in_domain(states[torch.from_numpy(batch.domain.at)].float()).squeeze(-1)
    inside = torch.from_numpy(batch.domain.inside).float()
    domain = F.binary_cross_entropy_with_logits(domain_logits, inside)
    total = answer.total + config.vision_weight * vision.total + config.compare_weight * compare.total + config.domain_weight * domain
    right = ((domain_logits.detach() > 0) == (inside > 0.5)).float().mean()
    return Losses(total, {**answer.parts, **compare.parts, **vision.parts, "domain": float(right)})
