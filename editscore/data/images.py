"""Safe image decoding: one policy for every way an image comes in.

The rules, in this order (docs/cli.md repeats them for users):
- Files must be one of `FORMATS`. Formats that start another program (EPS) or that hold vectors are refused.
- The size is read from the header and checked against `MAX_IMAGE_PIXELS` before a pixel is decoded.
- A file that ends early or is damaged is an error; it is never filled with gray.
- Of an animation, a multi-page file or a stereo pair the first frame counts.
- EXIF orientation is applied. An EXIF block that cannot be read counts as none. Colour profiles are not applied.
- Gray becomes three equal channels; palettes are looked up; CMYK and YCbCr go through Pillow's plain conversion.
- 16-bit samples become round(v / 257); Pillow itself reads 16-bit *colour* files as v >> 8. Floats must lie in 0..1.
- Transparency is laid over white: round((colour * alpha + 255 * (255 - alpha)) / 255).
"""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from editscore.types import MAX_IMAGE_PIXELS, Image, InvalidInputError

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
"""What may be decoded; a subset where Pillow was built without one of them."""


_ORIENTATION = 0x0112  # EXIF tag
_TRANSPOSE = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}


def to_image(value: Any, field: str = "image") -> Image:
    """`value` as an RGB `Image`: a path, an `Image`, a Pillow image, or an array [H, W], [H, W, 1|2|3|4].

    Arrays are bool, uint8, uint16 or float (0..1), channels last: gray, gray + alpha, RGB, RGBA; whatever has `__array__` will do.
    Raises InvalidInputError(field) naming the file, where there is one.
    """
    if isinstance(value, Image):
        return value
    if isinstance(value, (str, os.PathLike)):
        return read_image(value, field)
    if isinstance(value, PIL.Image.Image):
        return _from_pillow(value, field, "")
    if hasattr(value, "__array__"):
        return _from_array(np.asarray(value), field)
    raise InvalidInputError(field, f"needs a path, an Image, a Pillow image or an array, not {type(value).__name__}")


def read_image(path: str | os.PathLike[str], field: str = "image") -> Image:
    """The image file at `path`. Raises InvalidInputError(field) naming the file and what is wrong with it."""
    name = os.fspath(path)
    if not name:
        raise InvalidInputError(field, "is an empty path")
    try:
        kind = os.stat(name).st_mode
    except (OSError, ValueError) as cause:
        reason = "is an address; download it and give the path" if "://" in name else getattr(cause, "strerror", "") or str(cause)
        raise InvalidInputError(field, f"{name}: {reason}") from cause
    if not stat.S_ISREG(kind):
        raise InvalidInputError(field, f"{name}: is {'a folder' if stat.S_ISDIR(kind) else 'not a regular file'}")
    try:
        with open(name, "rb") as file:
            return _decode(file, field, f"{name}: ")
    except OSError as cause:
        raise InvalidInputError(field, f"{name}: {cause.strerror or cause}") from cause


def decode_image(data: bytes, field: str = "image", name: str = "") -> Image:
    """The image inside an encoded file's bytes; `name` stands in messages for the file."""
    return _decode(io.BytesIO(data), field, f"{name}: " if name else "")


def _decode(file: Any, field: str, where: str) -> Image:
    with warnings.catch_warnings():
        # Pillow warns from 89 MP on (the limit here is MAX_IMAGE_PIXELS) and of every odd tag; what matters is raised below.
        warnings.simplefilter("ignore")
        with _open(file, field, where) as opened:
            return _from_pillow(opened, field, where)


def _open(file: Any, field: str, where: str) -> PIL.Image.Image:
    try:
        return PIL.Image.open(file, formats=_known_formats())
    except PIL.Image.DecompressionBombError as cause:
        raise InvalidInputError(field, f"{where}is over the limit of {MAX_IMAGE_PIXELS:,} pixels") from cause
    except PIL.UnidentifiedImageError as cause:
        raise InvalidInputError(field, f"{where}is no image of a known kind ({', '.join(FORMATS)}), or its header is damaged") from cause
    except Exception as cause:  # hostile headers raise anything, from struct.error to RecursionError; all mean the same here
        raise InvalidInputError(field, f"{where}cannot be read as an image: {_reason(cause)}") from cause


