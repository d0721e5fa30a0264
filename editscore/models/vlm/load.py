"""Loads a checkpoint: safetensors only, transformers' own classes, nothing executed that a checkpoint brings along."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from editscore.models.vlm.activations import replace_activations
from editscore.models.vlm.adapter import attach_adapter, base_of, merge_adapter, read_adapter
from editscore.models.vlm.chat import ChatTokenizer
from editscore.models.vlm.errors import AdapterError, MissingWeightsError, UnsupportedModelError
from editscore.models.vlm.identity import ADAPTER_FILES, MODEL_FILES, folder_hash
from editscore.models.vlm.images import read_pixel_rule
from editscore.models.vlm.model import LinearPatchEmbed, ModelIdentity, VisionLanguageModel
from editscore.models.vlm.norms import replace_norms
from editscore.models.vlm.packed import pack_linears
from editscore.models.vlm.ranks import Ranks
from editscore.models.vlm.resolve import resolve, resolve_adapter
from editscore.models.vlm.shards import SplitModel, split_network
from editscore.models.vlm.sizes import ModelSizes, count_weights, sizes_of
from editscore.models.vlm.text_attention import ATTEND, replace_text_attention

FAMILIES = {"qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration", "qwen3_vl": "Qwen3VLForConditionalGeneration"}
SILENT_BYTES = 500_000_000
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(
    path_or_id: str | Path,
    *,
    adapter: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    pixels: Mapping[str, int] | None = None,
    keep_adapter_apart: bool = False,
    packed: bool = True,
    ranks: Ranks | None = None,
) -> VisionLanguageModel:
    """Loads `"nano"`, a folder or a hub id, with a LoRA adapter if one is given.

    The adapter is merged into the weights in memory, or kept beside them, which costs two thin products per layer and rounds nothing
    away in 16 bits; the two have different identities. On the CPU the weights of linear layers are packed for oneDNN, unless `packed` is
    False (for those who want to look at the weights).

    With `ranks` it is this process's share of the model (`editscore.models.vlm.shards`), split on the host, so that only the share has to
    fit the device.

    A folder that holds only an adapter is loaded over the base that its adapter_config.json names. Without a `dtype` it is
    float32 on the CPU and bfloat16 elsewhere. `pixels` (`min_pixels`, `max_pixels`) go over the checkpoint's preprocessor_config.json,
    unless its editscore.json sets pixels. Raises `UnknownModelError`, `MissingWeightsError`, `UnsupportedModelError` or
    `AdapterError`, all of them `InvalidInputError`.
    """
    folder, adapter_folder = find_folders(path_or_id, adapter)
    host = torch.device(device if ranks is None else "cpu")
    network, config = _load_network(folder, host, _choose_dtype(dtype, torch.device(device)))
    if ranks is not None:
        if keep_adapter_apart:
            raise AdapterError("an adapter is kept apart on one device only")
        split_network(network, ranks, {} if adapter_folder is None else read_adapter(network, adapter_folder))
        network.to(device)
    elif adapter_folder is not None:
        (attach_adapter if keep_adapter_apart else merge_adapter)(network, adapter_folder)
    if network.device.type == "cpu":  # on a CUDA device exact mode does it (`editscore.models.vlm.invariant`)
        replace_norms(network)
    # In 16 bits the output head is quicker as torch's product, into a buffer (see VisionLanguageModel.logits).
    if packed:
        pack_linears(network, keep=() if network.dtype == torch.float32 else (network.lm_head,))
    rule = read_pixel_rule(folder, config.vision_config, _read_json(folder / "editscore.json").get("pixels") or dict(pixels or {}))
    chat = ChatTokenizer(folder, config.image_token_id)
    adapter_hash = "" if adapter_folder is None else folder_hash(adapter_folder, ADAPTER_FILES)
    if adapter_hash and keep_adapter_apart:
        adapter_hash = hashlib.sha256(f"{adapter_hash} apart".encode()).hexdigest()
    identity = ModelIdentity(folder_hash(folder, MODEL_FILES), adapter_hash, rule.digest)
    heads = _read_heads(folder, config.text_config.hidden_size, torch.device(device))
    parts = (network, chat, rule, identity, _eos_tokens(folder, config, chat), heads)
    return VisionLanguageModel(*parts) if ranks is None else SplitModel(*parts, ranks=ranks)


def read_sizes(
    path_or_id: str | Path, *, adapter: str | Path | None = None, device: str | torch.device = "cpu", dtype: str | torch.dtype | None = None
) -> ModelSizes:
    """The sizes of what `load_model` would load with the same arguments; nothing is loaded."""
    from transformers import AutoConfig

    folder, _ = find_folders(path_or_id, adapter)
    _family_of(folder)
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return sizes_of(config, count_weights(folder), _choose_dtype(dtype, torch.device(device)).itemsize)


def find_folders(path_or_id: str | Path, adapter: str | Path | None) -> tuple[Path, Path | None]:
    """The folders of the checkpoint and of the adapter, which may be given as the model: then it goes over the base that it names.

    Raises `UnknownModelError` or `AdapterError`.
    """
    folder = resolve(path_or_id)
    adapter_folder = None if adapter is None else resolve_adapter(adapter)
    if not (folder / "config.json").exists() and (folder / "adapter_config.json").exists():
        if adapter_folder is not None:
            raise AdapterError(f"{folder} is an adapter itself; one adapter can be applied")
        folder, adapter_folder = resolve(base_of(folder)), folder
    return folder, adapter_folder


def _choose_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    if dtype is None:
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise UnsupportedModelError(f"dtype {dtype!r} is none of {', '.join(DTYPES)}")
    return DTYPES[dtype]


@contextmanager
def _progress_bar_for(folder: Path) -> Iterator[None]:
    """Transformers' bar while large weights load; for small ones it would be over before it is read."""
    from transformers.utils import logging

    is_large = sum(path.stat().st_size for path in folder.glob("*.safetensors")) > SILENT_BYTES
    was_enabled = logging.is_progress_bar_enabled()
    if was_enabled and not is_large:
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _family_of(folder: Path) -> str:
    """The class of transformers for a checkpoint."""
    model_type = _read_json(folder / "config.json").get("model_type")
    if model_type is None:
        raise MissingWeightsError(f"{folder} has no config.json with a model_type")
    if model_type not in FAMILIES:
        raise UnsupportedModelError(f"{folder} is a {model_type}; supported are {', '.join(FAMILIES)}")
    return FAMILIES[model_type]


