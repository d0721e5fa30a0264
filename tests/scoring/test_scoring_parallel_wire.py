"""The records between a scorer and its engine processes, and the choice of the process."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from typing import Any

import msgspec
import pytest
from fake_engine import image
from hypothesis import given
from hypothesis import strategies as st

from editscore.scoring import wire
from editscore.scoring.engines import EngineSpec
from editscore.scoring.routing import MOVE_PASSES, Place, choose
from editscore.types import (
    Choice,
    Completion,
    FinishReason,
    Image,
    ImagePart,
    Literal,
    Message,
    Request,
    Sampling,
    Slot,
    Status,
    Text,
    TextPart,
)

words = st.text(st.characters(codec="utf-8"), max_size=20)
numbers = st.integers(0, 2**63 - 1)
floats = st.floats(allow_nan=False)
images = st.integers(1, 3).flatmap(
    lambda width: st.binary(min_size=3 * width, max_size=3 * width).map(lambda pixels: Image(width, 1, pixels))
)
parts = st.lists(st.builds(TextPart, words) | st.builds(ImagePart, images, words), max_size=4).map(tuple)
messages = st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), parts), min_size=1, max_size=3).map(tuple)
options = st.lists(words.filter(bool), min_size=1, max_size=3, unique=True).map(tuple)
answers = st.lists(
    st.builds(Literal, words)
    | st.builds(Text, st.integers(1, 512), st.sampled_from(["fail", "close"]))
    | st.builds(Choice, words, options),
    min_size=1,
    max_size=3,
).map(tuple)
samplings = st.builds(
    Sampling, st.integers(0, 100) | st.floats(0, 100), st.floats(0, 1, exclude_min=True) | st.just(1), st.integers(0, 2**31)
)
heads = st.lists(words, max_size=2).map(tuple)
free = st.builds(Text, st.integers(1, 512)).map(lambda text: (text,))
requests = st.builds(
    Request, messages, answers, st.integers(1, 99), st.integers(0, 99), samplings, numbers, heads, st.booleans()
) | st.builds(Request, messages, free, ignore_end_of_text=st.booleans())
completions = st.builds(
    Completion,
    st.integers(0, 99),
    words,
    st.sampled_from(FinishReason),
    st.dictionaries(words, st.builds(Slot, words, st.lists(floats, max_size=3).map(tuple)), max_size=2),
    st.dictionaries(words, st.lists(floats, max_size=3).map(tuple), max_size=2),
    st.lists(st.integers(0, 2**31), max_size=5).map(tuple),
    st.booleans(),
    st.sampled_from(Status),
    words,
)
hashes = st.binary(min_size=32, max_size=32).map(bytes.hex)
to_engine = (
    st.builds(wire.Start, st.builds(EngineSpec, words, st.none() | words, words, st.none() | words))
    | st.builds(wire.Picture, images)
    | st.builds(wire.Forget, st.lists(hashes, max_size=3).map(tuple))
    | st.builds(wire.Ask.of, numbers, requests)
    | st.builds(wire.Cancel, numbers)
    | st.just(wire.Sleep())
    | st.just(wire.Wake())
    | st.builds(wire.Join, st.integers(0, 65535))
    | st.just(wire.Step())
)
from_engine = (
    st.builds(wire.Ready, st.dictionaries(words, words, max_size=3))
    | st.just(wire.Asleep())
    | st.builds(wire.Refused, words, words)
    | st.builds(wire.Answers, st.lists(st.tuples(numbers, completions), max_size=3).map(tuple))
    | st.builds(wire.Stumbled, words, st.lists(numbers, max_size=3).map(tuple))
    | st.builds(wire.Stepped, words)
    | st.builds(wire.Lost, words)
)


def read_all(data: bytes, decoder: Any) -> list[Any]:
    stream = io.BytesIO(data)
    return list(iter(lambda: wire.read(stream, decoder), None))


@given(st.lists(to_engine, max_size=4), st.lists(from_engine, max_size=4))
def test_records_arrive_as_they_were_sent(there: list[Any], back: list[Any]) -> None:
    assert read_all(b"".join(map(wire.encode, there)), wire.TO_ENGINE) == there
    assert read_all(b"".join(map(wire.encode, back)), wire.FROM_ENGINE) == back


@given(numbers, requests)
def test_a_request_is_the_same_on_the_other_side_with_its_pixels_sent_apart(job: int, request: Request) -> None:
    sent = [wire.Picture(picture) for picture in dict.fromkeys(request.images)]
    *pictures, ask = read_all(b"".join(map(wire.encode, [*sent, wire.Ask.of(job, request)])), wire.TO_ENGINE)
    restored = ask.restored({picture.image.digest: picture.image for picture in pictures})
    assert (ask.job, restored, restored.digest) == (job, request, request.digest)
    assert [part.label for m in restored.messages for part in m.parts if isinstance(part, ImagePart)] == [
        part.label for m in request.messages for part in m.parts if isinstance(part, ImagePart)
    ]


@given(st.binary(max_size=60), st.one_of(to_engine, from_engine), st.data())
def test_other_bytes_are_refused_as_such(noise: bytes, record: Any, data: st.DataObject) -> None:
    good = bytes(wire.encode(record))
    place = data.draw(st.integers(0, len(good) - 1))
    bent = good[:place] + bytes([data.draw(st.integers(0, 255))]) + good[place + 1 :]
    framed = len(noise).to_bytes(4, "little") + noise
    for text in (noise, framed, bent, good[:place]):
        for decoder in (wire.TO_ENGINE, wire.FROM_ENGINE):
            with contextlib.suppress(wire.WireError, EOFError):
                read_all(text, decoder)


def test_a_length_over_the_limit_is_refused_before_anything_is_read() -> None:
    class Endless(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            assert size == 4, "asked for the record"
            return super().read(size)

    with pytest.raises(wire.WireError, match="is over"):
        wire.read(Endless((wire.MAX_RECORD_BYTES + 1).to_bytes(4, "little")), wire.TO_ENGINE)


def test_a_record_cut_off_is_an_end_and_a_request_without_its_pictures_an_error() -> None:
    ask = wire.Ask.of(1, Request((Message("user", (ImagePart(image(1)), ImagePart(image(2)))),), (Text(4),)))
    with pytest.raises(EOFError):
        wire.read(io.BytesIO(wire.encode(ask)[:-1]), wire.TO_ENGINE)
    with pytest.raises(wire.WireError, match="request 1"):
        ask.restored({image(1).digest: image(1)})
    with pytest.raises(wire.WireError, match="request 1"):
        msgspec.structs.replace(ask, images=ask.images[:1]).restored({image(1).digest: image(1)})


# Routing.


def route(places: list[Place], images: tuple[str, ...], num_passes: int = 4) -> int:
    place = choose(places, images)
    place.admit(images, num_passes)
    return places.index(place)


def test_candidates_and_their_second_question_follow_the_source() -> None:
    places = [Place() for _ in range(3)]
    homes: dict[str, set[int]] = {}
    for candidate in range(8):
        for source in ("s0", "s1", "s2", "s3", "s4", "s5"):
            edited = f"{source}-{candidate}"
            homes.setdefault(source, set()).update({route(places, (source, edited)), route(places, (edited,))})
    assert all(len(found) == 1 for found in homes.values())
    assert Counter(place for found in homes.values() for place in found) == {0: 2, 1: 2, 2: 2}


def test_two_sources_never_share_an_engine_while_another_is_idle() -> None:
    for name in range(20):
        places = [Place(), Place()]
        assert {route(places, (f"a{name}", "x")), route(places, (f"b{name}", "y"))} == {0, 1}


def test_hundreds_of_candidates_of_one_source_do_not_leave_an_engine_idle() -> None:
    places = [Place() for _ in range(4)]
    for candidate in range(400):
        home = route(places, ("source", f"e{candidate}"))
        assert route(places, (f"e{candidate}",)) == home
    loads = sorted(place.num_passes for place in places)
    assert sum(loads) == 3200 and loads[0] >= loads[-1] - MOVE_PASSES - 8
    assert sum("source" in place.images for place in places) == 4


def test_an_image_is_brought_once_and_let_go_with_its_last_request() -> None:
    place = Place()
    assert place.admit(("s", "a"), 4) == ["s", "a"]
    assert place.admit(("s", "s", "b"), 4) == ["b"]
    assert place.release(("s", "a")) == ["a"]
    assert place.release(("s", "s", "b")) == ["s", "b"]
    assert not place.images