def _known_formats() -> list[str]:
    PIL.Image.init()
    return [name for name in FORMATS if name in PIL.Image.OPEN]


def _from_pillow(image: PIL.Image.Image, field: str, where: str) -> Image:
    _check_size(image.width, image.height, field, where)
    try:
        image.load()
        rgb = _to_rgb(image, field)
        method = _TRANSPOSE.get(_orientation(image))
        rgb = rgb if method is None else rgb.transpose(method)
        return Image(width=rgb.width, height=rgb.height, pixels=rgb.tobytes())
    except InvalidInputError as cause:
        raise InvalidInputError(field, f"{where}{str(cause).removeprefix(f'{field}: ')}") from cause
    except Exception as cause:  # a damaged file raises OSError, SyntaxError, struct.error, zlib.error ... by format and by place
        raise InvalidInputError(field, f"{where}is truncated, damaged or of an unknown kind: {_reason(cause)}") from cause


def _reason(cause: Exception) -> str:
    return "not enough memory" if isinstance(cause, MemoryError) else str(cause) or type(cause).__name__


def _to_rgb(image: PIL.Image.Image, field: str) -> PIL.Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I;16"):
        return PIL.Image.fromarray(_to_bytes(np.asarray(image).astype(np.uint16), field)).convert("RGB")
    if image.mode == "I":  # 32 bits hold a 16-bit file
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise InvalidInputError(field, f"holds 32-bit values {values.min()}..{values.max()}; only 0..65535 has a known meaning")
        return PIL.Image.fromarray(_to_bytes(values.astype(np.uint16), field)).convert("RGB")
    if image.mode == "F":
        return PIL.Image.fromarray(_to_bytes(np.asarray(image), field)).convert("RGB")
    if image.mode == "LAB":
        raise InvalidInputError(field, "has colour mode LAB; save it as RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        over_white = PIL.Image.new("RGB", image.size, (255, 255, 255))
        over_white.paste(rgba.convert("RGB"), mask=rgba.getchannel("A"))
        return over_white
    return image.convert("RGB")


def _orientation(image: PIL.Image.Image) -> int:
    # Read after load(): Pillow turns a TIFF while it decodes and then drops the tag.
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, OSError, struct.error):
        return 1


def _from_array(array: npt.NDArray[Any], field: str) -> Image:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4):
        first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        hint = "; move the channels last" if first else ""
        raise InvalidInputError(field, f"has shape {tuple(array.shape)}, not [H, W] or [H, W, 1|2|3|4]{hint}")
    height, width, channels = array.shape
    _check_size(width, height, field, "")
    samples = np.ascontiguousarray(_to_bytes(array, field))
    return _from_pillow(PIL.Image.fromarray(samples[:, :, 0] if channels == 1 else samples), field, "")


def _to_bytes(values: npt.NDArray[Any], field: str) -> npt.NDArray[np.uint8]:
    if values.dtype == np.bool_:
        return np.where(values, np.uint8(255), np.uint8(0))
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.uint16:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if np.issubdtype(values.dtype, np.floating):
        # A thousandth of slack: resampling in float32 overshoots by rounding, a 0..255 array by far more.
        if not np.isfinite(values).all() or values.min() < -1e-3 or values.max() > 1 + 1e-3:
            raise InvalidInputError(field, f"holds floats in {values.min():g}..{values.max():g}; they must be finite and in 0..1")
        scaled: npt.NDArray[np.uint8] = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
        return scaled
    raise InvalidInputError(field, f"has dtype {values.dtype}, not bool, uint8, uint16 or float; for 0..255 use .astype(np.uint8)")


def _check_size(width: int, height: int, field: str, where: str) -> None:
    if width < 1 or height < 1:
        raise InvalidInputError(field, f"{where}size {width}x{height} has an empty side")
    if width * height > MAX_IMAGE_PIXELS:
        raise InvalidInputError(field, f"{where}{width}x{height} is over the limit of {MAX_IMAGE_PIXELS:,} pixels")
