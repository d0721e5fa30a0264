"""`append_kv`: every backend, type and layout against a loop that places one number at a time as the docstring of the op says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from editscore_kernels import explain
from editscore_kernels.append_kv import append_kv
from editscore_kernels.kv import PAGE_TOKENS
from torch import Tensor

BACKENDS = [name for name, answer in explain("append_kv") if answer == "yes"]
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
NUM_PAGES = 5


def random_pages(num_heads: int, head_dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    k, v = torch.randn(2, NUM_PAGES, num_heads, PAGE_TOKENS, head_dim, generator=generator).to(dtype)
    return k, v


def placed(k: Tensor, v: Tensor, k_pages: Tensor, v_pages: Tensor, slots: list[int], layout: str) -> tuple[Tensor, Tensor]:
    """Copies of the pages with the tokens in them."""
    pair = 2 if layout == "packed" and k.dtype.itemsize == 2 else 1
    k_pages, v_pages = k_pages.clone(), v_pages.clone()
    num_heads, head_dim = k.shape[1:]
    for n, slot in enumerate(slots):
        if slot < 0:
            continue
        page, t = divmod(slot, PAGE_TOKENS)
        for h in range(num_heads):
            k_memory, v_memory = k_pages[page, h].view(-1), v_pages[page, h].view(-1)
            for d in range(head_dim):
                k_place = (d // pair * PAGE_TOKENS + t) * pair + d % pair if layout == "packed" else t * head_dim + d
                v_place = (t // pair * head_dim + d) * pair + t % pair if layout == "packed" else t * head_dim + d
                k_memory[k_place], v_memory[v_place] = k[n, h, d], v[n, h, d]
    return k_pages, v_pages


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["plain", "packed"])
@pytest.mark.parametrize("shape", [(1, 32), (3, 16)], ids=str)
def test_every_number_is_where_the_layout_says(backend: str, dtype: torch.dtype, layout: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    slots = rng.permutation(NUM_PAGES * PAGE_TOKENS)[:21].tolist()
    slots[3] = slots[20] = -1
    k, v = torch.randn(2, len(slots), *shape, generator=torch.Generator().manual_seed(2)).to(dtype)
    k_pages, v_pages = random_pages(*shape, dtype)
    expected = placed(k, v, k_pages, v_pages, slots, layout)
    append_kv(k, v, k_pages, v_pages, torch.tensor(slots), layout=layout, backend=backend)  # type: ignore[arg-type]
    assert torch.equal(k_pages, expected[0])
    assert torch.equal(v_pages, expected[1])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", ["plain", "packed"])
def test_strided_and_empty_input(backend: str, layout: str) -> None:
    """Keys as a slice of a fused projection, heads or numbers in another order; no tokens; only dropped ones."""
    fused = torch.randn(7, 3, 2, 48, generator=torch.Generator().manual_seed(3)).bfloat16()
    slots = [70, 3, -1, 16, 17, 0, 41]
    reordered = fused.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2)  # the last dimension has stride 2
    for k, v in ((fused[:, :, 0], fused[:, :, 1]), (reordered[:, :, 0], reordered[:, :, 1])):
        k_pages, v_pages = random_pages(3, 48, torch.bfloat16)
        expected = placed(k, v, k_pages, v_pages, slots, layout)
        append_kv(k, v, k_pages, v_pages, torch.tensor(slots), layout=layout, backend=backend)  # type: ignore[arg-type]
        assert torch.equal(k_pages, expected[0])
        assert torch.equal(v_pages, expected[1])
    k_pages, v_pages = random_pages(3, 48, torch.bfloat16)
    before = k_pages.clone(), v_pages.clone()
    empty = torch.zeros(0, dtype=torch.int64)
    append_kv(fused[:0, :, 0], fused[:0, :, 1], k_pages, v_pages, empty, layout=layout, backend=backend)  # type: ignore[arg-type]
    dropped = torch.full((7,), -1)
    append_kv(fused[:, :, 0], fused[:, :, 1], k_pages, v_pages, dropped, layout=layout, backend=backend)  # type: ignore[arg-type]
    assert torch.equal(k_pages, before[0])
    assert torch.equal(v_pages, before[1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_bad_input_is_named_and_nothing_is_written(backend: str) -> None:
    k_pages, v_pages = random_pages(2, 16, torch.float32)
    before = k_pages.clone()
    k = torch.ones(2, 2, 16)
    good = torch.tensor([0, 1])
    beyond = torch.tensor([0, NUM_PAGES * PAGE_TOKENS])
    for name, arguments in {
        "slots: 80": (k, k, k_pages, v_pages, beyond),
        "slots: expected": (k, k, k_pages, v_pages, good.int()),
        "k: expected": (k[:1], k, k_pages, v_pages, good),
        "v: expected": (k, k[:, :1], k_pages, v_pages, good),
        "v: torch.float64": (k, k.double(), k_pages, v_pages, good),
        "v_pages: expected": (k, k, k_pages, v_pages[:, :1], good),
        "k_pages: expected": (k, k, k_pages.transpose(2, 3), v_pages, good),
    }.items():
        with pytest.raises(ValueError, match=f"^{name}"):
            append_kv(*arguments, backend=backend)  # type: ignore[arg-type]
    if backend == "cpu":  # past the checks of the function, C++ looks for itself
        with pytest.raises(ValueError, match=r"^slots: 80"):
            torch.ops.editscore.append_kv(k, k, k_pages, v_pages, beyond, "packed", "cpu")
    assert torch.equal(k_pages, before)


@pytest.mark.parametrize("backend", BACKENDS)
def test_torch_knows_the_op(backend: str) -> None:
    k_pages, v_pages = random_pages(2, 16, torch.float32)
    arguments = (torch.ones(2, 2, 16), torch.ones(2, 2, 16), k_pages, v_pages, torch.tensor([5, -1]), "packed", backend)
    torch.library.opcheck(torch.ops.editscore.append_kv.default, arguments)
