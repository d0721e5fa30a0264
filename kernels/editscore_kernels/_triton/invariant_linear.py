"""`invariant_linear` in Triton: one program makes one tile of the result, walking K in blocks from its beginning to its end.

What a row's bits may depend on is fixed by the layer: the tile's size by dtype and number of columns, the order of the sum by K. The
number of rows is no reason to compile anew (`do_not_specialize`), so all batches run the same machine code; the rows of a tile that is not
full repeat its last one, and are not stored.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from editscore_kernels._triton import device_why_not, is_interpreted

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Tiles of so many rows that lie over one another read the same weights at about the same time.
ROWS_OF_TILES = 8
# From so many columns on there are more tiles of 128 columns than a GPU has multiprocessors, even for one tile of rows.
WIDE_COLUMNS = 16384


@dataclass(frozen=True)
class LinearConfig:
    """A tile of `rows` x `columns`, summed in blocks of `width` along K."""

    rows: int
    columns: int
    width: int
    num_warps: int
    num_stages: int


# Never timed on a GPU. (16-bit types or not, wide or not) to configuration. 64 rows serve a decode step and a prefill alike, since both
# must take the same tile.
CONFIGS = {
    (True, True): LinearConfig(64, 128, 64, 4, 4),
    (True, False): LinearConfig(64, 64, 64, 4, 4),
    (False, True): LinearConfig(64, 128, 16, 8, 3),
    (False, False): LinearConfig(64, 64, 16, 8, 3),
}


@triton.jit(do_not_specialize=["num_rows"])
def _invariant_linear_fwd_kernel(
    x_ptr, weight_ptr, bias_ptr, out_ptr, num_rows, columns, width,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr, ROWS_OF_TILES: tl.constexpr,
    IS_WHOLE: tl.constexpr, HAS_BIAS: tl.constexpr, UPCAST_DOT: tl.constexpr,
):  # fmt: skip
    tiles_n = tl.cdiv(columns, COLUMNS)
    band = tl.program_id(0) // (ROWS_OF_TILES * tiles_n)
    in_band = tl.program_id(0) % (ROWS_OF_TILES * tiles_n)
    height = tl.minimum(tl.cdiv(num_rows, ROWS) - band * ROWS_OF_TILES, ROWS_OF_TILES)
    row = (band * ROWS_OF_TILES + in_band % height) * ROWS + tl.arange(0, ROWS)
    column = in_band // height * COLUMNS + tl.arange(0, COLUMNS)
    k = tl.arange(0, WIDTH)
    x_place = x_ptr + tl.minimum(row, num_rows - 1).to(tl.int64)[:, None] * width + k[None, :]
    weight_place = weight_ptr + tl.minimum(column, columns - 1).to(tl.int64)[None, :] * width + k[:, None]
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for begin in range(0, width, WIDTH):
        if IS_WHOLE:
            x, weight = tl.load(x_place), tl.load(weight_place)
        else:
            x = tl.load(x_place, mask=(begin + k < width)[None, :], other=0.0)
            weight = tl.load(weight_place, mask=(begin + k < width)[:, None], other=0.0)
        if UPCAST_DOT:
            total = tl.dot(x.to(tl.float32), weight.to(tl.float32), total, input_precision="ieee")
        else:
            total = tl.dot(x, weight, total, input_precision="ieee")
        x_place += WIDTH
        weight_place += WIDTH
    if HAS_BIAS:
        total += tl.load(bias_ptr + tl.minimum(column, columns - 1)).to(tl.float32)[None, :]
    is_there = (row < num_rows)[:, None] & (column < columns)[None, :]
    tl.store(out_ptr + row.to(tl.int64)[:, None] * columns + column[None, :], total.to(out_ptr.dtype.element_ty), mask=is_there)


def why_not(x: Tensor, weight: Tensor, bias: Tensor | None) -> str | None:
    """What this kernel cannot do."""
    if x.dtype not in DTYPES:
        return f"x of {x.dtype}: the reference only"
    return device_why_not("x", x.device)


def config_of(dtype: torch.dtype, columns: int) -> LinearConfig:
    """The configuration of a layer; the number of rows has no say."""
    return CONFIGS[dtype.itemsize == 2, columns >= WIDE_COLUMNS]


def invariant_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x [M, K], weight [N, K], bias [N] or None; returns [M, N]."""
    (num_rows, width), columns = x.shape, len(weight)
    out = x.new_empty(num_rows, columns)
    if not out.numel():
        return out
    # Always at a multiple of 16 bytes: the address is something that Triton compiles for.
    x = x.contiguous() if x.data_ptr() % 16 == 0 else x.clone(memory_format=torch.contiguous_format)
    config = config_of(x.dtype, columns)
    _invariant_linear_fwd_kernel[(triton.cdiv(num_rows, config.rows) * triton.cdiv(columns, config.columns),)](
        x, weight.contiguous(), x if bias is None else bias, out, num_rows, columns, width,
        ROWS=config.rows, COLUMNS=config.columns, WIDTH=config.width, ROWS_OF_TILES=ROWS_OF_TILES, IS_WHOLE=width % config.width == 0,
        HAS_BIAS=bias is not None, UPCAST_DOT=is_interpreted() and x.dtype == torch.bfloat16,
        num_warps=config.num_warps, num_stages=config.num_stages,
    )  # fmt: skip
    return out
