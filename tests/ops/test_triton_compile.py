"""Every configuration of the Triton kernels, compiled for sm_80, sm_90 and sm_100: nothing spills, and shared memory suffices.

No GPU is needed. `make test` compiles for sm_90, `make test-slow` for the others too. Registers stand beside the configurations.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

pytest.importorskip("triton", reason="triton is not installed (`pip install editscore[gpu]`)")
if os.environ.get("TRITON_INTERPRET", "0") != "0":
    pytest.skip("TRITON_INTERPRET is set: kernels are interpreted in this process, not compiled", allow_module_level=True)

from editscore_kernels._triton import append_kv, gated_activation, sample_tokens, shared_prefix_attention
from triton_compiling import ARCHITECTURES, SHARED_LIMIT, Compiled, compile_kernel

TYPES_16 = ("bf16", "fp16")
TABLES = ("leaf_pages", "leaf_lengths", "own_pages", "seq_leaf", "row_seq", "row_lengths", "group_rows", "group_starts")
on_every_architecture = pytest.mark.parametrize(
    "architecture", [pytest.param(a, marks=() if a == 90 else pytest.mark.slow) for a in ARCHITECTURES]
)


@pytest.fixture(autouse=True)
def _cache(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))  # compiled anew, whatever lies in the user's cache
    yield


def assert_it_fits(compiled: Compiled, architecture: int) -> None:
    assert compiled.stack == 0, f"{compiled.stack} bytes of local memory: registers were spilled"
    assert compiled.registers <= 255
    assert compiled.shared <= SHARED_LIMIT[architecture]


def compile_sampler(dtype: str, config: str, architecture: int, **options: bool) -> list[Compiled]:
    chosen = sample_tokens.CONFIGS[config]
    doubles, words = ("temperature", "top_p"), ("mask", "list", "status")
    types = {f"{name}_ptr": "*i64" for name in ("top_k", "seed", "request", "position", "option_ids", "token")}
    types |= {f"{name}_ptr": "*fp64" for name in doubles} | {f"{name}_ptr": "*i32" for name in words}
    types |= {f"{name}_ptr": "*fp32" for name in ("raw", "logprob", "option")} | {"logits_ptr": f"*{dtype}"}
    shift = {"fp32": 0, "bf16": 16, "fp16": 13}[dtype]
    constants = {"KEY_SHIFT": shift, "COLUMNS": chosen.columns, "LIST_SIZE": chosen.list_size}
    return [
        compile_kernel(
            sample_tokens._sample_tokens_fwd_kernel,
            types,
            constants | {"HAS_MASK": has_mask},
            architecture,
            num_warps=chosen.num_warps,
            **options,
        )
        for has_mask in (False, True)
    ]


@on_every_architecture
@pytest.mark.parametrize("config", sample_tokens.CONFIGS)
@pytest.mark.parametrize("dtype", ["bf16", *(pytest.param(name, marks=pytest.mark.slow) for name in ("fp16", "fp32"))])
def test_sampler(config: str, dtype: str, architecture: int) -> None:
    """No fused multiply-add stands in the weights; the double precision of log-probabilities may have them."""
    for compiled in compile_sampler(dtype, config, architecture):
        assert_it_fits(compiled, architecture)
        assert not re.findall(r"fma\.\w+\.(?:ftz\.)?f32", compiled.ptx)
        # The definition's own operations, each rounded once: seven products and nine sums or differences a weight, all of them there.
        assert compiled.ptx.count("mul.rn.f32") + compiled.ptx.count("mul.f32") >= 7
        assert "div.rn.f64" in compiled.ptx, "the scale is a quotient of doubles, rounded once"


def test_a_fused_multiply_add_would_be_seen() -> None:
    assert "fma.rn.f32" in compile_sampler("bf16", "narrow", 90, enable_fp_fusion=True)[0].ptx


def compile_attention(dtype: str, head_dim: int, group: int, architecture: int, is_split: bool) -> Compiled:
    config = shared_prefix_attention.CONFIGS[dtype in TYPES_16, head_dim]
    types = {f"{name}_ptr": "*i32" for name in (*TABLES, "status")} | {f"{name}_ptr": f"*{dtype}" for name in ("q", "k", "v", "out")}
    types |= {"lse_ptr": "*fp32", "partial_ptr": "*fp32", "scale_log2": "fp32"}
    constants = {"NUM_KV_HEADS": 4, "GROUP": group, "HEAD_DIM": head_dim, "BLOCK_ROWS": config.block_rows, "TILE": config.tile_tokens}
    constants |= {"CHUNK": 256, "IS_SPLIT": is_split, "UPCAST_DOT": False, "NUM_STAGES": config.num_stages}
    kernel = shared_prefix_attention._shared_prefix_attention_fwd_kernel
    return compile_kernel(kernel, types, constants, architecture, num_warps=config.num_warps)


QUICK = {("bf16", 128, 7), ("bf16", 32, 3), ("fp32", 32, 3)}
# Registers hardly know the number of heads in a group; where they were closest to the limit several are compiled.
SHAPES = [
    *(("bf16", 128, group) for group in (1, 4, 7, 16)),
    *(("fp32", 128, group) for group in (4, 7)),
    *((dtype, head_dim, 3) for dtype in ("bf16", "fp32") for head_dim in (32, 64)),
    ("fp16", 128, 7),
    ("fp16", 32, 3),
]


@on_every_architecture
@pytest.mark.parametrize(
    ("dtype", "head_dim", "group"), [pytest.param(*shape, marks=() if shape in QUICK else pytest.mark.slow) for shape in SHAPES]
)
def test_attention(dtype: str, head_dim: int, group: int, architecture: int) -> None:
    """16-bit types use mma.sync and nothing else, all products of scores in one layout: a row's sums do not depend on the tile's others."""
    for is_split in (False, True):
        compiled = compile_attention(dtype, head_dim, group, architecture, is_split)
        assert_it_fits(compiled, architecture)
        assert "cp.async" in compiled.ptx, "keys and values are fetched ahead"
        if dtype in TYPES_16:
            assert "fma.rn.f32" not in compiled.ptx
            assert "mma.sync" in compiled.ptx
            assert not re.search(r"wgmma|tcgen05", compiled.ptx)
            assert len(set(re.findall(r"^#mma\d* = .*$", compiled.ttgir, re.MULTILINE))) == 1


@on_every_architecture
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_merge_and_append(dtype: str, architecture: int) -> None:
    types = {f"{name}_ptr": "*i32" for name in TABLES} | {"out_ptr": f"*{dtype}", "lse_ptr": "*fp32", "partial_ptr": "*fp32"}
    constants = {"NUM_KV_HEADS": 4, "GROUP": 7, "HEAD_DIM": 128, "CHUNK": 256, "BLOCK_ROWS": shared_prefix_attention.MAX_GROUP}
    merge = compile_kernel(shared_prefix_attention._merge_chunks_kernel, types, constants, architecture, num_warps=4)
    assert_it_fits(merge, architecture)
    # A merge rounds as it does in the other kernel; the logarithm of libdevice has fma.rn.ftz.f32 of its own.
    assert "fma.rn.f32" not in merge.ptx
    types = {f"{name}_ptr": f"*{dtype}" for name in ("k", "v", "k_pages", "v_pages")} | {"slots_ptr": "*i64"}
    constants = {"NUM_HEADS": 8, "HEAD_DIM": 128, "WIDTH": 1024, "PAGE": 16}
    assert_it_fits(compile_kernel(append_kv._append_kv_kernel, types, constants, architecture, num_warps=append_kv.NUM_WARPS), architecture)


@on_every_architecture
@pytest.mark.parametrize("kind", gated_activation.KINDS)
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_activation(dtype: str, kind: str, architecture: int) -> None:
    """Every product is rounded on its own and the division is exactly rounded, so the bits are those of the C++: 35 to 63 registers."""
    types = {f"{name}_ptr": f"*{dtype}" for name in ("x", "up", "out")}
    for has_up in (False, True):
        constants = {"KIND": gated_activation.KINDS[kind], "HAS_UP": has_up, "ROUND_BF16": False, "BLOCK": gated_activation.BLOCK}
        kernel = gated_activation._gated_activation_fwd_kernel
        compiled = compile_kernel(kernel, types, constants, architecture, num_warps=gated_activation.NUM_WARPS)
        assert_it_fits(compiled, architecture)
        assert not re.findall(r"fma\.\w+\.(?:ftz\.)?f32", compiled.ptx)
        assert "div.rn.f32" in compiled.ptx
        assert "div.full" not in compiled.ptx
