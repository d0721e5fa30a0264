"""The Python seat of the CUDA attention without a GPU: it passes the numbers that the binding names, in that order."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from attention_cases import attend, decode_paths, make_case
from cuda_attention import ARCHITECTURES
from editscore_kernels import BackendError
from editscore_kernels._native_cuda_attention import call_attention, choose_splits
from editscore_kernels.shared_prefix_attention import TABLE
from twin_module import ROOT, load_twin


def argument_names() -> list[str]:
    """Of the binding, in order, from its source."""
    source = (ROOT / "csrc" / "bindings" / "attention_cuda.cpp").read_text()
    signature = re.search(r"void shared_prefix_attention_cuda\((.*?)\)", source, re.S)
    assert signature is not None
    return re.findall(r"(?:int|uintptr_t|int64_t|double) (\w+)", signature.group(1))


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("num_splits", [0, 1, 2])
def test_the_call_passes_what_the_binding_names(arch: int, num_splits: int) -> None:
    case = make_case(decode_paths([300, 40], 3, [9, 70]), 2, 3, 32, 1).to(torch.bfloat16)

    def launch(*arguments: Any) -> None:
        names = argument_names()
        assert len(names) == len(arguments)
        given = dict(zip(names, arguments, strict=True))
        assert given.pop("stream") == 77
        assert given.pop("type") == 1
        given["num_queries_per_head"] = given.pop("num_heads") // given["num_kv_heads"]
        given["scale_log2e"] = given.pop("scale") * math.log2(math.e)
        given["q_numbers"] = case.q.numel()
        load_twin("shared_prefix_attention").shared_prefix_attention(arch, 2, False, given)

    tables = case.tables.tensors(torch.device("cpu"))
    out, lse, status = call_attention(launch, case.q, case.k_pages, case.v_pages, tables, case.scale, num_splits, 8, 77)
    expected = attend(case)
    torch.testing.assert_close(out.double(), expected[0], rtol=0, atol=0.02)  # bf16 numbers below 2
    torch.testing.assert_close(lse.double(), expected[1], rtol=1e-5, atol=1e-5)
    assert not status.any()


def test_splits_fill_the_processors_and_never_exceed_the_chunks() -> None:
    assert choose_splits(0, 8, 108, 36) == 14
    assert choose_splits(0, 1152, 108, 36) == 1
    assert choose_splits(0, 1, 108, 5) == 5
    assert choose_splits(7, 8, 108, 36) == 7
    assert choose_splits(3, 0, 108, 0) == 1


def test_tensors_of_the_cpu_are_told_why_not() -> None:
    case = make_case(decode_paths([40], 1, [9]), 1, 1, 32, 1)
    cuda = next(candidate for candidate in TABLE.candidates if candidate.backend == "cuda")
    arguments = (case.q, case.k_pages, case.v_pages, case.tables.tensors(torch.device("cpu")), case.scale, "plain", 0)
    assert "cpu" in (cuda.why_not(*arguments) or "")
    assert cuda.reason(*arguments)
    with pytest.raises((BackendError, ValueError)):
        cuda.run(*arguments)
