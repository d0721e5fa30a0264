"""From a specification to an engine, in this process or in one that was started for it: the one place that makes engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from editscore.types import InvalidInputError

if TYPE_CHECKING:
    from editscore.engine import Engine

# Joins the devices that share one model, as in cuda:0+cuda:1.
DEVICE_JOINT = "+"


class EngineSpec(msgspec.Struct, frozen=True):
    """Which model runs where: the arguments of `load_model`, and in `config` those of EngineConfig.

    Several devices in `device`, joined by a plus, share the model; the engine on one of them has a `rank` of `num_ranks`.
    """

    model: str
    adapter: str | None = None
    device: str = "cpu"
    dtype: str | None = None
    pixels: dict[str, int] = {}
    config: dict[str, bool | int | float | str | None] = {}
    rank: int = 0
    num_ranks: int = 1

    @property
    def offloads(self) -> bool:
        """Whether sleeping weights have somewhere to go: from a GPU to the host."""
        return self.device.startswith("cuda")


def open_engine(spec: EngineSpec) -> Engine:
    """Load the model onto the device. Raises InvalidInputError naming model, adapter, device or dtype."""
    check_device(spec.device)
    from editscore.engine import Engine, EngineConfig
    from editscore.engine.memory import fit
    from editscore.models.vlm import Ranks, load_model, read_sizes, share_of

    config = EngineConfig.model_validate(spec.config)
    if config.memory_gb is not None:  # refused before anything large is read
        sizes = read_sizes(spec.model, adapter=spec.adapter, device=spec.device, dtype=spec.dtype)
        fit(config, share_of(sizes, spec.num_ranks))
    ranks = Ranks(spec.rank, spec.num_ranks) if spec.num_ranks > 1 else None
    model = load_model(spec.model, adapter=spec.adapter, device=spec.device, dtype=spec.dtype, pixels=spec.pixels, ranks=ranks)
    return Engine(model, config)


def check_device(name: str) -> None:
    """Raises InvalidInputError for a device that torch does not know or does not see."""
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidInputError("device", f"{name!r}: {str(error).splitlines()[0]}") from error
    if device.type != "cuda":
        return
    if not torch.cuda.is_available():
        raise InvalidInputError("device", f"{name!r}: torch {torch.__version__} sees no CUDA device")
    if (device.index or 0) >= torch.cuda.device_count():
        raise InvalidInputError("device", f"{name!r}: there are {torch.cuda.device_count()} CUDA devices, counted from 0")
