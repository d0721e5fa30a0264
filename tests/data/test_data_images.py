"""Decoding: every kind of image becomes the RGB bytes that the written rules say, or an error that names field and file."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from editscore.data import decode_image, load_sample, read_image, to_image
from editscore.types import MAX_IMAGE_PIXELS, EditSample, Image, InvalidInputError

rng = np.random.default_rng(5)
RGB = rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)
GRAY = RGB[:, :, 0]
ALPHA = rng.integers(0, 256, (6, 9, 1), dtype=np.uint8)


def pixels(image: Image) -> np.ndarray:
    return np.frombuffer(image.pixels, np.uint8).reshape(image.height, image.width, 3)


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    exact = (colour.astype(float) * alpha + 255.0 * (255.0 - alpha)) / 255
    return np.floor(exact + 0.5).astype(np.uint8)


def encoded(image: PIL.Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@settings(deadline=None)
@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=5).map(lambda s: (*s[:2], 4))))
def test_alpha_lies_over_white_in_arrays_and_files(rgba: np.ndarray) -> None:
    expected = over_white(rgba[:, :, :3], rgba[:, :, 3:])
    np.testing.assert_array_equal(pixels(to_image(rgba)), expected)
    np.testing.assert_array_equal(pixels(decode_image(encoded(PIL.Image.fromarray(rgba)))), expected)


@settings(deadline=None)
@given(st.sampled_from([np.uint16, np.float32, np.float64]), st.integers(0, 2**32 - 1))
def test_deep_samples_round_to_eight_bits(dtype: type, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 65536, (4, 5)).astype(np.uint16)
    given_values = values if dtype is np.uint16 else (values / 65535).astype(dtype)
    expected = np.floor(values / 257 + 0.5)  # v / 257 is never half way: 257 is odd
    np.testing.assert_array_equal(pixels(to_image(given_values)), np.repeat(expected[:, :, None], 3, axis=2))


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (RGB, RGB),
        (GRAY, np.dstack([GRAY] * 3)),
        (GRAY[:, :, None], np.dstack([GRAY] * 3)),
        (np.concatenate([GRAY[:, :, None], ALPHA], 2), np.dstack([over_white(GRAY, ALPHA[:, :, 0])] * 3)),
        (GRAY > 127, np.dstack([np.where(GRAY > 127, 255, 0)] * 3)),
        (np.asfortranarray(RGB)[::-1], RGB[::-1]),
        (np.full((1, 1), 7, np.uint8), np.full((1, 1, 3), 7)),
    ],
    ids=["rgb", "gray", "gray-1", "gray-alpha", "bool", "strided", "one-pixel"],
)
def test_arrays(array: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(pixels(to_image(array)), expected)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (RGB.astype(np.int64), "dtype int64"),
        (RGB.astype(np.float32), "0..1"),
        (np.full((2, 2), np.nan), "finite"),
        (RGB.transpose(2, 0, 1), "channels last"),
        (np.zeros((2, 3, 4, 3), np.uint8), "shape"),
        (np.zeros((0, 4, 3), np.uint8), "empty side"),
        (np.array([["a"]]), "dtype"),
        ([[1, 2]], "not list"),
        (3.5, "not float"),
    ],
)
def test_arrays_that_are_refused(array: Any, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words) as caught:
        to_image(array, "edited")
    assert caught.value.field == "edited" and str(caught.value).startswith("edited: ")


def test_file_modes(tmp_path: Path) -> None:
    rgb = PIL.Image.fromarray(RGB)
    palette = rgb.quantize(8)
    clear = palette.copy()
    clear.info["transparency"] = 0
    deep = rng.integers(0, 65536, (6, 9)).astype(np.uint16)
    index = np.asarray(clear)
    plain = np.asarray(palette.convert("RGB"))
    cases: dict[str, tuple[bytes, np.ndarray]] = {
        "rgb": (encoded(rgb), RGB),
        "gray": (encoded(rgb.convert("L")), np.dstack([np.asarray(rgb.convert("L"))] * 3)),
        "one bit": (encoded(PIL.Image.fromarray(GRAY > 99)), np.dstack([np.where(GRAY > 99, 255, 0)] * 3)),
        "palette": (encoded(palette), plain),
        "palette with a clear entry": (encoded(clear), np.where((index == 0)[:, :, None], 255, plain)),
        "16 bit": (encoded(PIL.Image.fromarray(deep)), np.dstack([np.floor(deep / 257 + 0.5)] * 3)),
        "16 bit tiff": (encoded(PIL.Image.fromarray(deep), "TIFF"), np.dstack([np.floor(deep / 257 + 0.5)] * 3)),
        "cmyk tiff": (encoded(PIL.Image.fromarray(np.dstack([255 - RGB, GRAY * 0]), "CMYK"), "TIFF"), RGB),
        "animation": (encoded(palette, "GIF", save_all=True, append_images=[palette.rotate(180)]), plain),
        "animated png": (encoded(rgb, save_all=True, append_images=[rgb.rotate(180)]), RGB),
        "webp": (encoded(rgb, "WEBP", lossless=True), RGB),
        "colour key": (encoded(rgb, transparency=tuple(RGB[0, 0].tolist())), np.where((RGB[0, 0] == RGB).all(2, keepdims=True), 255, RGB)),
    }
    for name, (data, expected) in cases.items():
        np.testing.assert_array_equal(pixels(decode_image(data)), expected, err_msg=name)
        path = tmp_path / "file.bin"  # the content tells the kind, the name does not
        path.write_bytes(data)
        np.testing.assert_array_equal(pixels(read_image(path)), expected, err_msg=name)


def test_exif_orientation_is_applied() -> None:
    upright = {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: np.rot90(RGB, -1),
        7: RGB[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(RGB, 1),
    }
    for orientation, expected in upright.items():
        exif = PIL.Image.Exif()
        exif[0x0112] = orientation
        stored = PIL.Image.fromarray(RGB)
        for kind in ("PNG", "TIFF", "WEBP"):
            options = {"lossless": True} if kind == "WEBP" else {}
            data = encoded(stored, kind, exif=exif, **options)
            np.testing.assert_array_equal(pixels(decode_image(data)), expected, err_msg=f"{kind} {orientation}")
        opened = PIL.Image.open(io.BytesIO(encoded(stored, exif=exif)))
        np.testing.assert_array_equal(pixels(to_image(opened)), expected)


def test_unreadable_exif_counts_as_none() -> None:
    data = encoded(PIL.Image.fromarray(RGB), exif=b"Exif\x00\x00broken header")
    np.testing.assert_array_equal(pixels(decode_image(data)), RGB)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\x00" * 50)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(30_000, 30_000), (MAX_IMAGE_PIXELS + 1, 1), (14_000, 13_000)])
def test_a_bomb_is_refused_by_its_header(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidInputError, match=r"178,956,970 pixels"):
        decode_image(png_header(*size), "source", "bomb.png")


@pytest.mark.filterwarnings("error")
def test_108_megapixels_work_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "large.jpg"
    PIL.Image.new("L", (12_000, 9_000), 40).save(path)
    image = read_image(path)
    assert (image.width, image.height) == (12_000, 9_000) and image.pixels[-3:] == b"\x28\x28\x28"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_truncation_is_an_error_at_every_length(kind: str) -> None:
    image = PIL.Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    data = encoded(image, kind)
    whole = pixels(decode_image(data))
    for length in range(0, len(data), max(1, len(data) // 40)):
        try:
            cut = decode_image(data[:length], "source", "cut.bin")
        except InvalidInputError as error:
            assert error.field == "source" and "cut.bin" in str(error)
        else:  # a trailer may be missing, a pixel may not
            np.testing.assert_array_equal(pixels(cut), whole)


@pytest.mark.filterwarnings("error")
@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "WEBP"]))
def test_damaged_bytes_never_raise_anything_else(seed: int, kind: str) -> None:
    generator = np.random.default_rng(seed)
    data = bytearray(encoded(PIL.Image.fromarray(RGB), kind))
    for _ in range(int(generator.integers(1, 12))):
        data[int(generator.integers(len(data)))] = int(generator.integers(256))
    try:
        decode_image(bytes(data), "source", "file")
    except InvalidInputError as error:
        assert "file" in str(error)


def test_files_that_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "vector.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    cases = {
        str(tmp_path / "gone.png"): "No such file",
        str(tmp_path): "is a folder",
        str(tmp_path / "text.png"): "no image of a known kind",
        str(tmp_path / "empty.png"): "no image of a known kind",
        str(tmp_path / "vector.eps"): "no image of a known kind",
        "/dev/zero": "not a regular file",
        "https://example.org/a.png": "download it",
        "nul\0byte": "null byte",
    }
    for path, words in cases.items():
        with pytest.raises(InvalidInputError, match=words) as caught:
            read_image(path, "edited")
        assert caught.value.field == "edited" and path in str(caught.value)
    with pytest.raises(InvalidInputError, match="empty path"):
        read_image("", "edited")


def test_load_sample_resolves_both_images_and_names_the_field(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    PIL.Image.fromarray(RGB).save(path)
    sample = load_sample(EditSample(source=str(path), edited=to_image(RGB), instruction="make it red", id="a"))
    assert sample.source == sample.edited == to_image(RGB) and sample.id == "a"
    assert load_sample(sample) is sample
    with pytest.raises(InvalidInputError, match=r"^edited: .*gone\.png"):
        load_sample(EditSample(source=str(path), edited=str(tmp_path / "gone.png"), instruction="x"))


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "empty"), (" \n\t", "empty"), ("x" * 10_001, "10,001 characters; the limit is 10,000"), ("a\ud800", "surrogate")],
)
def test_instructions_that_are_refused(text: str, words: str) -> None:
    image = to_image(RGB)
    with pytest.raises(InvalidInputError, match=words) as caught:
        load_sample(EditSample(source=image, edited=image, instruction=text))
    assert caught.value.field == "instruction"


def test_an_instruction_of_10000_characters_is_fine() -> None:
    image = to_image(RGB)
    load_sample(EditSample(source=image, edited=image, instruction="x" * 10_000))
