"""How an engine runs; nothing here changes what it answers, except `mode` and the limits that make a request fail."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from editscore.models.vlm import Mode


class EngineConfig(BaseModel):
    """Mode, limits and budgets of one engine.

    `mode`: `exact` gives a request the same bits alone and in any company, in any order; `fast` gives that up for speed.
    `max_rows`: passes decoded together. `prefill_tokens`: prompt tokens let in by one step (a longer prompt comes alone).
    `chunk_tokens`: prompt tokens in one call of the model; a CPU computes 2,048 in a third less time each than 8,192.
    `image_patches`: patches per call of the vision tower. `kv_memory_mb`: memory of the KV store. `image_cache_mb`: features of encoded
    images kept for later requests. `logits_mb`: logits that are in memory together. `max_prompt_tokens`: a longer prompt fails its
    request. `memory_gb`: a budget for all of it, weights included; the limits above are lowered until they fit, and a model that
    does not fit with one request is refused before it is loaded. `cuda_graphs`: on a CUDA device decode steps are captured and replayed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode = "exact"
    max_rows: int = Field(default=2048, ge=1)
    prefill_tokens: int = Field(default=16_384, ge=1)
    chunk_tokens: int = Field(default=2048, ge=1)
    image_patches: int = Field(default=8192, ge=1)
    kv_memory_mb: int = Field(default=2048, ge=1)
    image_cache_mb: int = Field(default=256, ge=0)
    logits_mb: int = Field(default=128, ge=1)
    memory_gb: float | None = Field(default=None, gt=0)
    max_prompt_tokens: int = Field(default=16_384, ge=1)
    cuda_graphs: bool = True
