"""The records: one definition for memory, files and wire; hashes that see all that matters and nothing else."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from editscore.types import (
    Choice,
    Completion,
    EditSample,
    FinishReason,
    Image,
    ImagePart,
    InvalidInputError,
    Literal,
    Message,
    PassScore,
    Request,
    Sampling,
    Score,
    Slot,
    Status,
    Text,
    TextPart,
)

RED = Image(2, 1, bytes([255, 0, 0] * 2))
BLUE = Image(2, 1, bytes([0, 0, 255] * 2))
ANSWER = (Literal('{"reasoning": "'), Text(8, "close"), Literal('", "score": ['), Choice("first", ("0", "1")), Literal("]}"))


def request(**changes: object) -> Request:
    base = Request((Message("user", (TextPart("look"), ImagePart(RED))),), ANSWER)
    return msgspec.structs.replace(base, **changes)


def test_image_digest_is_sha256_of_size_and_pixels() -> None:
    assert hashlib.sha256(b"2x1:" + RED.pixels).hexdigest() == RED.digest
    assert Image(1, 2, RED.pixels).digest != RED.digest, "the same bytes in another shape are another image"
    assert Image(2, 1, bytes(RED.pixels)) == RED
    assert len({RED, BLUE, Image(2, 1, bytes(RED.pixels))}) == 2


@pytest.mark.parametrize(("width", "height", "pixels"), [(0, 1, b""), (1, 0, b""), (1, 1, b"12"), (2, 2, b"x" * 11), (20_000, 20_000, b"")])
def test_image_refuses_pixels_that_do_not_fill_it(width: int, height: int, pixels: bytes) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Image(width, height, pixels)
    assert caught.value.field == "image"


def test_sample_takes_paths_and_names_the_field_it_refuses() -> None:
    assert EditSample(Path("a.png"), "b.png", "x").source == "a.png"  # type: ignore[arg-type]
    for field, values in {"source": (None, "b", "x"), "edited": ("a", 3, "x"), "instruction": ("a", "b", None)}.items():
        with pytest.raises(InvalidInputError) as caught:
            EditSample(*values)  # type: ignore[arg-type]
        assert caught.value.field == field


@given(
    width=st.integers(1, 5),
    height=st.integers(1, 5),
    instruction=st.text(max_size=50),
    options=st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=5, unique=True),
    passes=st.integers(1, 32),
    seed=st.integers(0, 2**63 - 1),
    data=st.data(),
)
def test_wire_round_trip(width, height, instruction, options, passes, seed, data) -> None:  # type: ignore[no-untyped-def]
    image = Image(width, height, data.draw(st.binary(min_size=width * height * 3, max_size=width * height * 3)))
    message = Message("user", (TextPart(instruction), ImagePart(image, label="<img1>: ")))
    asked = Request((message,), (Choice("c", tuple(options)), Text(4)), num_passes=passes, seed=seed, read=("in_domain",))
    for codec in (msgspec.json, msgspec.msgpack):
        again = codec.decode(codec.encode(asked), type=Request)
        assert again == asked
        assert again.digest == asked.digest
    answered = Completion(3, instruction, FinishReason.STOP, {"c": Slot(options[0], (-0.5,))}, {"in_domain": (1.5,)}, (1, 2, 3))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(answered), type=Completion) == answered


def test_wire_refuses_wrong_types_and_unknown_statuses() -> None:
    good = Score("a", Status.OK, overall=5.0, passes=(PassScore(0, Status.OK, (20.0, 21.0), (22.0, 23.0), overall=8.0),))
    encoded = msgspec.json.encode(good)
    assert msgspec.json.decode(encoded, type=Score) == good
    for broken in (encoded.replace(b'"ok"', b'"fine"'), encoded.replace(b'"overall":5.0', b'"overall":"5"')):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(broken, type=Score)
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode({"width": 1, "height": 1, "pixels": b"12"}), type=Image)


CHANGES = {
    "text": {"messages": (Message("user", (TextPart("look."), ImagePart(RED))),)},
    "image": {"messages": (Message("user", (TextPart("look"), ImagePart(BLUE))),)},
    "label": {"messages": (Message("user", (TextPart("look"), ImagePart(RED, "1: "))),)},
    "order": {"messages": (Message("user", (ImagePart(RED), TextPart("look"))),)},
    "role": {"messages": (Message("system", (TextPart("look"), ImagePart(RED))),)},
    "split": {"messages": (Message("user", (TextPart("lo"), TextPart("ok"), ImagePart(RED))),)},
    "limit": {"answer": (ANSWER[0], Text(9, "close"), *ANSWER[2:])},
    "on_limit": {"answer": (ANSWER[0], Text(8, "fail"), *ANSWER[2:])},
    "options": {"answer": (*ANSWER[:3], Choice("first", ("1", "0")), ANSWER[4])},
    "temperature": {"sampling": Sampling(temperature=0.8)},
    "top_p": {"sampling": Sampling(top_p=0.8)},
    "top_k": {"sampling": Sampling(top_k=10)},
    "seed": {"seed": 43},
    "read": {"read": ("in_domain",)},
    "end_of_text": {"answer": (Text(8),), "ignore_end_of_text": True},
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_digest_sees_everything_that_decides_an_answer(change: str) -> None:
    assert request(**CHANGES[change]).digest != request().digest


def test_whether_an_end_of_text_is_ignored_is_seen_and_leaves_every_other_digest_as_it_was() -> None:
    """Draws are keyed by the digest, and stored answers too: a field that was added must not change what had none."""
    free = request(answer=(Text(8),))
    assert msgspec.structs.replace(free, ignore_end_of_text=True).digest != free.digest
    answer = [{"type": "text", "max_tokens": 8, "on_limit": "fail"}]
    sampling = {"temperature": 0.7, "top_p": 0.9, "top_k": 20}
    content = [[["user", [["text", "look"], ["image", "", RED.digest]]]], answer, sampling, 42, []]
    assert free.digest == hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def test_the_digest_does_not_see_how_many_passes_are_asked() -> None:
    one, many = request(num_passes=1), request(num_passes=8, first_pass=4)
    assert one.digest == many.digest
    assert one.pass_key(5) == many.pass_key(5)
    keys = {one.pass_key(index) for index in range(1000)}
    assert len(keys) == 1000
    assert all(0 <= key < 2**64 for key in keys)


def test_the_digest_is_the_same_in_another_process() -> None:
    code = (
        "from editscore.types import *\n"
        "r = Request((Message('user', (TextPart('look'), ImagePart(Image(2, 1, bytes([255, 0, 0] * 2))))),),"
        " (Literal('a'), Choice('b', ('0', '1'))))\n"
        "print(r.digest, r.pass_key(3))"
    )
    runs = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in range(2)}
    here = Request((Message("user", (TextPart("look"), ImagePart(RED))),), (Literal("a"), Choice("b", ("0", "1"))))
    assert runs == {f"{here.digest} {here.pass_key(3)}\n"}


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Sampling(temperature=-1), "temperature"),
        (lambda: Sampling(temperature=float("nan")), "temperature"),
        (lambda: Sampling(top_p=0), "top_p"),
        (lambda: Sampling(top_k=-1), "top_k"),
        (lambda: Text(0), "max_tokens"),
        (lambda: Text(4, "stop"), "on_limit"),
        (lambda: Choice("a", ()), "options"),
        (lambda: Choice("a", ("x", "x")), "options"),
        (lambda: Message("judge", ()), "role"),
        (lambda: request(num_passes=0), "num_passes"),
        (lambda: request(seed=-1), "seed"),
        (lambda: request(answer=()), "answer"),
        (lambda: request(messages=()), "messages"),
        (lambda: request(ignore_end_of_text=True), "ignore_end_of_text"),
        (lambda: request(answer=(Literal("a"), Text(4)), ignore_end_of_text=True), "ignore_end_of_text"),
        (lambda: request(answer=(Choice("a", ("x", "y")),), ignore_end_of_text=True), "ignore_end_of_text"),
    ],
)
def test_bad_values_name_their_field(make, field: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInputError) as caught:
        make()
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")


def test_whole_numbers_in_sampling_are_the_same_request_in_memory_and_from_the_wire() -> None:
    asked = request(sampling=Sampling(temperature=1, top_p=1))
    assert asked == request(sampling=Sampling(temperature=1.0, top_p=1.0))
    assert asked.digest == request(sampling=Sampling(temperature=1.0, top_p=1.0)).digest
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(asked), type=Request).digest == asked.digest
