"""Compiled and reference kernels of EditScore: ops whose backends agree, chosen by a table that can be asked."""

from editscore_kernels._dispatch import OPS, Backend, BackendChoice, BackendError, explain, use_backend
from editscore_kernels._native import build_info, instruction_sets, use_instruction_set
from editscore_kernels.sample_tokens import SampledTokens, sample_tokens

__all__ = [
    "OPS",
    "Backend",
    "BackendChoice",
    "BackendError",
    "SampledTokens",
    "build_info",
    "explain",
    "instruction_sets",
    "sample_tokens",
    "use_backend",
    "use_instruction_set",
]
