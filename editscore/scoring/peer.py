"""A checkpoint through transformers alone: its tokenizer, image processor, positions, attention, cache and `generate`.

The second opinion of `editscore.scoring.parity` and of the engine's tests: it takes messages and images, and shares no code with
`editscore.models` or the engine. An adapter is merged by PEFT.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image
import torch
from torch import Tensor

from editscore.models.vlm import VisionLanguageModel
from editscore.types import Image, ImagePart, InvalidInputError, Message

# Where transformers moved the parts of these models since adapters were first trained on them.
_RENAMES = {
    r"^model\.(?=layers|embed_tokens|norm)": "model.language_model.",
    r"^visual\.": "model.visual.",
    r"^language_model\.model\.": "model.language_model.",
}
_SHOWN_NAMES = 4


@dataclass(frozen=True)
class PeerSource:
    """What to load, and as which of transformers' classes. `of` reads it off a loaded model, which may then be let go."""

    folder: Path
    network_class: Any
    image_token_id: int
    eos_token_ids: tuple[int, ...]
    device: torch.device
    adapter: Path | None = None

    @classmethod
    def of(cls, model: VisionLanguageModel, adapter: Path | None = None) -> PeerSource:
        """The checkpoint that a model was loaded from."""
        return cls(model.chat.folder, type(model.network), model.image_token_id, model.eos_token_ids, model.device, adapter)


