"""LoRA adapters against PEFT's own merge, and every way in which one cannot be applied."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_checkpoint import write_checkpoint
from transformers import Qwen2_5_VLForConditionalGeneration

from editscore.engine import Engine, EngineConfig
from editscore.models.vlm import AdapterError, load_model
from editscore.types import Message, Request, Sampling, Text, TextPart

TARGETS = ["q_proj", "v_proj", "o_proj"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("base") / "model", "qwen2_5_vl")


def write_adapter(base: Path, folder: Path, **settings: Any) -> Path:
    """An adapter with random tensors, written by PEFT itself."""
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(base)
    config = LoraConfig(**({"r": 4, "lora_alpha": 16, "target_modules": TARGETS} | settings))
    adapted = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    adapted.save_pretrained(folder)
    return folder


def rewrite(folder: Path, change: Any) -> None:
    path = folder / "adapter_model.safetensors"
    save_file(dict(change(load_file(path))), path)


@pytest.mark.parametrize(
    "settings", [{}, {"use_rslora": True}, {"r": 8, "target_modules": ["gate_proj", "down_proj"]}, {"alpha_pattern": {"q_proj": 3}}]
)
def test_merged_weights_are_those_of_peft(base: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    folder = write_adapter(base, tmp_path / "adapter", **settings)
    peer = PeftModel.from_pretrained(Qwen2_5_VLForConditionalGeneration.from_pretrained(base), folder).merge_and_unload()
    mine, plain = load_model(base, adapter=folder, packed=False), load_model(base, packed=False)
    expected = dict(peer.named_parameters())
    changed = 0
    for name, parameter in mine.network.named_parameters():
        torch.testing.assert_close(parameter.data, expected[name].data, atol=1e-6, rtol=0)
        changed += not torch.equal(parameter.data, plain.network.get_parameter(name).data)
    assert changed > 3
    assert mine.identity.adapter and mine.identity.model == plain.identity.model


def test_an_adapter_alone_finds_its_base(base: Path, tmp_path: Path) -> None:
    folder = write_adapter(base, tmp_path / "adapter")
    assert load_model(folder).identity == load_model(base, adapter=folder).identity
    with pytest.raises(AdapterError, match="one adapter"):
        load_model(folder, adapter=folder)


@pytest.mark.parametrize("old", ["model.layers.", "language_model.model.layers."])
def test_names_of_older_versions_are_understood(base: Path, tmp_path: Path, old: str) -> None:
    folder = write_adapter(base, tmp_path / "adapter")
    expected = load_model(base, adapter=folder)
    rewrite(folder, lambda tensors: {key.replace("model.language_model.layers.", old): value for key, value in tensors.items()})
    mine = load_model(base, adapter=folder)
    for name, parameter in mine.network.named_parameters():
        assert torch.equal(parameter.data, expected.network.get_parameter(name).data)


def first(tensors: dict[str, torch.Tensor], part: str) -> str:
    return next(key for key in sorted(tensors) if part in key)


def without(part: str) -> Any:
    return lambda tensors: {key: value for key, value in tensors.items() if key != first(tensors, part)}


def without_layer(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in tensors.items() if "layers.1.self_attn.v_proj" not in key}


def renamed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key.replace("layers.0", "layers.7"): value for key, value in tensors.items()}


def zeroed(part: str) -> Any:
    return lambda tensors: {key: torch.zeros_like(value) if part in key else value for key, value in tensors.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("lora_A"), "only one of lora_A and lora_B"),
        (without_layer, r"target layers without tensors: model.language_model.layers.1.self_attn.v_proj"),
        (renamed, r"no layer of the model answers to.*layers\.7"),
        (zeroed("lora_B"), "all zero"),
        (zeroed("layers.0.self_attn.q_proj.lora_B"), r"all zero: model.language_model.layers.0.self_attn.q_proj"),
        (lambda tensors: tensors | {"base_model.model.lm_head.weight": torch.ones(2, 2)}, "lm_head"),
        (lambda tensors: {key: value[:, :-1].contiguous() if "lora_A" in key else value for key, value in tensors.items()}, "shapes"),
    ],
)
def test_an_adapter_that_is_not_whole_is_refused(base: Path, tmp_path: Path, change: Any, message: str) -> None:
    folder = write_adapter(base, tmp_path / "adapter")
    rewrite(folder, change)
    with pytest.raises(AdapterError, match=message):
        load_model(base, adapter=folder)


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"bias": "all"}, {"peft_type": "IA3"}])
def test_kinds_that_are_not_read_are_named(base: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    folder = write_adapter(base, tmp_path / "adapter")
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    with pytest.raises(AdapterError, match="IA3" if "peft_type" in settings else next(iter(settings))):
        load_model(base, adapter=folder)


def test_a_folder_without_an_adapter_is_named(base: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="no adapter_config"):
        load_model(base, adapter=tmp_path)


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True, "target_modules": ["gate_proj", "down_proj", "qkv"]}])
def test_an_adapter_kept_apart_gives_the_outputs_of_peft(base: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    folder = write_adapter(base, tmp_path / "adapter", **settings)
    peer = PeftModel.from_pretrained(Qwen2_5_VLForConditionalGeneration.from_pretrained(base), folder).eval()
    apart = load_model(base, adapter=folder, keep_adapter_apart=True, packed=False)
    merged, plain = load_model(base, adapter=folder, packed=False), load_model(base, packed=False)
    names = dict(plain.network.named_modules())
    changed = [name for name, module in apart.network.named_modules() if type(module).__name__ == "LowRankLinear"]
    assert len(changed) > 3
    x = torch.randn(16, 256, generator=torch.Generator().manual_seed(1))
    for name in changed:
        mine, theirs = apart.network.get_submodule(name), peer.base_model.model.get_submodule(name)
        rows = x[:, : names[name].in_features]
        torch.testing.assert_close(mine(rows), theirs(rows), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(mine(rows), merged.network.get_submodule(name)(rows), atol=1e-4, rtol=1e-4)
        assert not torch.allclose(mine(rows), names[name](rows), atol=1e-3)
        assert torch.equal(mine.weight, names[name].weight), "the base stays as it was"
    assert len({model.identity.adapter for model in (apart, merged, plain)}) == 3


def test_an_engine_runs_on_an_adapter_kept_apart(base: Path, tmp_path: Path) -> None:
    folder = write_adapter(base, tmp_path / "adapter")
    request = Request((Message("user", (TextPart("the car is red"),)),), (Text(8),), sampling=Sampling(temperature=0.0))
    texts = []
    for keep in (False, True):
        model = load_model(base, adapter=folder, keep_adapter_apart=keep)
        texts.append([completion.tokens for completion in Engine(model, EngineConfig(kv_memory_mb=16)).generate([request])])
    assert texts[0] == texts[1]
    assert texts[0] != [c.tokens for c in Engine(load_model(base), EngineConfig(kv_memory_mb=16)).generate([request])]
