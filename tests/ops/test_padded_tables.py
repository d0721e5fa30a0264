"""Padding of tables for a captured graph changes no bit of a real row, on the reference and on the host twins of the CUDA kernels."""

from __future__ import annotations

import pytest
import torch
from attention_cases import decode_paths, make_case
from cuda_attention import ARCHITECTURES, CONFIGS, run_twin
from editscore_kernels.shared_prefix_attention import Attended, shared_prefix_attention
from padded_tables import padded


def assert_padding_is_nothing(got: Attended, plain: Attended) -> None:
    rows = len(plain.out)
    for padded_field, field in zip(got, plain, strict=True):
        assert torch.equal(padded_field[:rows], field)
    assert not got.out[rows:].any() and bool((got.lse[rows:] == -torch.inf).all()) and not got.status.any()


def test_on_the_reference() -> None:
    case = make_case(decode_paths([304, 64], 4, [1, 40, 17]), 2, 3, 32, 1).to(torch.float32)
    wide, tables = padded(case)
    plain = shared_prefix_attention(case.q, case.k_pages, case.v_pages, case.tables, scale=case.scale, backend="reference")
    got = shared_prefix_attention(wide.q, case.k_pages, case.v_pages, tables, scale=case.scale, backend="reference")
    assert_padding_is_nothing(got, plain)


@pytest.mark.parametrize("num_splits", [1, 2])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_on_the_host_twins(arch: int, num_splits: int) -> None:
    config = CONFIGS[0]
    case = make_case(decode_paths([304, 64], 4, [1, 40, 17]), 2, 3, 32, 2).to(config.dtype)
    wide, tables = padded(case)
    got, _ = run_twin(arch, config, wide, tables=tables, num_splits=num_splits)
    assert_padding_is_nothing(got, run_twin(arch, config, case, num_splits=num_splits)[0])
