"""Views of a network: layers swapped as exact mode does on a CUDA device, run on the reference; the original is left as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from editscore_kernels.invariant_linear import invariant_linear
from tiny_checkpoint import write_checkpoint
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen3VLForConditionalGeneration

from editscore.models.vlm import PreparedImage, VisionLanguageModel, in_mode, load_model
from editscore.models.vlm.adapter import Low, LowRankLinear
from editscore.models.vlm.invariant import InvariantLinear, invariant_view, shared_copy
from editscore.models.vlm.norms import RmsNorm
from editscore.types import InvalidInputError


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> VisionLanguageModel:
    return load_model(write_checkpoint(tmp_path_factory.mktemp("models") / request.param, request.param), packed=False)


def attend(layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    return q + scale * k.repeat_interleave(q.shape[1] // k.shape[1], 1) * v.repeat_interleave(q.shape[1] // v.shape[1], 1)


def results(model: VisionLanguageModel) -> list[Tensor]:
    """Features, hidden states and logits."""
    side, values = model.pixel_rule.merge_size, model.sizes.patch_values
    patches = np.random.default_rng(0).normal(size=(4 * side * side, values)).astype(np.float32)
    (image,) = model.encode_images([PreparedImage(patches, (2 * side, 2 * side))])
    positions = torch.arange(16).expand(3, 16)
    hidden = model.forward(torch.arange(16) + 32, positions, attend, image_rows=torch.arange(4), images=[image])
    return [image.features, hidden, model.logits(hidden)]


def test_every_linear_layer_and_norm_is_swapped_and_computes_the_same(model: VisionLanguageModel) -> None:
    expected, before = results(model), [type(module) for module in model.network.modules()]
    view = VisionLanguageModel(invariant_view(model.network), model.chat, model.pixel_rule, model.identity, model.eos_token_ids)
    modules = list(view.network.modules())
    assert not [m for m in modules if isinstance(m, nn.Linear) or type(m).__name__.endswith("RMSNorm")]
    assert sum(isinstance(m, InvariantLinear) for m in modules) == sum(issubclass(kind, nn.Linear) for kind in before)
    assert sum(isinstance(m, RmsNorm) for m in modules) == before.count(RmsNorm) > 0
    for got, wanted in zip(results(view), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    assert [type(module) for module in model.network.modules()] == before, "the model itself is as it was"


def test_norms_are_swapped_where_a_network_still_has_transformers_own(model: VisionLanguageModel) -> None:
    """As a network on a CUDA device has: nothing is done about its norms when it is loaded."""
    plain = {"qwen2_5_vl": Qwen2_5_VLForConditionalGeneration, "qwen3_vl": Qwen3VLForConditionalGeneration}[model.config.model_type]
    with torch.device("meta"):
        network = plain(model.config)
    names = [name for name, m in network.named_modules() if type(m).__name__.endswith("RMSNorm")]
    view = invariant_view(network)
    assert [name for name, m in view.named_modules() if isinstance(m, RmsNorm)] == names
    assert [name for name, m in model.network.named_modules() if isinstance(m, RmsNorm)] == names
    assert any("q_norm" in name for name in names) == (model.config.model_type == "qwen3_vl")
    assert all(view.get_submodule(name).weight is network.get_submodule(name).weight for name in names)


def test_a_view_holds_the_same_weights(model: VisionLanguageModel) -> None:
    """Not one parameter is copied, so that moving one of the two to the host and back moves both."""
    own, of_view = list(model.network.parameters()), list(invariant_view(model.network).parameters())
    assert {id(weight) for weight in own} == {id(weight) for weight in of_view}
    assert len(own) == len(of_view)


def test_a_configuration_is_the_views_own(model: VisionLanguageModel) -> None:
    """Another attention in the vision tower of a view is not one in the model's."""
    view = shared_copy(model.network)
    view.set_attn_implementation({"vision_config": "eager"})
    kinds = [network.model.visual.blocks[0].attn.config._attn_implementation for network in (view, model.network)]
    assert kinds == ["eager", "sdpa"]
    assert view.model.visual.config is view.config.vision_config is view.model.visual.blocks[0].attn.config


def test_an_adapter_that_is_kept_apart_is_invariant_too(model: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    network, name = shared_copy(model.network), "model.language_model.layers.0.self_attn.q_proj"
    base = network.get_submodule(name)
    low = Low(torch.randn(4, base.in_features), torch.randn(base.out_features, 4), 0.5)
    network.get_submodule(name.rpartition(".")[0]).q_proj = LowRankLinear(base, low)
    swapped = invariant_view(network).get_submodule(name)
    x = torch.randn(3, base.in_features)
    torch.testing.assert_close(swapped(x), network.get_submodule(name)(x))
    assert isinstance(swapped.base, InvariantLinear) and swapped.linear is invariant_linear


def test_exact_mode_on_a_gpu_without_triton_says_so(model: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.setattr(VisionLanguageModel, "device", torch.device("cuda:0"))
    with pytest.raises(InvalidInputError, match=r"mode: exact answers on cuda:0 need Triton: .*; mode 'fast' does without"):
        in_mode(model, "exact")
