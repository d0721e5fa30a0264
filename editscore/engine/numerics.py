"""The part of an engine's identity that is arithmetic: what can change the last bit of an answer."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json

import torch
import transformers

from editscore.engine.attention import attention_numerics
from editscore.engine.flash import why_not as flash_why_not
from editscore.models.vlm import Mode, VisionLanguageModel

# Changes when the engine's arithmetic changes, so that stored answers of the old one are not taken for new ones.
ENGINE_VERSION = 4


def numerics_digest(model: VisionLanguageModel, mode: Mode) -> str:
    """SHA-256 (hex) of mode, dtype, kind of device and its instruction set, attention backends, and the versions that compute."""
    is_cpu = model.device.type == "cpu"
    prefill = "" if flash_why_not(model, mode) else ", prefill flash-attn"
    numerics = {
        "engine": ENGINE_VERSION,
        "mode": mode,
        "attention": attention_numerics(model) + prefill,
        "linear": model.linear_backend,
        "ranks": model.num_ranks,
        "dtype": str(model.dtype),
        "device": model.device.type,
        "capability": torch.backends.cpu.get_cpu_capability() if is_cpu else torch.cuda.get_device_name(model.device),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        # On a GPU these compile or bring the kernels of exact mode and of fast mode.
        "kernels": "" if is_cpu else [_version("triton"), _version("flash-attn"), model.vision_attention],
    }
    return hashlib.sha256(json.dumps(numerics, sort_keys=True).encode()).hexdigest()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def engine_identity(model: VisionLanguageModel, mode: Mode) -> dict[str, str]:
    """SHA-256 hashes (hex) of all that decides an answer besides the request."""
    own = model.identity
    return {"model": own.model, "adapter": own.adapter, "preprocessing": own.preprocessing, "numerics": numerics_digest(model, mode)}
