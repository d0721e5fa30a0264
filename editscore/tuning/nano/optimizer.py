"""Muon on the matrices, AdamW on everything else, one learning rate for both."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from editscore.tuning.nano.config import NanoConfig

FINAL_SHARE = 0.02  # of the learning rate, at the end of the decay


class Optimizers:
    """`torch.optim.Muon` (Jordan et al., 2024) and AdamW with a common schedule."""

    def __init__(self, modules: Iterable[tuple[str, nn.Module]], config: NanoConfig) -> None:
        named = {f"{prefix}.{name}": p for prefix, module in modules for name, p in module.named_parameters()}
        matrices: list[Tensor] = []
        rest: list[Tensor] = []
        for name, parameter in named.items():
            is_matrix = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name and not name.startswith("heads.")
            (matrices if is_matrix else rest).append(parameter)
        self.parameters: list[Tensor] = matrices + rest
        rate = config.learning_rate
        self.members: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=rate, weight_decay=config.weight_decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.95), weight_decay=0.0),
        ]
        self._config = config

    def step(self, step_number: int, used: float) -> None:
        """Clip, set the learning rate for the share `used` (0..1) of the budget, update and forget the gradients."""
        torch.nn.utils.clip_grad_norm_(self.parameters, self._config.clip_norm)
        rate = self._config.learning_rate * schedule(step_number, used, self._config)
        for member in self.members:
            for group in member.param_groups:
                group["lr"] = rate
            member.step()
            member.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """All state, flat, for a checkpoint."""
        flat: dict[str, Tensor] = {}
        for number, member in enumerate(self.members):
            for index, state in member.state_dict()["state"].items():
                for name, value in state.items():
                    flat[f"{number}.{index}.{name}"] = torch.as_tensor(value).detach().clone().contiguous()
        return flat

    def load(self, flat: dict[str, Tensor]) -> None:
        """The reverse of `tensors`."""
        for number, member in enumerate(self.members):
            content = member.state_dict()
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in flat.items():
                owner, index, name = key.split(".", 2)
                if int(owner) == number:
                    state.setdefault(int(index), {})[name] = value
            content["state"] = state
            member.load_state_dict(content)


def schedule(step_number: int, used: float, config: NanoConfig) -> float:
    """Share of the learning rate: linear warm-up by steps, flat, linear decay over the last `decay_share` of the budget."""
    warm = min(1.0, (step_number + 1) / config.warmup_steps)
    return warm * min(1.0, max(0.0, 1.0 - used) / config.decay_share + FINAL_SHARE)
