"""The processes that share one model, each on a device of its own: how they meet, and the one thing that they do together."""

from __future__ import annotations

import os
import socket
import sys
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

# A rank that waits longer for another than this gives up. Ranks are in step, so that what they wait for is milliseconds away.
TIMEOUT_S = 60.0


class RanksError(RuntimeError):
    """The processes that share a model lost one of them, or do not compute the same any more. None may go on."""


class Ranks:
    """This process among those that share a model: its number, how many there are, and `gather`, on which everything rests."""

    def __init__(self, rank: int, num_ranks: int) -> None:
        self.rank, self.num_ranks = rank, num_ranks
        self._store: Any = None

    def listen(self) -> int:
        """Opens the place where the others find this one, on the loopback interface; returns its port."""
        from torch import distributed

        door = socket.create_server(("127.0.0.1", 0))
        port = int(door.getsockname()[1])
        timeout = timedelta(seconds=TIMEOUT_S)
        self._store = distributed.TCPStore(  # type: ignore[attr-defined]
            "127.0.0.1", port, self.num_ranks, True, timeout, wait_for_workers=False, master_listen_fd=door.detach()
        )
        return port

    def join(self, port: int, device: torch.device) -> None:
        """Comes back when all have called it. NCCL between GPUs (never run), gloo between CPU processes, over the loopback interface."""
        from torch import distributed

        if sys.platform == "linux":
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        timeout = timedelta(seconds=TIMEOUT_S)
        store = self._store or distributed.TCPStore("127.0.0.1", port, self.num_ranks, False, timeout)  # type: ignore[attr-defined]
        is_cuda = device.type == "cuda"
        distributed.init_process_group(
            "nccl" if is_cuda else "gloo",
            store=store,
            rank=self.rank,
            world_size=self.num_ranks,
            timeout=timeout,
            device_id=device if is_cuda else None,
        )
        self.agree("the number of ranks", torch.tensor([self.num_ranks], device=device))

    def leave(self) -> None:
        """Undoes `join`; the others may be gone."""
        from torch import distributed

        if distributed.is_initialized():
            distributed.destroy_process_group()
        self._store = None

    def gather(self, x: Tensor) -> list[Tensor]:
        """The tensors that all ranks bring, which are of one shape, in the order of the ranks. RanksError when one does not come."""
        from torch import distributed

        parts = [torch.empty_like(x) for _ in range(self.num_ranks)]
        x = x.contiguous()
        try:
            distributed.all_gather(parts, x)
        except RuntimeError as error:
            raise RanksError(f"the devices that share the model lost each other: {error}") from error
        return parts

    def sum(self, x: Tensor) -> Tensor:
        """The sum of all ranks' tensors, added in the order of the ranks, in float32, and rounded once.

        An `all_reduce` adds in an order that depends on where in the buffer an element lies, which is where its row stands in the batch:
        from three ranks on the bits of an answer would depend on its neighbours.
        """
        first, *rest = self.gather(x)
        total = first.float()
        for part in rest:
            total = total + part.float()
        return total.to(x.dtype)

    def agree(self, what: str, *values: Tensor) -> None:
        """Raises RanksError, on every rank, unless all of them bring the same integers."""
        mine = torch.stack([checksum for value in values for checksum in (_length(value), _checksum(value))])
        everyone = torch.stack(self.gather(mine)).cpu()
        strangers = [rank for rank, theirs in enumerate(everyone) if not torch.equal(theirs, everyone[0])]
        if strangers:
            raise RanksError(f"the devices that share the model went apart: {what} differ between rank 0 and rank {strangers[0]}")


def _length(x: Tensor) -> Tensor:
    return torch.tensor(x.numel(), dtype=torch.int64, device=x.device)


def _checksum(x: Tensor) -> Tensor:
    """A hash that depends on the order; int64 wraps around."""
    flat = x.reshape(-1).to(torch.int64)
    place = torch.arange(1, len(flat) + 1, device=x.device)
    return ((flat + 1) * (place * 6364136223846793005 + 1442695040888963407)).sum()
