"""The ops' tests run on one thread: shapes are tiny, and threads that wait for a busy neighbour made them minutes long."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tests of several threads set their own number."""
    torch.set_num_threads(1)
