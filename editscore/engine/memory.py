"""How a budget of memory is spent: weights first, then the work of one call of the model, what is left holds keys and values.

The sizes of the work are upper estimates by counting what lives at the same time in transformers' classes, times 1.25 for what the
allocator loses between pieces. tests/engine/test_memory.py holds the peak of a process against the budget.
"""

from __future__ import annotations

from editscore_kernels.kv import PAGE_TOKENS

from editscore.engine.config import EngineConfig
from editscore.engine.flash import KEYS_PER_TOKEN
from editscore.models.vlm import ModelSizes
from editscore.types import InvalidInputError

MB = 2**20
# Tokenizer, grammar tables and modules: measured 125 MB for a vocabulary of 16,384 and 320 MB for one of 151,936.
FIXED_BYTES, BYTES_PER_TOKEN_ID = 100 * MB, 1536
ALLOCATOR_LOSS = 1.25
# The work of one call gets at most this share of what the weights leave.
WORK_SHARE = 0.5
MIN_CHUNK_TOKENS, MIN_IMAGE_PATCHES, MIN_ROWS = 64, 1024, 16
# A prompt and an answer of this many tokens must fit beside the weights and the least work.
ONE_REQUEST_TOKENS = 2048
TOKENS_OF_A_PROMPT = 256


def fit(config: EngineConfig, sizes: ModelSizes) -> EngineConfig:
    """The configuration with its limits lowered so that weights, work and KV store stay within `memory_gb`; as it is without one.

    Raises InvalidInputError naming `memory_gb` when weights and one request do not fit.
    """
    if config.memory_gb is None:
        return config
    free = int(config.memory_gb * 2**30) - fixed_bytes(sizes)
    keys = KEYS_PER_TOKEN if config.mode == "fast" else 0
    least, request = work_bytes(sizes, MIN_CHUNK_TOKENS, MIN_IMAGE_PATCHES, _logits(sizes, MIN_ROWS), keys), _request_bytes(sizes)
    if free < least + request:
        needed = (fixed_bytes(sizes) + least + request) / 2**30
        raise InvalidInputError(
            "memory_gb",
            f"{config.memory_gb:g} is too little: {sizes.weight_bytes / 2**30:.2f} GB of weights and a request take {needed:.2f}",
        )
    chunk, patches, logits = config.chunk_tokens, config.image_patches, min(config.logits_mb * MB, _logits(sizes, config.max_rows))
    while work_bytes(sizes, chunk, patches, logits, keys) > max(least, min(WORK_SHARE * free, free - request)):
        chunk, patches = max(MIN_CHUNK_TOKENS, chunk // 2), max(MIN_IMAGE_PATCHES, patches // 2)
        logits = max(_logits(sizes, MIN_ROWS), logits // 2)
    free -= work_bytes(sizes, chunk, patches, logits, keys)
    cache_mb = min(config.image_cache_mb, (free - request) // 8 // MB)
    num_tokens = (free - 2 * cache_mb * MB) // _stored_bytes(sizes)  # images that were prepared ahead may take as much again
    return config.model_copy(
        update={
            "chunk_tokens": chunk,
            "prefill_tokens": min(config.prefill_tokens, 8 * chunk),
            "image_patches": patches,
            "logits_mb": max(1, logits // MB),
            "image_cache_mb": cache_mb,
            "kv_memory_mb": max(1, min(config.kv_memory_mb, num_tokens * token_bytes(sizes) // MB)),
        }
    )


def _request_bytes(sizes: ModelSizes) -> int:
    """What the store must hold of a request: pages that prompt and answer begin count whole, the null page too, and it is given in MB."""
    return _stored_bytes(sizes) * (ONE_REQUEST_TOKENS + 3 * PAGE_TOKENS) + MB


def _stored_bytes(sizes: ModelSizes) -> int:
    """A token of a prompt in the store, with its share of the logits of the prompt's last one."""
    return token_bytes(sizes) + sizes.vocab_size * sizes.element_bytes // TOKENS_OF_A_PROMPT


def _logits(sizes: ModelSizes, num_rows: int) -> int:
    return num_rows * sizes.vocab_size * sizes.element_bytes


def token_bytes(sizes: ModelSizes) -> int:
    """Keys and values of one token in all layers."""
    return 2 * sizes.num_layers * sizes.num_kv_heads * sizes.head_dim * sizes.element_bytes


def fixed_bytes(sizes: ModelSizes) -> int:
    """What is there before any request."""
    return sizes.weight_bytes + FIXED_BYTES + BYTES_PER_TOKEN_ID * sizes.vocab_size


def work_bytes(sizes: ModelSizes, chunk_tokens: int, image_patches: int, logits: int, keys_per_token: int = 0) -> int:
    """The larger of a call of the language model and one of the vision tower, and `logits` bytes with their masks.

    `keys_per_token` keys and values for each of its tokens may be gathered for flash-attn.
    """
    e = sizes.element_bytes
    # Beside x and the residual: three matrices of the MLP, or queries, keys and values with the copies of the rotation.
    mlp = 3 * sizes.intermediate_size
    heads = (6 * sizes.num_heads + (12 + 2 * keys_per_token) * sizes.num_kv_heads) * sizes.head_dim
    # What all ranks bring to a sum, and the sum in float32 before and after the last of them; of logits, what all bring.
    gathered, copies = (sizes.num_ranks * e + 8, 2) if sizes.num_ranks > 1 else (0, 1)
    language = chunk_tokens * (max(mlp, heads) * e + sizes.hidden_size * (3 * e + 12 + gathered))
    # Pixels in float32 as they were prepared, joined, and in the model's dtype.
    width = max(3 * sizes.vision_intermediate_size, 10 * sizes.vision_hidden_size)
    vision = image_patches * (width * e + sizes.vision_hidden_size * 12 + sizes.patch_values * (8 + e))
    return int(ALLOCATOR_LOSS * max(language, vision) + logits * (copies + 1 / (8 * e)))
