"""Drives the host twin of the CUDA `shared_prefix_attention` with the cases that all backends are tested on."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any, NamedTuple

import torch
from attention_cases import Case
from editscore_kernels.page_tables import TableTensors
from editscore_kernels.shared_prefix_attention import CHUNK_TOKENS, Attended
from torch import Tensor
from twin_module import load_twin

PAGE = 16


class Config(NamedTuple):
    """A configuration that the twin is built with."""

    head_dim: int
    warps: int  # that compute, 16 lane rows each
    dtype: torch.dtype


CONFIGS = (Config(32, 2, torch.bfloat16), Config(64, 1, torch.bfloat16), Config(64, 4, torch.float16), Config(128, 2, torch.bfloat16))
ARCHITECTURES = (80, 90)


def twin() -> ModuleType:
    return load_twin("shared_prefix_attention")


def run_twin(
    arch: int, config: Config, case: Case, *, tables: TableTensors | None = None, num_splits: int = 1, **options: Any
) -> tuple[Attended, Any]:
    """The kernel's results and the launch's statistics; `case` is in the type of the configuration. Raises the twin's Fault."""
    tables = case.tables.tensors(torch.device("cpu")) if tables is None else tables
    rows, num_heads, width = case.q.shape
    num_kv_heads = case.k_pages.shape[1]
    max_chunks = -(-(tables.leaf_pages.shape[1] + tables.own_pages.shape[1]) * PAGE // CHUNK_TOKENS)
    items = (len(tables.group_starts) - 1 + len(tables.group_rows) * num_heads // num_kv_heads // (16 * config.warps) + 1) * num_kv_heads
    assert case.q.dtype == config.dtype
    assert width == config.head_dim
    tensors: dict[str, Tensor] = {
        "q": case.q,
        "k_pages": case.k_pages,
        "v_pages": case.v_pages,
        **tables._asdict(),
        "out": torch.full((rows, num_heads, width), math.nan, dtype=case.q.dtype),
        "lse": torch.full((rows, num_heads), math.nan),
        "status": torch.full((rows,), -7, dtype=torch.int32),
        "part_o": torch.full((rows, num_heads, max_chunks, width), math.nan),
        "part_ml": torch.full((rows, num_heads, max_chunks, 2), math.nan),
        "part_status": torch.full((num_splits, rows), -7, dtype=torch.int32),
        "arrivals": torch.zeros(items, dtype=torch.int32),
    }
    fields = {
        **{name: tensor.data_ptr() for name, tensor in tensors.items()},
        "head_dim": width,
        "q_numbers": (rows - 1) * case.q.stride(0) + (num_heads - 1) * case.q.stride(1) + width if rows else 0,
        "q_row_stride": case.q.stride(0),
        "q_head_stride": case.q.stride(1),
        "num_rows": rows,
        "num_kv_heads": num_kv_heads,
        "num_queries_per_head": num_heads // num_kv_heads,
        "num_pages": len(case.k_pages),
        "num_leaves": len(tables.leaf_lengths),
        "leaf_width": tables.leaf_pages.shape[1],
        "num_seqs": len(tables.seq_leaf),
        "own_width": tables.own_pages.shape[1],
        "num_group_rows": len(tables.group_rows),
        "num_groups": len(tables.group_starts) - 1,
        "scale_log2e": case.scale * math.log2(math.e),
        "num_splits": num_splits,
        "max_chunks": max_chunks,
    }
    stats = twin().shared_prefix_attention(arch, config.warps, config.dtype == torch.float16, fields, **options)
    assert not tensors["arrivals"].any(), "arrival counters must be zero again"
    return Attended(tensors["out"], tensors["lse"], tensors["status"]), stats
