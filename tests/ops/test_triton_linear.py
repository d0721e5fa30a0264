"""The batch-invariant layers against float64 and in other company, in the interpreter and, where there is one, on a GPU."""

import pytest
from triton_process import needs_triton, run_tests

FILE = "triton_linear.py"
pytestmark = needs_triton


def test_in_the_interpreter() -> None:
    run_tests(FILE, is_interpreted=True)


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    run_tests(FILE, is_interpreted=False)
