"""Compiled and reference kernels of EditScore: ops whose backends agree, chosen by a table that can be asked."""

from editscore_kernels._dispatch import OPS, Backend, BackendChoice, BackendError, explain, use_backend
from editscore_kernels._native import build_info, instruction_set, instruction_sets, use_instruction_set
from editscore_kernels.append_kv import append_kv
from editscore_kernels.gated_activation import PreparedActivation, gated_activation
from editscore_kernels.rms_norm import rms_norm
from editscore_kernels.rotary_embedding import rotary_embedding
from editscore_kernels.sample_tokens import SampledTokens, sample_tokens
from editscore_kernels.shared_prefix_attention import Attended, PreparedAttention, shared_prefix_attention

__all__ = [
    "OPS",
    "Attended",
    "Backend",
    "BackendChoice",
    "BackendError",
    "PreparedActivation",
    "PreparedAttention",
    "SampledTokens",
    "append_kv",
    "build_info",
    "explain",
    "gated_activation",
    "instruction_set",
    "instruction_sets",
    "rms_norm",
    "rotary_embedding",
    "sample_tokens",
    "shared_prefix_attention",
    "use_backend",
    "use_instruction_set",
]