def _load_network(folder: Path, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    import transformers

    family = _family_of(folder)
    if all(path.name in ("heads.safetensors", "adapter_model.safetensors") for path in folder.glob("*.safetensors")):
        others = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
        found = f" (found {', '.join(others)}, which is not read: only safetensors are)" if others else ""
        raise MissingWeightsError(f"{folder} holds no *.safetensors{found}")
    try:
        with _progress_bar_for(folder):
            network, info = getattr(transformers, family).from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                attn_implementation={"text_config": ATTEND, "vision_config": "sdpa"},
                output_loading_info=True,
            )
    except (OSError, SafetensorError) as error:
        raise MissingWeightsError(f"the weights of {folder} cannot be read: {str(error).splitlines()[0]}") from error
    lacking = sorted({*info["missing_keys"], *(str(key[0]) for key in info["mismatched_keys"])})
    if lacking:
        raise MissingWeightsError(f"the weights of {folder} lack or misshape {len(lacking)} tensors: {', '.join(lacking[:8])}")
    if "sliding_attention" in (getattr(network.config.text_config, "layer_types", None) or ()):
        raise UnsupportedModelError(f"{folder} uses sliding-window attention")
    replace_activations(network)
    replace_text_attention(network.model.language_model)
    network.model.visual.patch_embed = LinearPatchEmbed(network.model.visual.patch_embed.proj)
    return network.to(device).eval().requires_grad_(False), network.config


def _read_heads(folder: Path, hidden_size: int, device: torch.device) -> dict[str, tuple[Tensor, Tensor]]:
    path = folder / "heads.safetensors"
    if not path.exists():
        return {}
    tensors = {name: tensor.float().to(device) for name, tensor in load_file(str(path)).items()}
    names = {name.rpartition(".")[0] for name in tensors}
    if set(tensors) != {f"{name}.{part}" for name in names for part in ("weight", "bias")}:
        raise MissingWeightsError(f"{path} needs <name>.weight and <name>.bias for every head, and nothing else")
    heads = {name: (tensors[f"{name}.weight"], tensors[f"{name}.bias"]) for name in sorted(names)}
    for name, (weight, bias) in heads.items():
        if weight.shape != (len(bias), hidden_size) or bias.ndim != 1:
            raise MissingWeightsError(f"{path}: head {name} has shapes {tuple(weight.shape)} and {tuple(bias.shape)}")
    return heads


def _eos_tokens(folder: Path, config: Any, chat: ChatTokenizer) -> tuple[int, ...]:
    """The tokens that end an answer, the first of them the usual one."""
    ids = _read_json(folder / "generation_config.json").get("eos_token_id")
    ids = ids if ids is not None else getattr(config.text_config, "eos_token_id", None)
    ids = list(ids) if isinstance(ids, list) else ([] if ids is None else [ids])
    name = chat.config.get("eos_token")
    usual = chat.token_id(name if isinstance(name, str) else str((name or {}).get("content")))
    ordered = dict.fromkeys(([usual] if usual is not None else []) + ids)
    if not ordered:
        raise MissingWeightsError(f"{folder} names no end-of-text token (generation_config.json, config.json or tokenizer_config.json)")
    return tuple(ordered)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise MissingWeightsError(f"{path}: {error}") from error
