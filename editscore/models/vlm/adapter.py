"""LoRA adapters in PEFT's format: merged into the weights in memory, W += scale * B @ A, or kept apart, W x + scale * B (A x)
(Hu et al., arXiv 2106.09685).

Own loader, because a name that does not match is only a warning elsewhere and then nothing is applied: here every tensor of
the adapter must find its weight, every targeted layer must find its tensors, and an adapter of zeros is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from editscore.models.vlm.errors import AdapterError

_LORA_KEY = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])(\.default)?\.weight")
_UNSUPPORTED = ("use_dora", "modules_to_save", "fan_in_fan_out", "lora_bias", "trainable_token_indices", "target_parameters")
# Where transformers moved the parts of these models; the first name that exists in the model is taken.
_RENAMES = (
    (r"^", ""),
    (r"^model\.(?=layers|embed_tokens|norm)", "model.language_model."),
    (r"^visual\.", "model.visual."),
    (r"^language_model\.model\.", "model.language_model."),
    (r"^(?=layers\.)", "model.language_model."),
)
_MAX_NAMES = 8


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """adapter_config.json of a folder; raises `AdapterError` when there is none or when it is no LoRA."""
    path = folder / "adapter_config.json"
    if not path.exists():
        raise AdapterError(f"{folder} has no adapter_config.json")
    config = dict(json.loads(path.read_text("utf-8")))
    if config.get("peft_type", "LORA") != "LORA":
        raise AdapterError(f"{folder} is a {config['peft_type']} adapter; only LORA is read")
    used = [name for name in _UNSUPPORTED if config.get(name)]
    if used or config.get("bias", "none") != "none":
        raise AdapterError(f"{folder} uses {', '.join(used) or 'bias'}, which is not supported")
    return config


def base_of(folder: Path) -> str:
    """The folder or hub id of the model that an adapter's folder says it was trained on; raises `AdapterError` when it says none."""
    base = str(read_adapter_config(folder).get("base_model_name_or_path") or "")
    if not base:
        raise AdapterError(f"adapter_config.json of {folder} names no base model")
    return str(folder / base) if (folder / base).is_dir() else base


@dataclass(frozen=True)
class Low:
    """The change of one layer as two thin matrices: a [rank, in], b [out, rank], and its scale; float32."""

    a: Tensor
    b: Tensor
    scale: float


