"""What is wrong with a request before it runs, in words that name the field."""

from __future__ import annotations

from editscore_kernels.kv import PAGE_TOKENS

from editscore.engine.answers import AnswerShape
from editscore.engine.config import EngineConfig
from editscore.engine.sequences import Leaf
from editscore.engine.tables import num_pages
from editscore.models.vlm import VisionLanguageModel
from editscore.types import InvalidInputError, Request

# Below this a temperature other than 0 is refused by the sampler.
MIN_TEMPERATURE = 1e-4


def check_request(
    request: Request, shape: AnswerShape, leaf: Leaf, model: VisionLanguageModel, config: EngineConfig, store_pages: int
) -> None:
    """Raises `InvalidInputError` for a request that this model and these limits cannot run alone.

    `store_pages` are the pages of the KV store, the null page included: one pass at its longest must fit.
    """
    if 0 < request.sampling.temperature < MIN_TEMPERATURE:
        raise InvalidInputError("temperature", f"{request.sampling.temperature} is neither 0 nor at least {MIN_TEMPERATURE}")
    unknown = [name for name in request.read if name not in model.heads]
    if unknown:
        raise InvalidInputError("read", f"the model has no head {', '.join(unknown)} (it has {', '.join(model.heads) or 'none'})")
    if leaf.num_prompt_tokens > config.max_prompt_tokens:
        raise InvalidInputError("messages", f"{leaf.num_prompt_tokens} tokens are over the limit of {config.max_prompt_tokens}")
    total = leaf.num_prompt_tokens + shape.max_tokens
    if total > model.max_positions:
        raise InvalidInputError(
            "messages", f"{leaf.num_prompt_tokens} tokens and up to {shape.max_tokens} of answer exceed the model's {model.max_positions}"
        )
    if num_pages(len(leaf.tokens)) + num_pages(len(leaf.tokens) % PAGE_TOKENS + shape.max_tokens) >= store_pages:
        raise InvalidInputError("messages", f"{total} tokens do not fit into {config.kv_memory_mb} MB of keys and values")
