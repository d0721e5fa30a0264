"""The attention blocks of the language models of both families: projections, norms of heads where there are some, rotation, attention.

transformers' own classes turn queries and keys to [1, heads, N, D], rotate them in a dozen calls, and ask a table for a function to call;
here rows stay rows.
"""

from __future__ import annotations

from typing import Any, Protocol

from editscore_kernels import rotary_embedding
from torch import Tensor, nn
from transformers import AttentionInterface

# The argument of a language model's forward that holds an `Attend`; also the attention that transformers is told to use, since it makes no
# mask for an attention of which it has only the name.
ATTEND = "editscore_attend"


class Attend(Protocol):
    """What the caller does about attention in one call of the model; all of its state lives in the object that is passed."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """q [N, Hq, D], k and v [N, Hkv, D] after the rotation; returns [N, Hq, D]."""


class TextAttention(nn.Module):
    """An attention block of transformers over its own layers, under their names."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = block.q_proj, block.k_proj, block.v_proj, block.o_proj
        self.q_norm, self.k_norm = (getattr(block, name, None) or nn.Identity() for name in ("q_norm", "k_norm"))
        self._layer, self._head_dim, self._scale = block.layer_idx, block.head_dim, block.scaling

    def forward(self, hidden_states: Tensor, position_embeddings: tuple[Tensor, Tensor], **named: Any) -> tuple[Tensor, None]:
        """hidden_states [1, N, H] to [1, N, H], with (cos, sin) [1, N, D]; the work is done by the `Attend` among the arguments."""
        rows = hidden_states[0]
        q, k, v = (project(rows).view(len(rows), -1, self._head_dim) for project in (self.q_proj, self.k_proj, self.v_proj))
        cos, sin = position_embeddings
        q, k = rotary_embedding(self.q_norm(q), self.k_norm(k), cos[0], sin[0])
        attend: Attend = named[ATTEND]
        out: Tensor = self.o_proj(attend(self._layer, q, k, v, self._scale).reshape(len(rows), -1))
        return out.unsqueeze(0), None


def replace_text_attention(language_model: Any) -> None:
    """The attention block of every layer."""
    for layer in language_model.layers:
        layer.self_attn = TextAttention(layer.self_attn)


def _not_replaced(*arguments: Any, **named: Any) -> Any:
    raise RuntimeError("an attention block of the language model was not replaced by replace_text_attention")


AttentionInterface.register(ATTEND, _not_replaced)
