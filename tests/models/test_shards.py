"""A model split over ranks: the plan, the sizes, the adapters, and what the ranks must agree on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_adapter import write_adapter
from thread_ranks import on_ranks
from tiny_checkpoint import write_checkpoint
from transformers import Qwen2_5_VLTextConfig, Qwen3Config

from editscore.models.vlm import AdapterError, Ranks, RanksError, SplitModel, load_model, read_sizes, share_of, why_not_split
from editscore.models.vlm.invariant import InvariantLinear, invariant_view
from editscore.models.vlm.shards import PLAN


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("base") / "model", "qwen2_5_vl")


def joined(parts: list[torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    """Shares put together along the dimension in which they are shorter than the whole; of what is not split, the first."""
    split = [dim for dim in range(like.ndim) if parts[0].shape[dim] < like.shape[dim]]
    return torch.cat(parts, dim=split[0]) if split else parts[0]


@pytest.mark.parametrize("peer", [Qwen2_5_VLTextConfig, Qwen3Config])
def test_the_plan_is_the_one_of_transformers(peer: type) -> None:
    """Qwen3-VL, whose layers are Qwen3's, has no plan of its own there. Norms of heads are on every rank."""
    theirs = {name: style for name, style in peer.base_model_tp_plan.items() if not style.startswith("replicated")}
    assert theirs == {f"layers.*.{name}": style for name, style in PLAN.items()}


@pytest.mark.parametrize("with_adapter", [False, True])
def test_shares_put_together_are_the_whole(base: Path, tmp_path: Path, with_adapter: bool) -> None:
    targets = ["q_proj", "o_proj", "gate_proj", "down_proj"]
    adapter = write_adapter(base, tmp_path / "adapter", target_modules=targets) if with_adapter else None
    whole = dict(load_model(base, adapter=adapter, packed=False).network.named_parameters())
    shares = [
        {
            name.replace("_proj.linear.", "_proj."): weight
            for name, weight in load_model(base, adapter=adapter, packed=False, ranks=Ranks(rank, 2)).network.named_parameters()
        }
        for rank in range(2)
    ]
    assert shares[0].keys() == whole.keys()
    for name, weight in whole.items():
        torch.testing.assert_close(joined([share[name] for share in shares], weight), weight, atol=1e-7, rtol=0)
    halves = {name for name, weight in whole.items() if shares[0][name].numel() * 2 == weight.numel()}
    assert len(halves) == 2 * (7 + 3) + 1, "weights, the biases of q, k and v, and the output head"


def test_an_adapter_is_checked_as_on_one_device(base: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="has no adapter_config"):
        load_model(base, adapter=tmp_path, ranks=Ranks(0, 2))
    adapter = write_adapter(base, tmp_path / "adapter")
    with pytest.raises(AdapterError, match="on one device only"):
        load_model(base, adapter=adapter, ranks=Ranks(0, 2), keep_adapter_apart=True)


def test_a_share_has_the_sizes_that_were_planned(base: Path) -> None:
    whole, model = read_sizes(base), load_model(base, ranks=Ranks(1, 2))
    assert isinstance(model, SplitModel)
    assert (model.num_ranks, model.num_heads, model.num_kv_heads) == (2, 2, 1)
    planned, actual = share_of(whole, 2), model.sizes
    of_head, of_biases = whole.vocab_size * whole.hidden_size * 4 // 2, 2 * 64 * 4  # both are planned as if they were whole
    assert planned.weight_bytes - actual.weight_bytes == of_head + of_biases
    assert (planned.num_heads, planned.num_kv_heads, planned.intermediate_size) == (2, 1, 48)
    assert (actual.num_heads, actual.num_kv_heads, actual.intermediate_size) == (2, 1, 48)
    assert share_of(whole, 1) == whole


def test_a_view_of_a_network_shares_its_ranks(base: Path) -> None:
    """Exact mode on a GPU swaps the layers of a copy."""
    ranks = Ranks(0, 2)
    network = load_model(base, packed=False, ranks=ranks).network
    block, swapped = (each.model.language_model.layers[0].mlp.down_proj for each in (network, invariant_view(network)))
    assert swapped is not block and swapped.linear.weight is block.linear.weight
    assert type(swapped.linear) is InvariantLinear and swapped._ranks is block._ranks is ranks


def test_a_tied_output_head_is_on_every_rank() -> None:
    network = load_model("nano", packed=False, ranks=Ranks(1, 2)).network
    assert network.lm_head.weight is network.model.language_model.embed_tokens.weight


def test_what_cannot_be_divided_is_counted(base: Path) -> None:
    sizes = read_sizes(base)
    assert why_not_split(sizes, 2) is None
    assert why_not_split(sizes, 4) == "2 key-value heads do not divide by 4 devices"
    assert why_not_split(sizes, 5) == (
        "2 key-value heads and 4 attention heads and 96 columns of the feed-forward blocks do not divide by 5 devices"
    )


def test_a_sum_does_not_depend_on_the_place_in_the_batch() -> None:
    x = torch.randn(3, 64, 40, generator=torch.Generator().manual_seed(0)) * 1000
    sums = on_ranks(3, lambda ranks: ranks.sum(x[ranks.rank]))
    alone = on_ranks(3, lambda ranks: torch.stack([ranks.sum(row) for row in x[ranks.rank]]))
    assert all(torch.equal(total, sums[0]) for total in [*sums, *alone])
    assert torch.equal(sums[0], (x[0] + x[1]) + x[2])
    half = on_ranks(3, lambda ranks: ranks.sum(x[ranks.rank].bfloat16()))[0]
    assert torch.equal(half, x.bfloat16().double().sum(0).bfloat16()), "rounded once"


@pytest.mark.parametrize("theirs", [[1, 2, 4], [2, 1, 3], [1, 2], [1, 2, 3, 0]])
def test_ranks_that_bring_something_else_are_told_all_of_them(theirs: list[int]) -> None:
    def work(ranks: Ranks) -> str:
        ranks.agree("tokens", torch.tensor([1, 2, 3]))
        with pytest.raises(RanksError) as caught:
            ranks.agree("tokens", torch.tensor(theirs if ranks.rank == 2 else [1, 2, 3]), torch.zeros(4, dtype=torch.int32))
        return str(caught.value)

    assert on_ranks(3, work) == ["the devices that share the model went apart: tokens differ between rank 0 and rank 2"] * 3
