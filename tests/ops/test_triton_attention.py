"""The Triton attention and append_kv against a float64 loop, in the interpreter and, where there is one, on a GPU."""

import pytest
from triton_process import needs_triton, run_tests

FILE = "triton_attention.py"
pytestmark = needs_triton


def test_in_the_interpreter() -> None:
    run_tests(FILE, is_interpreted=True)


@pytest.mark.slow
def test_the_rest_in_the_interpreter() -> None:
    run_tests(FILE, is_interpreted=True, select="slow")


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    run_tests(FILE, is_interpreted=False, select="slow or not slow")
