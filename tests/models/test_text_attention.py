"""Our attention block against transformers' own over the same layers, for both families."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers import Qwen2_5_VLConfig, Qwen3VLConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLAttention
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextAttention

from editscore.models.vlm.norms import replace_norms
from editscore.models.vlm.text_attention import ATTEND, TextAttention

SHAPE = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 3}
TOKENS, HEAD_DIM, LAYER = 7, 16, 2


def block_of(family: str) -> nn.Module:
    """transformers' block with random weights, those of the norms of heads too, which a new one sets to 1."""
    if family == "qwen2_5_vl":
        block: nn.Module = Qwen2_5_VLAttention(Qwen2_5_VLConfig(text_config=SHAPE).text_config, LAYER)
    else:
        block = Qwen3VLTextAttention(Qwen3VLConfig(text_config=SHAPE | {"head_dim": HEAD_DIM}).text_config, LAYER)
    block.config._attn_implementation = "eager"
    generator = torch.Generator().manual_seed(0)
    for weight in block.parameters():
        weight.data = torch.randn(weight.shape, generator=generator) / 4
    return block.eval()


def attend(layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Every token over all; the layer's number must have come along."""
    assert layer == LAYER
    k, v = (x.repeat_interleave(2, dim=1) for x in (k, v))
    weights = (torch.einsum("nhd,mhd->hnm", q, k) * scale).softmax(-1)
    return torch.einsum("hnm,mhd->nhd", weights, v)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
@torch.inference_mode()
def test_it_computes_what_transformers_block_does(family: str) -> None:
    block = block_of(family)
    generator = torch.Generator().manual_seed(1)
    x, angles = torch.randn(1, TOKENS, 64, generator=generator), torch.randn(1, TOKENS, HEAD_DIM // 2, generator=generator)
    rotation = (torch.cat((angles, angles), -1).cos(), torch.cat((angles, angles), -1).sin())
    expected, _ = block(x, position_embeddings=rotation, attention_mask=None)
    names = {name for name, _ in block.named_parameters()}
    assert ("q_norm.weight" in names) == (family == "qwen3_vl")
    ours = TextAttention(block)
    replace_norms(ours)
    assert {name for name, _ in ours.named_parameters()} == names, "adapters and shards find the layers by these names"
    got, _ = ours(x, position_embeddings=rotation, attention_mask=None, **{ATTEND: attend})
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