class LowRankLinear(nn.Module):
    """A linear layer with its change beside it: base(x) + scale * (x a^T) b^T, in the layer's dtype."""

    def __init__(self, base: nn.Linear, low: Low) -> None:
        super().__init__()
        self.base, self.scale = base, low.scale
        self.linear: Callable[..., Tensor] = F.linear
        self.register_buffer("a", low.a.to(base.weight))
        self.register_buffer("b", low.b.to(base.weight))

    @property
    def weight(self) -> Tensor:
        """The weight of the base, whose dtype and device are the layer's."""
        return self.base.weight

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] to [..., out]."""
        low = self.linear(self.linear(x, cast(Tensor, self.a)), cast(Tensor, self.b))
        out: Tensor = self.base(x) + low * self.scale
        return out


@torch.no_grad()
def merge_adapter(model: nn.Module, folder: Path) -> int:
    """Adds the adapter in `folder` to the weights of `model` and returns the number of layers changed.

    Raises `AdapterError` naming the tensors that are unknown, missing, of a wrong shape or all zero; the model is unchanged then.
    """
    layers = read_adapter(model, folder)
    for name, low in layers.items():
        merge_low(cast(nn.Linear, model.get_submodule(name)).weight, low)
    return len(layers)


def merge_low(weight: Tensor, low: Low) -> None:
    """Adds a change to a weight [out, in], computed in float32 and rounded once."""
    weight.copy_((weight.float() + (low.scale * (low.b @ low.a)).to(weight.device)).to(weight.dtype))


def attach_adapter(model: nn.Module, folder: Path) -> int:
    """Sets the adapter in `folder` beside the weights of `model`, which stay as they are; returns and raises as `merge_adapter`."""
    layers = read_adapter(model, folder)
    for name, low in layers.items():
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, LowRankLinear(cast(nn.Linear, model.get_submodule(name)), low))
    return len(layers)


@torch.no_grad()
def read_adapter(model: nn.Module, folder: Path) -> dict[str, Low]:
    """The adapter in `folder` by the name of the layer that each part changes; raises `AdapterError` as `merge_adapter`."""
    config = read_adapter_config(folder)
    path = folder / "adapter_model.safetensors"
    if not path.exists():
        raise AdapterError(f"{folder} has no adapter_model.safetensors")
    modules = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    pairs = _pair_tensors(load_file(str(path)), modules)
    _check_targets(config, modules, pairs)
    layers = {name: _low(name, pairs[name], config, modules[name]) for name in sorted(pairs)}
    if not layers or all(not bool((low.b @ low.a).any()) for low in layers.values()):
        raise AdapterError(f"{folder} changes nothing: every product of its tensors is zero")
    return layers


def _pair_tensors(tensors: dict[str, Tensor], modules: dict[str, nn.Linear]) -> dict[str, dict[str, Tensor]]:
    pairs: dict[str, dict[str, Tensor]] = {}
    unknown: list[str] = []
    for key, tensor in tensors.items():
        match = _LORA_KEY.fullmatch(key.removeprefix("base_model.model."))
        module = _find_module(match["module"], modules) if match else None
        if match is None or module is None:
            unknown.append(key)
        else:
            pairs.setdefault(module, {})[match["side"]] = tensor
    _raise_named("tensors that no layer of the model answers to", unknown)
    _raise_named("layers with only one of lora_A and lora_B", [name for name, pair in pairs.items() if len(pair) != 2])
    zero = [name for name, pair in pairs.items() if not bool(pair["B"].any()) or not bool(pair["A"].any())]
    _raise_named("layers whose tensors are all zero", zero)
    return pairs


def _find_module(name: str, modules: dict[str, nn.Linear]) -> str | None:
    candidates = (re.sub(pattern, replacement, name, count=1) for pattern, replacement in _RENAMES)
    return next((candidate for candidate in candidates if candidate in modules), None)


def _check_targets(config: dict[str, Any], modules: dict[str, nn.Linear], pairs: dict[str, dict[str, Tensor]]) -> None:
    """Every layer that a list of target modules names by its ending must have tensors (a regular expression may use old names)."""
    targets, excluded = config.get("target_modules"), config.get("exclude_modules") or []
    if not isinstance(targets, list) or not isinstance(excluded, list) or config.get("layers_to_transform") is not None:
        return

    def is_named(name: str, endings: list[str]) -> bool:
        return any(name == ending or name.endswith(f".{ending}") for ending in endings)

    wanted = [name for name in modules if is_named(name, targets) and not is_named(name, excluded)]
    # Vision towers share layer names with the language model; an adapter that leaves the tower out entirely is whole.
    has_vision = any(".visual." in f".{name}" for name in pairs)
    missing = [name for name in wanted if name not in pairs and (has_vision or ".visual." not in f".{name}")]
    _raise_named("target layers without tensors", missing)
    _raise_named("target modules that no layer answers to", [t for t in targets if not any(is_named(name, [t]) for name in modules)])


def _low(name: str, pair: dict[str, Tensor], config: dict[str, Any], module: nn.Linear) -> Low:
    a, b = pair["A"].float(), pair["B"].float()
    rank = a.shape[0]
    if b.ndim != 2 or a.ndim != 2 or b.shape[1] != rank or (b.shape[0], a.shape[1]) != tuple(module.weight.shape):
        raise AdapterError(f"{name}: shapes {tuple(b.shape)} x {tuple(a.shape)} do not make {tuple(module.weight.shape)}")
    alpha = float(_by_pattern(config.get("alpha_pattern"), name, config.get("lora_alpha", rank)))
    return Low(a, b, alpha / (rank**0.5 if config.get("use_rslora") else rank))


def _by_pattern(patterns: dict[str, Any] | None, name: str, default: Any) -> Any:
    return next((value for pattern, value in (patterns or {}).items() if re.search(rf"(^|\.){pattern}$", name)), default)


def _raise_named(what: str, names: list[str]) -> None:
    if names:
        shown = ", ".join(sorted(names)[:_MAX_NAMES]) + (f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else "")
        raise AdapterError(f"{what}: {shown}")
