"""What is loaded, what is refused and how it is named, and what the hashes follow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoint import write_checkpoint

from editscore.models.vlm import AdapterError, MissingWeightsError, UnknownModelError, UnsupportedModelError, load_model
from editscore.models.vlm.images import PreparedImage
from editscore.types import InvalidInputError


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("original") / "model", "qwen2_5_vl")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(original, tmp_path / "copy"))


def change(path: Path, **fields: object) -> None:
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | fields))


@pytest.mark.parametrize("name", ["no-such-model", "a/b/c", "../elsewhere", ""])
def test_an_unknown_model_is_named(name: str) -> None:
    with pytest.raises(InvalidInputError, match="model: ") as caught:
        load_model(name or "./nothing here")
    assert isinstance(caught.value, UnknownModelError)
    assert (name or "nothing here") in str(caught.value)


def test_a_file_is_no_model(folder: Path) -> None:
    with pytest.raises(UnknownModelError, match="is a file"):
        load_model(folder / "config.json")


def test_a_folder_without_weights_is_named(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(MissingWeightsError, match=r"no \*.safetensors.*pytorch_model.bin.*only safetensors"):
        load_model(folder)


def test_weights_that_lack_a_tensor_are_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    name = next(key for key in weights if key.endswith("layers.1.mlp.up_proj.weight"))
    save_file({key: value for key, value in weights.items() if key != name}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MissingWeightsError, match="up_proj"):
        load_model(folder)


@pytest.mark.parametrize("missing", ["tokenizer.json", "config.json", "tokenizer_config.json"])
def test_a_missing_file_is_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(MissingWeightsError, match=r"tokenizer\.json|config\.json|chat template"):
        load_model(folder)


@pytest.mark.parametrize("broken", ["config.json", "model.safetensors"])
def test_a_broken_file_is_named(folder: Path, broken: str) -> None:
    path = folder / broken
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(MissingWeightsError, match="copy"):
        load_model(folder)


def test_an_unknown_adapter_is_named(folder: Path) -> None:
    with pytest.raises(AdapterError, match=r"adapter: .*no-such-adapter"):
        load_model(folder, adapter="no-such-adapter")


def test_another_kind_of_model_is_refused(folder: Path) -> None:
    change(folder / "config.json", model_type="llama")
    with pytest.raises(UnsupportedModelError, match=r"llama.*qwen2_5_vl"):
        load_model(folder)


def test_an_unknown_dtype_is_refused(folder: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="float8"):
        load_model(folder, dtype="float8")


def test_the_hashes_follow_the_content(original: Path, folder: Path) -> None:
    base = load_model(original).identity
    assert load_model(folder).identity == base, "a copy is the same model"
    change(folder / "editscore.json", pixels={"resize": [56, 56]}, judge="pointwise")
    resized = load_model(folder).identity
    assert (resized.model, resized.preprocessing != base.preprocessing) == (base.model, True)
    weights = load_file(folder / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_model(folder).identity.model != base.model
    assert base.adapter == ""


def test_heads_must_fit(folder: Path) -> None:
    save_file({"a.weight": torch.ones(2, 64), "a.bias": torch.ones(2)}, folder / "heads.safetensors")
    model = load_model(folder)
    np.testing.assert_allclose(model.read_head("a", torch.ones(64)).numpy(), [65, 65])
    save_file({"a.weight": torch.ones(2, 63), "a.bias": torch.ones(2)}, folder / "heads.safetensors")
    with pytest.raises(MissingWeightsError, match="head a"):
        load_model(folder)
    save_file({"a.weight": torch.ones(2, 64)}, folder / "heads.safetensors")
    with pytest.raises(MissingWeightsError, match="bias"):
        load_model(folder)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_an_image_is_encoded_the_same_in_any_company(tmp_path: Path, family: str) -> None:
    model = load_model(write_checkpoint(tmp_path, family))
    rng, side = np.random.default_rng(0), model.pixel_rule.patch_size

    def noise(rows: int, columns: int) -> PreparedImage:
        return PreparedImage(rng.normal(size=(rows * columns, 6 * side * side)).astype(np.float32), (rows, columns))

    images = [noise(4, 4), noise(2, 6), noise(6, 10), noise(2, 2), noise(8, 4)]
    together = model.encode_images(images)
    for image, features in zip(images, together, strict=True):
        (alone,) = model.encode_images([image])
        assert torch.equal(alone.features, features.features)
        assert all(torch.equal(a, b) for a, b in zip(alone.deepstack, features.deepstack, strict=True))
        assert alone.features.shape == (len(image.patches) // 4, 64)
    assert len(together[0].deepstack) == (2 if family == "qwen3_vl" else 0)
    out = model.network.model.visual(torch.from_numpy(images[2].patches), grid_thw=torch.tensor([[1, *images[2].grid]]), return_dict=True)
    np.testing.assert_allclose(together[2].features.numpy(), out.pooler_output.detach().numpy(), atol=1e-5)
