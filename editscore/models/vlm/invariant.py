"""A network whose rows do not know each other on a CUDA device: linear layers and RMS norms swapped for batch-invariant ones.

What is left of torch works row by row there already: a LayerNorm gives each row a block of its own, activations and rotations go element
by element, and the vision tower attends image by image in calls whose shapes no other image changes, or by flash-attn
(`editscore.models.vlm.flash` says why it may). Never run on a GPU.
"""

from __future__ import annotations

import copy
from typing import Any

from editscore_kernels.invariant_linear import invariant_linear
from torch import Tensor, nn

from editscore.models.vlm.adapter import LowRankLinear
from editscore.models.vlm.model import LinearPatchEmbed
from editscore.models.vlm.norms import replace_norms


class InvariantLinear(nn.Module):
    """`nn.Linear` through `invariant_linear`, with the same parameters."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """x [..., K] to [..., N]."""
        return invariant_linear(x, self.weight, self.bias)


def invariant_view(network: nn.Module) -> Any:
    """The same network over the same parameters with the layers swapped; `network` stays as it is."""
    view = shared_copy(network)
    for name, module in list(view.named_modules()):
        if isinstance(module, LinearPatchEmbed | LowRankLinear):
            module.linear = invariant_linear
        elif isinstance(module, nn.Linear):
            _put(view, name, InvariantLinear(module))
    replace_norms(view)
    return view


def shared_copy(network: nn.Module) -> Any:
    """A network with modules and a configuration of its own over the parameters, the buffers and whatever else another one holds."""
    twins: dict[int, nn.Module] = {}
    configs: dict[int, Any] = {}

    def twin_of(module: nn.Module) -> nn.Module:
        if id(module) not in twins:
            twin = twins[id(module)] = copy.copy(module)
            twin._parameters, twin._buffers = dict(module._parameters), dict(module._buffers)
            twin._modules = {name: None if child is None else twin_of(child) for name, child in module._modules.items()}
            if "config" in vars(module):
                twin.config = copy.deepcopy(module.config, configs)
        return twins[id(module)]

    return twin_of(network)


def _put(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)
