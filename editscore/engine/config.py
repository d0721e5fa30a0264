"""How an engine runs; nothing here changes what it answers, except the limits that make a request fail."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class EngineConfig(BaseModel):
    """Limits and budgets of one engine.

    `max_rows`: passes decoded together. `prefill_tokens`: prompt tokens taken into one call of the model (a longer prompt runs
    alone). `image_patches`: patches per call of the vision tower. `kv_memory_mb`: memory of the KV store. `image_cache_mb`:
    features of encoded images kept for later requests. `max_prompt_tokens`: a longer prompt fails its request.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_rows: int = Field(default=2048, ge=1)
    prefill_tokens: int = Field(default=8192, ge=1)
    image_patches: int = Field(default=8192, ge=1)
    kv_memory_mb: int = Field(default=2048, ge=1)
    image_cache_mb: int = Field(default=256, ge=0)
    max_prompt_tokens: int = Field(default=16_384, ge=1)
