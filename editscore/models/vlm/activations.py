"""The activations of transformers' classes replaced by `gated_activation`.

torch's own give a row other last bits in other company (float32 on the CPU), and act(gate) * up takes them three passes over memory.
"""

from __future__ import annotations

from typing import Any

from editscore_kernels.gated_activation import ActivationKind, PreparedActivation
from torch import Tensor, nn
from transformers.activations import GELUTanh, SiLUActivation


class Activation(nn.Module):
    """act(x) of x [..., W]."""

    def __init__(self, kind: ActivationKind) -> None:
        super().__init__()
        self._act = PreparedActivation(kind)

    def forward(self, x: Tensor) -> Tensor:
        """Element by element; the shape stays. `x` comes fresh from a linear layer and is written over where that is quicker."""
        return self._act(x.reshape(-1, x.shape[-1]), in_place=True).view(x.shape)


class GatedMLP(nn.Module):
    """down(act(gate(x)) * up(x)) over the linear layers of a feed-forward block of transformers, under their names."""

    def __init__(self, block: Any, kind: ActivationKind) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = block.gate_proj, block.up_proj, block.down_proj
        self._act = PreparedActivation(kind)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., H] to [..., H]."""
        rows = x.reshape(-1, x.shape[-1])
        out: Tensor = self.down_proj(self._act(self.gate_proj(rows), self.up_proj(rows), in_place=True))
        return out.view(x.shape)


def kind_of(module: nn.Module) -> ActivationKind | None:
    """Which activation a module is, None for anything else."""
    if isinstance(module, nn.SiLU | SiLUActivation):
        return "silu"
    if isinstance(module, nn.GELU):
        return "gelu" if module.approximate == "none" else "gelu_tanh"
    return "gelu_tanh" if isinstance(module, GELUTanh) else None


def replace_activations(network: nn.Module) -> int:
    """Every feed-forward block and activation of a network; returns how many. An activation that is not known is left as it is."""
    count = 0
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            kind = kind_of(child) or kind_of(getattr(child, "act_fn", child))
            if kind is None:
                continue
            if kind_of(child) is not None:
                setattr(module, name, Activation(kind))
            elif all(hasattr(child, part) for part in ("gate_proj", "up_proj", "down_proj")):
                setattr(module, name, GatedMLP(child, kind))
            else:
                continue
            count += 1
    return count
