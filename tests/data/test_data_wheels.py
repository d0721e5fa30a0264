"""Texts out of wheels: literals come out as they stand, and nothing of a wheel is ever run."""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from editscore.data import Wheel, assigned_texts, text_literals
from editscore.data.wheels import MAX_MEMBER_BYTES
from editscore.types import InvalidInputError

MEMBER = "pack/texts.py"
METADATA = "pack-1.2.dist-info/METADATA"


def write_wheel(path: Path, source: str | bytes, metadata: str = METADATA) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MEMBER, source)
        archive.writestr(metadata, "Metadata-Version: 2.1\nName: pack\nVersion: 1.2\n")
    return path


def texts_of(path: Path, *names: str) -> dict[str, str]:
    return assigned_texts(Wheel(path).parse(MEMBER), names)


@settings(max_examples=50, deadline=None)
@given(text=st.text(max_size=60), other=st.text(max_size=5))
def test_a_literal_comes_out_as_it_stands(tmp_path_factory: pytest.TempPathFactory, text: str, other: str) -> None:
    source = f"import gone\nA = {other!r}\nWANTED: str = {text!r}\n"
    path = write_wheel(tmp_path_factory.mktemp("w") / "a.whl", source.encode())
    assert texts_of(path, "WANTED", "A") == {"WANTED": text, "A": other}


def test_project_version_hash_and_literals(tmp_path: Path) -> None:
    wheel = Wheel(write_wheel(tmp_path / "renamed.zip", "def f():\n    return 'inside'\nA = 'one' 'two'\n"))
    assert (wheel.project, wheel.version, len(wheel.sha256)) == ("pack", "1.2", 64)
    assert set(text_literals(wheel.parse(MEMBER))) == {"inside", "onetwo"}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("WANTED = __import__('pathlib').Path({mark!r}).touch()", "WANTED is not a plain text"),
        ("WANTED = open({mark!r}, 'w').name", "WANTED is not a plain text"),
        ('WANTED = f"{{open({mark!r}, chr(119))}}"', "WANTED is not a plain text"),
        ("WANTED = 'a' + 'b'", "WANTED is not a plain text"),
        ("WANTED = 'a'.upper()", "WANTED is not a plain text"),
        ("open({mark!r}, 'w')\nWANTED = 3", "WANTED is a int, not a text"),
        ("WANTED = b'bytes'", "WANTED is a bytes"),
        ("WANTED = 'a'\nWANTED = 'b'", "assigns WANTED 2 times"),
        ("WANTED = 'a'\nWANTED += 'b'", "assigns WANTED 2 times"),
        ("WANTED = 'a'\nfor WANTED in 'bc': pass", "assigns WANTED 2 times"),
        ("WANTED: str", "WANTED is not a plain text"),
        ("def f():\n    WANTED = 'inside'", "assigns WANTED 0 times"),
        ("OTHER = 'a'", "assigns WANTED 0 times"),
        ("WANTED = (", "no Python source"),
        ("WANTED = 'a\0'", "no Python source"),
        ("WANTED = " + "(" * 5000 + "'a'" + ")" * 5000, "no Python source"),
        ("WANTED = " + "-" * 100_000 + "1", "WANTED is not|no Python source"),
        ("#" * MAX_MEMBER_BYTES + "\nWANTED = 'a'", "is over"),
    ],
)
def test_what_is_no_literal_is_refused_and_not_run(tmp_path: Path, source: str, words: str) -> None:
    mark = tmp_path / "it ran"
    path = write_wheel(tmp_path / "bad.whl", source.replace("{mark!r}", repr(str(mark))).replace("{{", "{").replace("}}", "}"))
    before = set(sys.modules)
    with pytest.raises(InvalidInputError, match="wheel: ") as caught:
        texts_of(path, "WANTED")
    assert re.search(words, str(caught.value))
    assert not mark.exists() and "pack" not in set(sys.modules) - before


@pytest.mark.parametrize("case", ["absent", "folder", "text", "cut", "no metadata", "two metadata", "no member", "damaged member"])
def test_what_is_no_wheel_is_named(tmp_path: Path, case: str) -> None:
    path = write_wheel(tmp_path / "a.whl", "WANTED = 'a'" * 50)
    if case == "absent":
        path = tmp_path / "gone.whl"
    elif case == "folder":
        path = tmp_path
    elif case == "text":
        path.write_text("hello")
    elif case == "cut":
        path.write_bytes(path.read_bytes()[:-30])
    elif case == "no metadata":
        write_wheel(path, "", "other.txt")
    elif case == "two metadata":
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("more-3.dist-info/METADATA", "")
    elif case == "no member":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(METADATA, "")
    elif case == "damaged member":
        content = bytearray(path.read_bytes())
        content[50] ^= 0xFF
        path.write_bytes(bytes(content))
    with pytest.raises(InvalidInputError, match="wheel: ") as caught:
        texts_of(path, "WANTED")
    assert str(path) in str(caught.value)
