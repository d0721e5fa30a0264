"""What a scorer and its engine processes say to each other: msgpack records, each behind its length, over two pipes.

A request travels without its pixels. `Picture` brings an image before the first request that shows it, `Forget` lets it go after
the last, so that an image crosses once for all the requests that are under way with it: the source of an edit once for all of its
candidates. An image is known by its digest, which both sides compute from the pixels.

Nothing here can run code, and no length is believed: a record is at most MAX_RECORD_BYTES long, which is the largest image.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, BinaryIO, TypeVar

import msgspec

from editscore.scoring.engines import EngineSpec
from editscore.types import MAX_IMAGE_PIXELS, Completion, EngineStats, Image, ImagePart, Message, Request, TextPart

MAX_RECORD_BYTES = 3 * MAX_IMAGE_PIXELS + 2**20

JobId = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Digest = Annotated[str, msgspec.Meta(min_length=64, max_length=64)]

_Record = TypeVar("_Record")
_ENCODER = msgspec.msgpack.Encoder()
_LENGTH = struct.Struct("<I")
_BLANK = Image(1, 1, bytes(3))


class WireError(ValueError):
    """Bytes that are no record."""


# To an engine process.


class Start(msgspec.Struct, frozen=True, tag="start"):
    """The first record: load this; answered by `Ready` or `Refused`."""

    spec: EngineSpec


class Picture(msgspec.Struct, frozen=True, tag="picture"):
    """Keep this image for the requests to come."""

    image: Image


class Forget(msgspec.Struct, frozen=True, tag="forget"):
    """No request under way shows these images any more."""

    images: tuple[Digest, ...]


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """Run a request. Its images are blanks; `images` names the true ones in the order that the model reads."""

    job: JobId
    request: Request
    images: tuple[Digest, ...]

    @classmethod
    def of(cls, job: int, request: Request) -> Ask:
        """The request without its pixels."""
        images = request.images
        return cls(job, _with_images(request, [_BLANK] * len(images)), tuple(image.digest for image in images))

    def restored(self, known: Mapping[str, Image]) -> Request:
        """The request as it was. Raises WireError for an image that was not brought, or not as many as it shows."""
        try:
            return _with_images(self.request, [known[digest] for digest in self.images])
        except (KeyError, ValueError) as error:
            raise WireError(f"request {self.job} does not go with its images: {error}") from error


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Nobody waits for this request any more."""

    job: JobId


class Sleep(msgspec.Struct, frozen=True, tag="sleep"):
    """Give the engine's memory back; answered by `Asleep`, by a rank that follows with `Stepped`."""


class Wake(msgspec.Struct, frozen=True, tag="wake"):
    """Have it again; answered as `Start` is, by a rank that follows with `Stepped`."""


class Join(msgspec.Struct, frozen=True, tag="join"):
    """To a rank that follows: meet the other ranks at this port; answered by `Ready`."""

    port: int


class Step(msgspec.Struct, frozen=True, tag="step"):
    """To a rank that follows: make one step; answered by `Stepped`."""


# From an engine process.


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The engine is there; `identity` is its identity."""

    identity: dict[str, str]


class Asleep(msgspec.Struct, frozen=True, tag="asleep"):
    """The engine's memory is given back."""


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The engine could not be made: an InvalidInputError of this field, or with an empty one any other error."""

    field: str
    message: str


class Answers(msgspec.Struct, frozen=True, tag="answers"):
    """The passes that ended in one step, and from time to time, always when none are left, what the engine did so far."""

    passes: tuple[tuple[JobId, Completion], ...]
    stats: EngineStats | None = None


class Stumbled(msgspec.Struct, frozen=True, tag="stumbled"):
    """A step raised; the requests that were under way are dropped."""

    message: str
    jobs: tuple[JobId, ...]


class Stepped(msgspec.Struct, frozen=True, tag="stepped"):
    """A rank that follows made a step, went to sleep or woke; what came of it, for comparison."""

    outcome: str


class Lost(msgspec.Struct, frozen=True, tag="lost"):
    """Last words: the engine cannot go on, and the process ends."""

    message: str


ToEngine = Start | Picture | Forget | Ask | Cancel | Sleep | Wake | Join | Step
FromEngine = Ready | Asleep | Refused | Answers | Stumbled | Stepped | Lost
TO_ENGINE: msgspec.msgpack.Decoder[ToEngine] = msgspec.msgpack.Decoder(ToEngine)
FROM_ENGINE: msgspec.msgpack.Decoder[FromEngine] = msgspec.msgpack.Decoder(FromEngine)


def encode(record: ToEngine | FromEngine) -> bytearray:
    """The record behind its length."""
    data = bytearray(_LENGTH.size)
    _ENCODER.encode_into(record, data, _LENGTH.size)
    length = len(data) - _LENGTH.size
    if length > MAX_RECORD_BYTES:
        raise WireError(f"a record of {length} bytes is over {MAX_RECORD_BYTES}")
    _LENGTH.pack_into(data, 0, length)
    return data


def read(stream: BinaryIO, decoder: msgspec.msgpack.Decoder[_Record]) -> _Record | None:
    """The next record; None at the end of the stream. Raises EOFError for one that is cut off, WireError for what is none."""
    head = stream.read(_LENGTH.size)
    if not head:
        return None
    if len(head) < _LENGTH.size:
        raise EOFError("the stream ends inside a length")
    (length,) = _LENGTH.unpack(head)
    if length > MAX_RECORD_BYTES:
        raise WireError(f"a record of {length} bytes is over {MAX_RECORD_BYTES}")
    data = stream.read(length)
    if len(data) < length:
        raise EOFError(f"the stream ends after {len(data)} of {length} bytes of a record")
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise WireError(f"no record: {error}") from error


def outcome(act: Callable[[], _Record]) -> tuple[_Record | None, Exception | None, str]:
    """What an act comes to, what it raises, and a word for the one or the other that is the same where the same happened."""
    try:
        result = act()
    except Exception as error:
        return None, error, type(error).__name__
    return result, None, hashlib.sha256(_ENCODER.encode(result)).hexdigest()


def _with_images(request: Request, images: Sequence[Image]) -> Request:
    """The request with other images, in the order that the model reads. Raises ValueError unless there are as many."""
    if len(images) != len(request.images):
        raise ValueError(f"{len(images)} images for {len(request.images)} places")
    rest = iter(images)

    def part(old: TextPart | ImagePart) -> TextPart | ImagePart:
        return ImagePart(next(rest), old.label) if isinstance(old, ImagePart) else old

    messages = tuple(Message(message.role, tuple(part(old) for old in message.parts)) for message in request.messages)
    return msgspec.structs.replace(request, messages=messages)
