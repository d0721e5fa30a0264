"""Preprocessing against transformers' Pillow processor."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from editscore.models.vlm.images import PixelRule, read_pixel_rule
from editscore.types import Image, InvalidInputError

QWEN2_5 = {"min_pixels": 3136, "max_pixels": 50_000, "patch_size": 14}
QWEN3 = {"size": {"shortest_edge": 4096, "longest_edge": 65_536}, "patch_size": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def noise(width: int, height: int) -> Image:
    return Image(width, height, np.random.default_rng(width * height).integers(0, 256, (height, width, 3), dtype=np.uint8).tobytes())


def read_rule(folder: Path, published: dict[str, Any] | None, pixels: dict[str, Any] | None = None) -> PixelRule:
    if published is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(published))
    size = (published or {}).get("patch_size", 14)
    return read_pixel_rule(folder, SimpleNamespace(patch_size=size, spatial_merge_size=2, temporal_patch_size=2), pixels or {})


@pytest.mark.parametrize("published", [QWEN2_5, QWEN3], ids=["qwen2_5", "qwen3"])
@settings(max_examples=25, deadline=None)
@given(width=st.integers(8, 400), height=st.integers(8, 400))
def test_patches_are_those_of_transformers(
    tmp_path_factory: pytest.TempPathFactory, published: dict[str, Any], width: int, height: int
) -> None:
    rule = read_rule(tmp_path_factory.mktemp("rule"), published)
    image = noise(width, height)
    out = Qwen2VLImageProcessorPil(**published)(images=[PIL.Image.frombytes("RGB", (width, height), image.pixels)], return_tensors="np")
    mine = rule.prepare(image)
    assert [1, *mine.grid] == out["image_grid_thw"][0].tolist()
    assert mine.grid == rule.grid(image)
    np.testing.assert_allclose(mine.patches, out["pixel_values"], atol=2e-6, rtol=0)


def test_without_a_file_the_limits_are_those_of_transformers(tmp_path: Path) -> None:
    rule, peer = read_rule(tmp_path, None), Qwen2VLImageProcessorPil()
    assert (rule.min_pixels, rule.max_pixels) == (peer.size["shortest_edge"], peer.size["longest_edge"])
    assert (rule.mean, rule.std) == (tuple(peer.image_mean), tuple(peer.image_std))


def test_pixels_of_editscore_json_go_first(tmp_path: Path) -> None:
    image = noise(300, 200)
    assert read_rule(tmp_path, QWEN2_5, {"resize": [84, 56]}).grid(image) == (4, 6)
    assert read_rule(tmp_path, QWEN2_5, {"min_pixels": 784, "max_pixels": 784}).grid(image) == (2, 2)
    digests = {read_rule(tmp_path, QWEN2_5, p).digest for p in ({}, {"resize": [84, 56]}, {"max_pixels": 50_000}, {"max_pixels": 40_000})}
    assert len(digests) == 3, "the same rule has the same digest, another rule another"


@pytest.mark.parametrize("pixels", [{"resize": [84, 50]}, {"resize": [0, 28]}, {"min_pixels": 9, "max_pixels": 10}, {"max_pixel": 9}])
def test_a_rule_that_cannot_be_kept_is_refused(tmp_path: Path, pixels: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="pixels"):
        read_rule(tmp_path, QWEN2_5, pixels)


def test_a_sliver_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="200 times"):
        read_rule(tmp_path, QWEN2_5).grid(noise(2001, 10))


def test_a_resize_is_pillows_bicubic(tmp_path: Path) -> None:
    image = noise(120, 90)
    rule = read_rule(tmp_path, QWEN2_5 | {"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}, {"resize": [28, 28]})
    resized = PIL.Image.frombytes("RGB", (120, 90), image.pixels).resize((28, 28), PIL.Image.Resampling.BICUBIC)
    first_row = rule.prepare(image).patches[0].reshape(3, 2, 14, 14)[:, 0, 0] * 255
    np.testing.assert_allclose(first_row, np.asarray(resized)[0, :14].T, atol=1e-3)
