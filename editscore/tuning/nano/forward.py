"""A fast forward pass over transformers' own Qwen2.5-VL weights: equal-sized images at once, packed rows, a plain cache.

Legend: I images, P patches of an image, T merged tokens of an image, R rows, L row length, C cached length, H hidden size.
The result equals transformers' forward (tests/tuning/test_forward.py); at this size its own costs several times more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from editscore.tuning.nano.config import IMAGE_SIZE, MERGE_SIZE, PATCH_SIZE
from editscore.tuning.nano.sequences import PROMPT

Cache = list[tuple[Tensor, Tensor]]
SIDE = IMAGE_SIZE // PATCH_SIZE
BLOCKS = SIDE // MERGE_SIZE


def patches(pixels: NDArray[np.uint8]) -> Tensor:
    """Pixels [I, 84, 84, 3] to patches [I, P, 3 * 14 * 14] in merge-block order, on -1..1 (mean and deviation .5)."""
    images = torch.from_numpy(pixels).float() / 127.5 - 1.0
    grid = images.view(len(images), BLOCKS, MERGE_SIZE, PATCH_SIZE, BLOCKS, MERGE_SIZE, PATCH_SIZE, 3)
    return grid.permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(len(images), SIDE * SIDE, -1)


def rms_norm(x: Tensor, norm: Any) -> Tensor:
    """x over its root mean square, times the module's weight."""
    return F.rms_norm(x, (x.shape[-1],), norm.weight.to(x.dtype), norm.variance_epsilon)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding, halves convention."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


def vision_rotary(tower: Any) -> tuple[Tensor, Tensor]:
    """cos and sin [P, head] of the patches' rows and columns, in merge-block order."""
    index = torch.arange(SIDE)
    rows, columns = torch.meshgrid(index, index, indexing="ij")
    order = [c.reshape(BLOCKS, MERGE_SIZE, BLOCKS, MERGE_SIZE).permute(0, 2, 1, 3).reshape(-1) for c in (rows, columns)]
    cos, sin = tower.rotary_pos_emb(torch.zeros(1), torch.stack(order, -1))
    return cos, sin


def vision_features(tower: Any, x: Tensor) -> Tensor:
    """Patches [I, P, D] to merged tokens [I * T, H]."""
    num_images, num_patches, _ = x.shape
    heads, hidden = tower.config.num_heads, tower.config.hidden_size
    # A still image fills both frames of the temporal patch, so the two kernels add up.
    x = F.linear(x, tower.patch_embed.proj.weight.sum(2).reshape(hidden, -1))
    cos, sin = vision_rotary(tower)
    for block in tower.blocks:
        qkv = block.attn.qkv(rms_norm(x, block.norm1)).view(num_images, num_patches, 3, heads, hidden // heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        q, k = (rotate(t, cos.to(t.dtype), sin.to(t.dtype)) for t in (q, k))
        mixed = attend(q, k, v, None).transpose(1, 2).reshape(num_images, num_patches, hidden)
        x = x + block.attn.proj(mixed)
        x = x + gated_mlp(block.mlp, rms_norm(x, block.norm2))
    merged = rms_norm(x, tower.merger.ln_q).reshape(num_images * num_patches // MERGE_SIZE**2, -1)
    features: Tensor = tower.merger.mlp(merged)
    return features


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Softmax attention of [R, heads, L, head] over [R, kv heads, C, head], bias [R, 1, 1, L, C] or none.

    Written out, because torch's fused backward pass for short rows on a CPU took half of a training step.
    """
    rows, heads, length, width = q.shape
    groups = heads // k.shape[1]
    with torch.autocast("cpu", enabled=False):  # it would take bf16 scores through fp32
        scores = (q * width**-0.5).reshape(rows, k.shape[1], groups * length, width) @ k.transpose(-1, -2)
        if bias is not None:
            scores = (scores.view(rows, k.shape[1], groups, length, -1) + bias.to(scores.dtype)).flatten(2, 3)
        mixed: Tensor = scores.softmax(-1) @ v
    return mixed.view(rows, heads, length, width)


def gated_mlp(mlp: Any, x: Tensor) -> Tensor:
    """down(silu(gate(x)) * up(x))."""
    out: Tensor = mlp.down_proj(F.silu(mlp.gate_proj(x)) * mlp.up_proj(x))
    return out


def row_mask(document: Tensor, segment: Tensor) -> Tensor:
    """[R, 1, L, L]: a token sees earlier tokens of its document that belong to the prompt or to its own branch."""
    same = document[:, :, None] == document[:, None, :]
    visible = (segment[:, None, :] == PROMPT) | (segment[:, :, None] == segment[:, None, :])
    length = document.shape[1]
    return (same & visible & torch.ones(length, length, dtype=torch.bool).tril()).unsqueeze(1)


def language_states(
    language: Any, x: Tensor, positions: Tensor, mask: Tensor, *, cache: Cache | None = None, tap: int = 0
) -> tuple[Tensor, Tensor | None]:
    """Embeddings [R, L, H] at positions [3, R, L] to final-norm states [R, L, H], and the states after `tap` layers.

    mask [R, 1, L, C + L] or broadcastable. `cache` is extended in place: per layer keys and values [R, kv heads, C, head].
    """
    rows, length, hidden = x.shape
    heads, kv_heads = language.config.num_attention_heads, language.config.num_key_value_heads
    cos, sin = (t.unsqueeze(1).to(x.dtype) for t in language.rotary_emb(x, positions))
    bias = torch.zeros(mask.shape).masked_fill_(~mask, -torch.inf).unsqueeze(1)
    tapped: Tensor | None = None
    for number, layer in enumerate(language.layers):
        attention, y = layer.self_attn, rms_norm(x, layer.input_layernorm)
        q = attention.q_proj(y).view(rows, length, heads, -1).transpose(1, 2)
        k, v = (p(y).view(rows, length, kv_heads, -1).transpose(1, 2) for p in (attention.k_proj, attention.v_proj))
        q, k = rotate(q, cos.to(q.dtype), sin.to(q.dtype)), rotate(k, cos.to(q.dtype), sin.to(q.dtype))
        if cache is not None:
            if number < len(cache):
                k, v = torch.cat([cache[number][0], k], 2), torch.cat([cache[number][1], v], 2)
                cache[number] = (k, v)
            else:
                cache.append((k, v))
        mixed = attend(q, k, v, bias).transpose(1, 2).reshape(rows, length, hidden)
        x = x + attention.o_proj(mixed)
        x = x + gated_mlp(layer.mlp, rms_norm(x, layer.post_attention_layernorm))
        if number + 1 == tap:
            tapped = x
    return rms_norm(x, language.norm), tapped


def embed(language: Any, ids: Tensor, feature: Tensor, features: Tensor) -> Tensor:
    """Word embeddings [R, L, H] with the image features [rows of images, H] put where `feature` [R, L] is not -1."""
    x = language.embed_tokens(ids).flatten(0, 1)
    at_images = torch.nonzero(feature.flatten() >= 0).squeeze(1)
    chosen = features[feature.flatten()[at_images]].to(x.dtype)
    return torch.index_copy(x, 0, at_images, chosen).view(*ids.shape, -1)
