"""What a judge asks an engine, as content, and what it gets back."""

from __future__ import annotations

import enum
import hashlib
from functools import cached_property

import msgspec

from editscore.types.samples import Image, InvalidInputError
from editscore.types.scores import Status


class FinishReason(enum.StrEnum):
    """Why a completion ended: end of the answer, a limit, a cancel, or a failure of this request alone."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    FAILED = "failed"


class TextPart(msgspec.Struct, frozen=True, tag="text"):
    """A piece of text inside a message."""

    text: str


class ImagePart(msgspec.Struct, frozen=True, tag="image"):
    """An image inside a message, with the text (such as a label) that the prompt puts before it, if any."""

    image: Image
    label: str = ""


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation: role `system`, `user` or `assistant`, parts in the order that the model reads."""

    role: str
    parts: tuple[TextPart | ImagePart, ...]

    def __post_init__(self) -> None:
        if self.role not in ("system", "user", "assistant"):
            raise InvalidInputError("role", f"{self.role!r} is none of system, user, assistant")


class Literal(msgspec.Struct, frozen=True, tag="literal"):
    """Text that the answer holds as it stands; it is forced, never sampled."""

    text: str


class Text(msgspec.Struct, frozen=True, tag="text"):
    """Free text of at most `max_tokens` tokens.

    Followed by another part it is the inside of a JSON string (no control character, no bare quote; JSON's escapes allowed),
    so that the next literal can close it. As the last part it is unconstrained and ends with the model's end token.
    At the limit, `on_limit="fail"` ends the completion with `FinishReason.LENGTH`; `"close"` goes on with the next part and
    sets `Completion.was_closed`.
    """

    max_tokens: int = 512
    on_limit: str = "fail"

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise InvalidInputError("max_tokens", f"{self.max_tokens} is below 1")
        if self.on_limit not in ("fail", "close"):
            raise InvalidInputError("on_limit", f"{self.on_limit!r} is neither 'fail' nor 'close'")


class Choice(msgspec.Struct, frozen=True, tag="choice"):
    """Exactly one of `options`; the engine returns it as `Completion.slots[name]`."""

    name: str
    options: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.options or len(set(self.options)) != len(self.options) or "" in self.options:
            raise InvalidInputError("options", "needs distinct, non-empty texts")


class Sampling(msgspec.Struct, frozen=True):
    """How tokens are drawn. `temperature` 0 is greedy, `top_k` 0 keeps all tokens, `top_p` 1 keeps all of the mass.

    Whole numbers become floats: 1 and 1.0 are the same draw, so they must have the same digest, also after a journey as bytes.
    """

    temperature: float = 0.7
    top_p: float = 0.9
    top_k: int = 20

    def __post_init__(self) -> None:
        for field in ("temperature", "top_p"):
            msgspec.structs.force_setattr(self, field, float(getattr(self, field)))
        if not 0.0 <= self.temperature <= 100.0:
            raise InvalidInputError("temperature", f"{self.temperature} is outside 0..100")
        if not 0.0 < self.top_p <= 1.0:
            raise InvalidInputError("top_p", f"{self.top_p} is outside (0, 1]")
        if self.top_k < 0:
            raise InvalidInputError("top_k", f"{self.top_k} is below 0")


class Request(msgspec.Struct, frozen=True, dict=True):
    """What to ask a model, as content: no token ids, no tensors.

    Passes `first_pass .. first_pass + num_passes - 1` are drawn; pass i is the same draw whatever the other two numbers are.
    `read` names heads of the model to evaluate on the last hidden state of the prompt. `logprobs` asks for the log-probability of
    every drawn token; it changes no draw, so it is not part of `digest`. `ignore_end_of_text` lets an answer of one free text go on to its
    `max_tokens`, as a benchmark wants it: an end token is then a token as any other, kept in `Completion.tokens`, without any text.
    """

    messages: tuple[Message, ...]
    answer: tuple[Literal | Text | Choice, ...]
    num_passes: int = 1
    first_pass: int = 0
    sampling: Sampling = Sampling()
    seed: int = 42
    read: tuple[str, ...] = ()
    logprobs: bool = False
    ignore_end_of_text: bool = False

    def __post_init__(self) -> None:
        if self.num_passes < 1 or self.first_pass < 0:
            raise InvalidInputError("num_passes", f"{self.num_passes} passes from pass {self.first_pass}")
        if not 0 <= self.seed < 2**63:
            raise InvalidInputError("seed", f"{self.seed} is outside 0..2^63")
        if not self.messages or not self.answer:
            raise InvalidInputError("messages" if not self.messages else "answer", "is empty")
        if self.ignore_end_of_text and not (len(self.answer) == 1 and isinstance(self.answer[0], Text)):
            raise InvalidInputError("ignore_end_of_text", "needs an answer of one free text; any other ends where its shape does")

    @property
    def images(self) -> tuple[Image, ...]:
        """The images in the order that the model reads them."""
        return tuple(part.image for message in self.messages for part in message.parts if isinstance(part, ImagePart))

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of all that decides the answer of a pass: everything but the pass numbers; images by content."""
        content = [
            [[m.role, [_part_content(part) for part in m.parts]] for m in self.messages],
            self.answer,
            self.sampling,
            self.seed,
            self.read,
            *(["ignore_end_of_text"] if self.ignore_end_of_text else []),
        ]
        return hashlib.sha256(msgspec.json.encode(content)).hexdigest()

    def pass_key(self, pass_index: int) -> int:
        """The 64-bit hash of the request's content and one pass: the `request` key of the sampler's random draws."""
        content = f"{self.digest}:{pass_index}".encode()
        return int.from_bytes(hashlib.sha256(content).digest()[:8], "little")


def _part_content(part: TextPart | ImagePart) -> list[str]:
    return ["text", part.text] if isinstance(part, TextPart) else ["image", part.label, part.image.digest]


class Slot(msgspec.Struct, frozen=True):
    """The option taken at a `Choice` and the log-probability of every option under the model (raw, before any filter).

    `logprobs` is in the order of the options and sums to 1 over them in probability; it is empty where an option takes more
    than one token, which needs further passes of the model.
    """

    value: str
    logprobs: tuple[float, ...] = ()


class Completion(msgspec.Struct, frozen=True):
    """The answer of one pass of one request. `text` is what was generated or forced, `message` says why it failed.

    `logprobs`, where asked for, has an entry per token of `tokens`: its log-probability under the model (natural logarithm, before
    temperature, filters and grammar), None for a token that the grammar forced.
    """

    pass_index: int
    text: str
    finish_reason: FinishReason
    slots: dict[str, Slot] = {}
    heads: dict[str, tuple[float, ...]] = {}
    tokens: tuple[int, ...] = ()
    was_closed: bool = False
    status: Status = Status.OK
    message: str = ""
    num_prompt_tokens: int = 0
    num_sampled_tokens: int = 0
    num_forced_tokens: int = 0
    logprobs: tuple[float | None, ...] = ()
