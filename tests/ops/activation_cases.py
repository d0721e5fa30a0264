"""Inputs of `gated_activation`, torch's own composition, and what a backend may be off by."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

KINDS = ("silu", "gelu_tanh", "gelu")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
HALF_ULP = {torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11, torch.float64: 2.0**-53}
TINIEST = {torch.float32: 2.0**-149, torch.bfloat16: 2.0**-133, torch.float16: 2.0**-24, torch.float64: 0.0}
# Relative error of act in float32 on -8 .. 8. Measured: 1.5e-7, 7.4e-6 (at -8, where the exponential's argument is 42 and rounded thrice;
# 2.1e-6 above -5) and 4.7e-7.
ACT_ERROR = {"silu": 3e-7, "gelu_tanh": 1e-5, "gelu": 8e-7}


def torch_act(x: Tensor, kind: str) -> Tensor:
    """torch's own function."""
    if kind == "silu":
        return functional.silu(x)
    return functional.gelu(x, approximate="tanh" if kind == "gelu_tanh" else "none")


def random_input(num_rows: int, width: int, dtype: torch.dtype, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """x and up; about a tenth of x lies outside of -4 .. 4, all of it within -8 .. 8."""
    generator = torch.Generator().manual_seed(seed)
    x, up = torch.randn(2, num_rows, width, generator=generator)
    return (x * 2.5).clamp(-8, 8).to(dtype), up.to(dtype)


def margin(gold: Tensor, kind: str, dtype: torch.dtype, *, is_gated: bool) -> Tensor:
    """What each element may be off by: act's own error and one rounding, or two."""
    roundings = 1 + is_gated
    act_error = 0.0 if dtype == torch.float64 else ACT_ERROR[kind]
    return gold.abs() * (act_error + 1.01 * roundings * HALF_ULP[dtype]) + 8 * TINIEST[dtype]
