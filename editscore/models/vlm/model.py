"""A loaded vision-language model as the engine sees it: images to features, a flat batch of tokens to hidden states.

Legend: N tokens of a flat batch, H hidden size, n patches, m merged tokens of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from editscore.models.vlm.chat import ChatTokenizer, Prompt
from editscore.models.vlm.images import PixelRule, PreparedImage
from editscore.models.vlm.packed import PackedLinear
from editscore.models.vlm.sizes import ModelSizes, sizes_of
from editscore.models.vlm.text_attention import ATTEND, Attend
from editscore.models.vlm.vision_plan import vision_plan
from editscore.types import Image, Message

# On a CPU rows of linear layers come in multiples of 16: then a row's result does not depend on how many rows there are.
ROW_MULTIPLE = 16


@dataclass(frozen=True)
class ImageFeatures:
    """What the vision tower says of one image: features [m, H], and one [m, H] per early layer for DeepStack models."""

    features: Tensor
    deepstack: tuple[Tensor, ...]

    @property
    def num_bytes(self) -> int:
        """Memory that the features hold."""
        return sum(x.numel() * x.element_size() for x in (self.features, *self.deepstack))

    def part(self, begin: int, end: int) -> ImageFeatures:
        """The features of the merged tokens [begin, end)."""
        return ImageFeatures(self.features[begin:end], tuple(x[begin:end] for x in self.deepstack))


def _add_to_rows(hidden: Tensor, rows: Tensor, values: Tensor) -> Tensor:
    """What early layers add for image tokens (DeepStack): hidden [1, N, H] with values [m, H] added to `rows` [m].

    transformers' own takes a mask, from which a GPU must first be asked how many rows there are, while the host waits.
    """
    return hidden.index_add(1, rows, values.to(hidden.dtype).unsqueeze(0))


class LinearPatchEmbed(nn.Module):
    """The patch embedding of the vision towers as the matrix product that it is: a Conv3d whose stride is its kernel.

    On the CPU the convolution takes four times as long for the small patches of a judge's images.
    """

    def __init__(self, proj: nn.Conv3d) -> None:
        super().__init__()
        self.proj = proj
        self.linear: Callable[..., Tensor] = F.linear

    def forward(self, patches: Tensor) -> Tensor:
        """Patches [n, 3 * T * P * P] to [n, hidden]."""
        return self.linear(patches.to(self.proj.weight.dtype), self.proj.weight.flatten(1), self.proj.bias)


@dataclass(frozen=True)
class ModelIdentity:
    """SHA-256 hashes (hex) of the checkpoint, of the adapter ("" without one) and of the preprocessing."""

    model: str
    adapter: str
    preprocessing: str


@dataclass
class VisionLanguageModel:
    """Qwen2.5-VL or Qwen3-VL of transformers with explicit positions; `load_model` makes it. It keeps no state between calls.

    `row_multiple`: rows of linear layers are padded to a multiple of it (`editscore.models.vlm.modes`).
    """

    network: Any
    chat: ChatTokenizer
    pixel_rule: PixelRule
    identity: ModelIdentity
    eos_token_ids: tuple[int, ...]
    heads: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    row_multiple: int = ROW_MULTIPLE

    def __post_init__(self) -> None:
        self.config = self.network.config
        if hasattr(self.network.model.language_model, "_deepstack_process"):
            self.network.model.language_model._deepstack_process = _add_to_rows
        text = self.config.text_config
        self.num_layers: int = text.num_hidden_layers
        self.num_heads: int = text.num_attention_heads
        self.num_kv_heads: int = text.num_key_value_heads
        self.head_dim: int = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        self.hidden_size: int = text.hidden_size
        self.vocab_size: int = text.vocab_size
        self.max_positions: int = text.max_position_embeddings
        self.image_token_id: int = self.config.image_token_id

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return cast(torch.device, self.network.device)

    @property
    def dtype(self) -> torch.dtype:
        """What the weights and the hidden states are."""
        return cast(torch.dtype, self.network.dtype)

    @property
    def num_ranks(self) -> int:
        """How many devices share the model; sums over them have another order than on one."""
        return 1

    @property
    def sizes(self) -> ModelSizes:
        """Bytes and widths, for a plan of memory."""
        weights = {id(weight): weight for weight in self.network.parameters()}.values()
        packed = sum(module.num_weights for module in self.network.modules() if isinstance(module, PackedLinear))
        return sizes_of(self.config, sum(weight.numel() for weight in weights) + packed, self.dtype.itemsize)

    @property
    def linear_backend(self) -> str:
        """Whose matrix products the linear layers run on."""
        return "onednn" if any(isinstance(module, PackedLinear) for module in self.network.modules()) else "torch"

    @property
    def vision_attention(self) -> str:
        """Which attention the vision tower runs on, as transformers names it."""
        return cast(str, self.network.model.visual.config._attn_implementation)

    def render(self, messages: Sequence[Message], images: Sequence[Image]) -> Prompt:
        """Tokens and positions of a conversation; raises `InvalidInputError` naming what is wrong with it."""
        side = self.pixel_rule.merge_size
        grids = [(rows // side, columns // side) for rows, columns in map(self.pixel_rule.grid, images)]
        return self.chat.render(messages, grids)

    @torch.inference_mode()
    def encode_images(self, images: Sequence[PreparedImage]) -> list[ImageFeatures]:
        """The vision tower over a ragged batch of images, each attending to itself only."""
        if not images:
            return []
        unit = self.pixel_rule.merge_size**2
        patches = [torch.from_numpy(image.patches) for image in images]
        grids = [[1, *image.grid] for image in images]
        # One more, blank image rounds the rows of the linear layers, before and after merging, up to `row_multiple`.
        num_tokens = sum(len(x) for x in patches) // unit
        if padding := -num_tokens % self.row_multiple:
            side = self.pixel_rule.merge_size
            grids.append([1, side, side * padding])
            patches.append(patches[0].new_zeros(padding * unit, patches[0].shape[1]))
        x = torch.cat(patches).to(self.device, self.dtype, non_blocking=True)
        tower = self.network.model.visual
        out = tower(x, **vision_plan(tower, grids, self.device), return_dict=True)
        sizes = [rows * columns // unit for _, rows, columns in grids]
        # Clones, so that keeping one image's features does not keep those of the whole batch.
        features = [part.clone() for part in out.pooler_output.split(sizes)]
        deep = [[part.clone() for part in layer.split(sizes)] for layer in getattr(out, "deepstack_features", None) or ()]
        return [ImageFeatures(features[i], tuple(layer[i] for layer in deep)) for i in range(len(images))]

    @torch.inference_mode()
    def forward(
        self, tokens: Tensor, positions: Tensor, attend: Attend, *, image_rows: Tensor | None = None, images: Sequence[ImageFeatures] = ()
    ) -> Tensor:
        """Final-norm hidden states [N, H] of a flat batch: tokens [N], positions [3, N], N a multiple of `row_multiple`.

        `image_rows` [sum of m] are the rows that hold image tokens, in the order of `images`.
        """
        embeddings = self.network.model.language_model.embed_tokens(tokens)
        extra: dict[str, Any] = {ATTEND: attend}
        if images:
            embeddings = embeddings.index_copy(0, image_rows, torch.cat([image.features for image in images]).to(embeddings.dtype))
            if images[0].deepstack:
                extra["visual_pos_masks"] = image_rows
                extra["deepstack_visual_embeds"] = [torch.cat(layer) for layer in zip(*(image.deepstack for image in images), strict=True)]
        out = self.network.model.language_model(
            inputs_embeds=embeddings.unsqueeze(0), position_ids=positions.unsqueeze(1), use_cache=False, **extra
        )
        return cast(Tensor, out.last_hidden_state[0])

    @torch.inference_mode()
    def logits(self, hidden: Tensor, *, buffer: Tensor | None = None) -> Tensor:
        """Logits [R, vocabulary] in the model's dtype of hidden states [R, H]; rows are padded to `row_multiple` inside.

        With a `buffer` [at least R rounded up to a multiple of it, vocabulary] they are written into it. On a CPU that spares the system's
        clearing of fresh memory, a fifth of the time of 192 rows of 152,064.
        """
        rows = pad_rows(hidden, self.row_multiple)
        if buffer is None or isinstance(self.network.lm_head, PackedLinear):
            return cast(Tensor, self.network.lm_head(rows))[: len(hidden)]
        return torch.mm(rows, self.network.lm_head.weight.t(), out=buffer[: len(rows)])[: len(hidden)]

    @torch.inference_mode()
    def read_head(self, name: str, hidden: Tensor) -> Tensor:
        """A head's values [n] float32 for one final-norm hidden state [H]; raises KeyError for a head that the model lacks."""
        weight, bias = self.heads[name]
        return weight @ hidden.float() + bias


def pad_rows(x: Tensor, multiple: int) -> Tensor:
    """x [R, ...] with zero rows up to the next multiple."""
    padding = -len(x) % multiple
    return F.pad(x, (0, 0) * (x.ndim - 1) + (0, padding)) if padding else x
