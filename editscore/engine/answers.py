"""The shape of an answer, part by part, over bytes: where an answer stands and which option a choice took.

Only shapes that can be read from left to right in one way are accepted, so this little machine and the grammar of
`editscore.engine.grammar` always agree on which part a byte belongs to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from editscore.types import Choice, InvalidInputError, Literal, Text

# The inside of a JSON string (RFC 8259 section 7): no control character, no bare quote or backslash.
JSON_TEXT = r'([^"\\\x00-\x1f\x7f]|\\(["\\/bfnrt]|u[0-9a-fA-F]{4}))*'
_QUOTE, _BACKSLASH = 0x22, 0x5C


@dataclass(frozen=True)
class AnswerShape:
    """The parts of an answer without empty literals; `trailing` is the free text at the end, if there is one.

    Raises `InvalidInputError` for a shape that cannot be read in one way: a text inside the answer that no quote closes, or a
    choice whose options run into what follows.
    """

    parts: tuple[Literal | Text | Choice, ...]

    @staticmethod
    def of(answer: tuple[Literal | Text | Choice, ...]) -> AnswerShape:
        """The shape of `Request.answer`, checked."""
        shape = AnswerShape(tuple(part for part in answer if not (isinstance(part, Literal) and not part.text)))
        names = [part.name for part in shape.parts if isinstance(part, Choice)]
        if len(set(names)) != len(names):
            raise InvalidInputError("answer", "two choices have the same name")
        for i, part in enumerate(shape.parts):
            following = shape.parts[i + 1] if i + 1 < len(shape.parts) else None
            if isinstance(part, Text) and following is not None:
                if not (isinstance(following, Literal) and following.text.startswith('"')):
                    raise InvalidInputError("answer", "a text inside an answer must be followed by a literal that begins with a quote")
            elif isinstance(part, Choice) and following is not None:
                _check_options(part, following)
        return shape

    @cached_property
    def trailing(self) -> Text | None:
        """The free text that ends the answer."""
        last = self.parts[-1] if self.parts else None
        return last if isinstance(last, Text) else None

    @cached_property
    def constrained(self) -> tuple[Literal | Text | Choice, ...]:
        """The parts that the grammar holds: all but a trailing text."""
        return self.parts[:-1] if self.trailing else self.parts

    @cached_property
    def texts(self) -> tuple[tuple[bytes, ...], ...]:
        """What each constrained part may be, as bytes: a literal's text, a choice's options, nothing for a text."""
        return tuple(tuple(text.encode() for text in _texts(part)) for part in self.constrained)

    @property
    def regex(self) -> str:
        """The constrained parts as one regular expression (empty when there are none)."""
        return "".join(map(_part_regex, self.constrained))

    @cached_property
    def max_bytes(self) -> int:
        """An upper limit of the tokens of the answer beyond its texts: every byte its own token."""
        literals = sum(len(part.text.encode()) for part in self.parts if isinstance(part, Literal))
        return literals + sum(max(len(o.encode()) for o in part.options) for part in self.parts if isinstance(part, Choice))

    @cached_property
    def max_tokens(self) -> int:
        """The most tokens that an answer can take, the end token included."""
        return self.max_bytes + sum(part.max_tokens for part in self.parts if isinstance(part, Text)) + 1


def _check_options(choice: Choice, following: Literal | Text | Choice) -> None:
    options = [option.encode() for option in choice.options]
    first: set[int] | None = None
    if isinstance(following, Literal):
        first = {following.text.encode()[0]}
    elif isinstance(following, Choice):
        first = {option.encode()[0] for option in following.options}
    for a in options:
        for b in options:
            if a != b and b.startswith(a) and (first is None or b[len(a)] in first):
                raise InvalidInputError("answer", f"options {a.decode()!r} and {b.decode()!r} of {choice.name!r} run into what follows")


def _part_regex(part: Literal | Text | Choice) -> str:
    if isinstance(part, Text):
        return JSON_TEXT
    return f"({'|'.join(map(_escape, _texts(part)))})"


def _texts(part: Literal | Text | Choice) -> tuple[str, ...]:
    if isinstance(part, Text):
        return ()
    return (part.text,) if isinstance(part, Literal) else part.options


def _escape(text: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else f"\\x{{{ord(c):x}}}" for c in text)


class AnswerReader:
    """Reads an answer byte by byte: the part it is in, whether a text is between characters, and the options taken."""

    def __init__(self, shape: AnswerShape) -> None:
        self.parts = shape.constrained
        self.part = 0
        self._texts = shape.texts
        self.taken: dict[str, str] = {}
        self._held = b""  # what the current literal or choice has so far, or an unfinished escape or character of a text

    def copy(self) -> AnswerReader:
        """An independent reader at the same place."""
        other = AnswerReader.__new__(AnswerReader)
        other.parts, other.part, other._texts, other._held, other.taken = self.parts, self.part, self._texts, self._held, dict(self.taken)
        return other

    @property
    def is_complete(self) -> bool:
        """Whether every part has been read."""
        return self.part == len(self.parts)

    @property
    def is_in_text(self) -> bool:
        """Whether the next byte can belong to a text."""
        return not self.is_complete and isinstance(self.parts[self.part], Text)

    @property
    def is_between_characters(self) -> bool:
        """Whether nothing of the current part is held: at its beginning, or inside a text with no escape or character open."""
        return not self._held

    def read(self, data: bytes) -> bool:
        """Takes bytes that the grammar allows; returns whether any of them belonged to a text."""
        was_text = False
        start = 0
        while start < len(data) and self.part < len(self.parts):
            if isinstance(self.parts[self.part], Literal):
                (literal,) = self._texts[self.part]
                start += self._read_literal(literal, data[start:])
            else:
                was_text |= self._read_byte(data[start])
                start += 1
        return was_text

    def _read_literal(self, literal: bytes, data: bytes) -> int:
        count = min(len(data), len(literal) - len(self._held))
        self._held += data[:count]
        if len(self._held) == len(literal):
            self._take()
        return count

    def choose(self, option: str) -> None:
        """Takes an option whole, at the beginning of a choice; what follows belongs to the next part."""
        self._held = option.encode()
        self._take()

    def finish(self) -> None:
        """The answer ends here: a choice that could have gone on is taken as it stands."""
        if not self.is_complete and isinstance(self.parts[self.part], Choice):
            self._take()

    def _take(self) -> None:
        part = self.parts[self.part]
        if isinstance(part, Choice):
            self.taken[part.name] = self._held.decode()
        self.part += 1
        self._held = b""

    def _read_byte(self, byte: int) -> bool:
        part = self.parts[self.part]
        if isinstance(part, Text):
            if not self._held and byte == _QUOTE:
                self.part += 1
                self.read(bytes((byte,)))
                return False
            self._held = _open_character(self._held + bytes((byte,)))
            return True
        extended = self._held + bytes((byte,))
        texts = self._texts[self.part]
        if not any(text.startswith(extended) for text in texts):
            # The longest option is behind, and the byte belongs to the next part.
            self._take()
            return self.read(bytes((byte,)))
        self._held = extended
        if extended in texts and not any(text.startswith(extended) and text != extended for text in texts):
            self._take()
        return False


_ESCAPE = re.compile(rb'\\(["\\/bfnrt]|u[0-9a-fA-F]{4})')


def _open_character(held: bytes) -> bytes:
    """What of `held` is still open: an escape or a UTF-8 character that is not finished."""
    if held[0] == _BACKSLASH:
        return b"" if _ESCAPE.fullmatch(held) else held
    length = 1 if held[0] < 0x80 else 2 if held[0] < 0xE0 else 3 if held[0] < 0xF0 else 4
    return b"" if len(held) >= length else held
