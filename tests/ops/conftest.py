"""The ops' tests run on one thread: shapes are tiny, and threads that wait for a busy neighbour made them minutes long."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tests of several threads set their own number."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def threads_come_back() -> Iterator[None]:
    """So that a test which sets another number leaves the others theirs."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
