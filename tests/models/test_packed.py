"""Linear layers packed for oneDNN: torch's own product, and the same bits for a row in any company."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_checkpoint import write_checkpoint
from torch import nn

from editscore.models.vlm import load_model
from editscore.models.vlm.packed import PackedLinear, pack_linears, why_not

WIDTHS = ((896, 4864), (4864, 896), (896, 128), (1280, 3420), (3420, 1280), (192, 512), (64, 352), (160, 20))
EPSILON = {torch.float32: 2.0**-23, torch.bfloat16: 2.0**-8}
pytestmark = pytest.mark.skipif(why_not(torch.zeros(1, 1)) is not None, reason=f"no packed layers: {why_not(torch.zeros(1, 1))}")


def layer(width: int, out: int, dtype: torch.dtype, *, bias: bool) -> nn.Linear:
    made = nn.Linear(width, out, bias=bias)
    generator = torch.Generator().manual_seed(width)
    made.weight.data = torch.randn(out, width, generator=generator) * width**-0.5
    if bias:
        made.bias.data = torch.randn(out, generator=generator)
    return made.to(dtype).requires_grad_(False)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(WIDTHS), st.integers(1, 20), st.sampled_from(list(EPSILON)), st.booleans(), st.integers(0, 2**31))
def test_it_is_the_product_as_torch_has_it(widths: tuple[int, int], tiles: int, dtype: torch.dtype, bias: bool, seed: int) -> None:
    plain = layer(*widths, dtype, bias=bias)
    if reason := why_not(plain.weight):
        pytest.skip(reason)
    x = torch.randn(16 * tiles, widths[0], generator=torch.Generator().manual_seed(seed)).to(dtype)
    gold = F.linear(x.double(), plain.weight.double(), plain.bias.double() if bias else None)
    got = PackedLinear(plain)(x)
    assert got.dtype == dtype
    # The sums are in float32, one after another: the probabilistic bound sqrt(K) u |x| |w| (Higham and Mary, 2019); then one rounding.
    summed = widths[0] ** 0.5 * 2.0**-24 * (x.double().abs() @ plain.weight.double().abs().T)
    assert bool(((got - gold).abs() <= summed + EPSILON[dtype] * gold.abs() + 1e-30).all())


@pytest.mark.parametrize("dtype", list(EPSILON), ids=str)
@pytest.mark.parametrize("widths", WIDTHS)
def test_a_row_has_the_same_bits_in_any_company_and_on_any_threads(widths: tuple[int, int], dtype: torch.dtype) -> None:
    plain = layer(*widths, dtype, bias=True)
    if reason := why_not(plain.weight):
        pytest.skip(reason)
    packed = PackedLinear(plain)
    x = torch.randn(528, widths[0], generator=torch.Generator().manual_seed(1)).to(dtype)
    whole = packed(x)
    try:
        for threads in (1, 2, 3, 5, 7):
            torch.set_num_threads(threads)
            for rows in (16, 48, 192, 528):
                for start in {0, 32, 528 - rows}:
                    part = x[start : start + rows]
                    assert torch.equal(packed(part), whole[start : start + len(part)]), (threads, rows, start)
    finally:
        torch.set_num_threads(1)


def test_a_model_on_the_cpu_is_packed_and_counts_its_weights(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", "qwen2_5_vl")
    packed, plain = load_model(folder), load_model(folder, packed=False)
    assert (packed.linear_backend, plain.linear_backend) == ("onednn", "torch")
    assert not [name for name, module in packed.network.named_modules() if isinstance(module, nn.Linear)]
    tied = packed.vocab_size * packed.hidden_size * 4  # the packed head is a copy of embeddings that it shares otherwise
    assert packed.sizes.weight_bytes - plain.sizes.weight_bytes in (0, tied)
    half = load_model(folder, dtype="bfloat16")
    assert isinstance(half.network.lm_head, nn.Linear), "in 16 bits the head writes into a buffer"
    assert pack_linears(half.network, keep=(half.network.lm_head,)) == 0