class Peer:
    """The checkpoint, loaded by transformers. Raises InvalidInputError when transformers or PEFT cannot read a part of it."""

    def __init__(self, source: PeerSource, dtype: torch.dtype = torch.float32) -> None:
        from transformers import AutoTokenizer, GenerationConfig

        self.source = source
        network = source.network_class.from_pretrained(source.folder, attn_implementation="eager", dtype=dtype)
        if source.adapter is not None:
            network = merged_by_peft(network, source.adapter)
        self.network: Any = network.to(source.device).eval()
        # The checkpoint's own may penalise repetition, also in greedy search.
        ends = list(source.eos_token_ids)
        settings = {"do_sample": False, "eos_token_id": ends, "pad_token_id": ends[0]}
        self.network.generation_config = GenerationConfig(**settings)  # type: ignore[no-untyped-call]
        self.tokenizer: Any = AutoTokenizer.from_pretrained(source.folder)
        self.processor, self.resize = _image_processor(source.folder)

    def inputs(self, messages: Sequence[Message], images: Sequence[Image]) -> dict[str, Tensor]:
        """What the published processor gives: token ids [1, n], their types, patches and grids."""
        pictures = self._patches(images) if images else {}
        grids = pictures["image_grid_thw"].tolist() if images else []
        numbers = iter([t * rows * columns // self.processor.merge_size**2 for t, rows, columns in grids])
        is_image = self.source.image_token_id
        tokens = [x for token in self._tokenize(messages) for x in [token] * (next(numbers, 0) if token == is_image else 1)]
        found = {"input_ids": torch.tensor([tokens]), **pictures}
        found["attention_mask"] = torch.ones_like(found["input_ids"])
        if images:
            found["mm_token_type_ids"] = (found["input_ids"] == is_image).int()
        return {name: value.to(self.source.device) for name, value in found.items()}

    @torch.inference_mode()
    def greedy(self, inputs: dict[str, Tensor], num_tokens: int) -> list[int]:
        """The tokens of transformers' own greedy search."""
        self.network.model.rope_deltas = None
        out = self.network.generate(**inputs, max_new_tokens=num_tokens)
        return [int(token) for token in out[0, inputs["input_ids"].shape[1] :]]

    @torch.inference_mode()
    def logits(self, inputs: dict[str, Tensor], answer: Sequence[int]) -> Tensor:
        """Logits [len(answer), V] float32 before each token of an answer, from one whole forward."""
        fed = torch.tensor([list(answer[:-1])], dtype=torch.long, device=self.source.device)
        longer = {**inputs, "input_ids": torch.cat([inputs["input_ids"], fed], 1)}
        longer["attention_mask"] = torch.ones_like(longer["input_ids"])
        if "mm_token_type_ids" in longer:
            longer["mm_token_type_ids"] = torch.cat([longer["mm_token_type_ids"], torch.zeros_like(fed, dtype=torch.int32)], 1)
        self.network.model.rope_deltas = None  # state that the last call left on the module
        out = self.network(**longer, logits_to_keep=len(answer)).logits[0]
        return torch.as_tensor(out).float().cpu()

    def _tokenize(self, messages: Sequence[Message]) -> list[int]:
        content = [{"role": m.role, "content": [item for part in m.parts for item in _content(part)]} for m in messages]
        template = _template_file(self.source.folder)
        text = self.tokenizer.apply_chat_template(content, chat_template=template, tokenize=False, add_generation_prompt=True)
        return [int(token) for token in self.tokenizer(text).input_ids]

    def _patches(self, images: Sequence[Image]) -> dict[str, Tensor]:
        pictures = [PIL.Image.frombytes("RGB", (image.width, image.height), image.pixels) for image in images]
        if self.resize is not None:
            pictures = [picture.resize(self.resize, PIL.Image.Resampling.BICUBIC) for picture in pictures]
        found = dict(self.processor(images=pictures, return_tensors="pt", do_resize=self.resize is None))
        return {**found, "pixel_values": found["pixel_values"].to(self.network.dtype)}


def merged_by_peft(network: Any, folder: Path) -> Any:
    """The network with an adapter merged by PEFT. Raises InvalidInputError("adapter") unless PEFT finds a place for every tensor."""
    try:
        from peft import PeftConfig, PeftModel
    except ImportError as error:
        raise InvalidInputError("adapter", "the comparison with an adapter needs PEFT: pip install peft") from error
    try:
        adapted: Any = PeftModel(network, PeftConfig.from_pretrained(str(folder)), autocast_adapter_dtype=False)
        result = adapted.load_adapter(str(folder), "default", key_mapping=_RENAMES, autocast_adapter_dtype=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise InvalidInputError("adapter", f"PEFT cannot load {folder}: {error}") from error
    # A target that matches layers of the vision tower by name alone leaves them as they are.
    left = [*result.unexpected_keys, *(name for name in result.missing_keys if ".visual." not in name)]
    if left:
        names = ", ".join(left[:_SHOWN_NAMES])
        raise InvalidInputError("adapter", f"PEFT leaves {len(left)} tensors of {folder} out, so it is no second opinion: {names}")
    return adapted.merge_and_unload()


def _content(part: Any) -> list[dict[str, str]]:
    if not isinstance(part, ImagePart):
        return [{"type": "text", "text": part.text}]
    return [*([{"type": "text", "text": part.label}] if part.label else []), {"type": "image"}]


def _template_file(folder: Path) -> str | None:
    """The chat template that transformers' processors take first; None leaves it to the tokenizer."""
    jinja = folder / "chat_template.jinja"
    if jinja.exists():
        return jinja.read_text("utf-8")
    template = _read_json(folder / "chat_template.json").get("chat_template")
    return template if isinstance(template, str) else None


def _image_processor(folder: Path) -> tuple[Any, tuple[int, int] | None]:
    """The checkpoint's own processor under the pixels that its editscore.json sets, and the fixed size, if that is what it sets."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    try:
        processor: Any = Qwen2VLImageProcessorPil.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise InvalidInputError("model", f"{folder}: transformers cannot read its preprocessor_config.json") from error
    pixels = _read_json(folder / "editscore.json").get("pixels") or {}
    edges = {"shortest_edge": pixels.get("min_pixels"), "longest_edge": pixels.get("max_pixels")}
    processor.size = {name: edge or getattr(processor.size, name) for name, edge in edges.items()}
    resize = pixels.get("resize")
    return processor, None if resize is None else (int(resize[0]), int(resize[1]))


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}
