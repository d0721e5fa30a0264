"""Answers under a grammar (llguidance): what a pass may say next, what it must say next, and when it is done.

Most tokens of an answer are plain words inside a text. There the state of the grammar is the same after every such token, so
its mask is computed once per shape and the matcher is fed only when the text ends. Where every option of a choice is one token,
exactly these tokens are allowed: "2" is then the number 2 and not the beginning of 25, and what follows is forced.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from llguidance import LLExecutor, LLMatcher, LLTokenizer

from editscore.engine.answers import AnswerReader, AnswerShape
from editscore.types import Choice, FinishReason, InvalidInputError, Literal, Slot, Text

Mask = npt.NDArray[np.int32]


class GrammarTokenizer:
    """The tokenizer as the grammar sees it: bytes of every token, and which tokens leave a text as it was."""

    def __init__(self, tokenizer_json: str, vocab_size: int, eos_token_ids: Sequence[int]) -> None:
        self.ll = LLTokenizer(tokenizer_json, n_vocab=vocab_size, eos_token=list(eos_token_ids))
        self.num_words = -(-vocab_size // 32)
        self.eos_token_ids = frozenset(eos_token_ids)
        self.executor = LLExecutor(1)
        self._bytes: dict[int, tuple[bytes, bool]] = {}

    def look_up(self, token: int) -> tuple[bytes, bool]:
        """The bytes of a token, and whether they are whole characters of a JSON string without escapes."""
        found = self._bytes.get(token)
        if found is None:
            is_silent = token in self.eos_token_ids or self.ll.is_special_token(token)
            data = b"" if is_silent else self.ll.decode_bytes([token])
            found = self._bytes[token] = (data, _is_plain(data))
        return found

    def fill(self, matchers: list[tuple[LLMatcher, int]], masks: Mask) -> None:
        """Writes the mask of each matcher into its row of `masks` [R, words]."""
        if matchers:
            self.executor.unsafe_compute_mask_ptr(matchers, masks.ctypes.data, masks.shape[1] * 4, masks.shape[0])


def _is_plain(data: bytes) -> bool:
    if not data or min(data) < 0x20 or 0x7F in data or b'"' in data or b"\\" in data:
        return False
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


class AnswerGrammar:
    """One shape of answer, compiled for one tokenizer; `start()` gives the state of a new pass. `end_token_ids` end it."""

    def __init__(
        self, answer: tuple[Literal | Text | Choice, ...], tokenizer: GrammarTokenizer, *, ignore_end_of_text: bool = False
    ) -> None:
        self.shape = AnswerShape.of(answer)
        self.tokenizer = tokenizer
        self.end_token_ids = frozenset[int]() if ignore_end_of_text else tokenizer.eos_token_ids
        self.text_masks: dict[int, Mask] = {}
        self.option_ids = [self._single_tokens(part) for part in self.shape.constrained]
        self.option_masks = [self._mask(ids) for ids in self.option_ids]
        self.after_choice = [self._after_choice(part) for part in range(len(self.shape.parts) + 1)]
        self._matcher: LLMatcher | None = None
        if self.shape.constrained:
            self._matcher = LLMatcher(tokenizer.ll, LLMatcher.grammar_from_regex(self.shape.regex), log_level=0)
            if self._matcher.is_error():
                raise InvalidInputError("answer", f"no grammar: {self._matcher.get_error().splitlines()[0]}")
        start = AnswerState(self, self._matcher, AnswerReader(self.shape))
        start.extend_forced()
        self._start = start
        self.leading = tuple(start.tokens)
        if self._matcher is not None:
            self._matcher = start.matcher

    def _single_tokens(self, part: Literal | Text | Choice) -> tuple[int, ...]:
        if not isinstance(part, Choice):
            return ()
        ids = [self.tokenizer.ll.tokenize_str(option) for option in part.options]
        return tuple(x[0] for x in ids) if all(len(x) == 1 for x in ids) else ()

    def _mask(self, ids: Sequence[int]) -> Mask:
        mask = np.zeros(self.tokenizer.num_words, np.uint32)
        for token in ids:
            mask[token // 32] |= np.uint32(1 << (token % 32))
        return mask.view(np.int32)

    def _after_choice(self, part: int) -> tuple[int, ...]:
        """Tokens to force behind a choice that was one token, when `part` follows it.

        The whole literal where it stands between such choices or ends the answer; else its first token, for the last ones may
        grow together with the text that follows.
        """
        following = self.shape.parts[part] if part < len(self.shape.parts) else None
        if not isinstance(following, Literal):
            return ()
        tokens = tuple(self.tokenizer.ll.tokenize_str(following.text))
        is_clear = part + 1 == len(self.shape.parts) or bool(self.option_ids[part + 1 : part + 2] and self.option_ids[part + 1])
        return tokens if is_clear else tokens[:1]

    def start(self) -> AnswerState:
        """A new pass, its leading forced tokens already taken (`leading`)."""
        return self._start.copy()

    def new_matcher(self, tokens: Sequence[int]) -> LLMatcher:
        """A matcher that has read `tokens`, which begin with `leading`."""
        assert self._matcher is not None
        matcher = self._matcher.deep_copy()
        if not matcher.consume_tokens(list(tokens[len(self.leading) :])):
            raise RuntimeError(f"the grammar refuses its own tokens: {matcher.get_error()}")
        return matcher


class AnswerState:
    """Where one pass stands in its answer. `tokens` are all tokens of the answer, forced ones included.

    `choice` is the choice that the next token decides, with the token of each option, and None elsewhere.
    """

    def __init__(self, grammar: AnswerGrammar, matcher: LLMatcher | None, reader: AnswerReader) -> None:
        self.grammar = grammar
        self.reader = reader
        self.tokens: list[int] = []
        self.num_forced = 0
        self.finish_reason: FinishReason | None = None
        self.was_closed = False
        self.slot_logprobs: dict[str, tuple[float, ...]] = {}
        self._matcher = matcher
        self._num_read = 0  # tokens that the matcher has read
        self._text_count = 0
        self._settle()

    def copy(self) -> AnswerState:
        """An independent state at the same place; the matcher is copied when it is first needed."""
        other = AnswerState.__new__(AnswerState)
        other.__dict__.update(self.__dict__)
        other.reader, other.tokens, other.slot_logprobs = self.reader.copy(), list(self.tokens), dict(self.slot_logprobs)
        other._matcher, other._num_read = None, 0
        return other

    # What the next token may be.

    def _find_choice(self) -> tuple[Choice, tuple[int, ...]] | None:
        reader = self.reader
        if reader.is_complete or not reader.is_between_characters or not self.grammar.option_ids[reader.part]:
            return None
        part = reader.parts[reader.part]
        assert isinstance(part, Choice)
        return part, self.grammar.option_ids[reader.part]

    def put_mask(self, row: int, masks: Mask, matchers: list[tuple[LLMatcher, int]]) -> bool:
        """Writes the mask of the next token into `masks[row]`, or asks `matchers` for it; False when every token is allowed."""
        if self._is_free:
            return False
        if self.choice is not None:
            masks[row] = self.grammar.option_masks[self.reader.part]
            return True
        if not self._is_plain_text:
            matchers.append((self.matcher, row))
            return True
        mask = self.grammar.text_masks.get(self.reader.part)
        if mask is None:
            mask = np.zeros((1, masks.shape[1]), np.int32)
            self.grammar.tokenizer.fill([(self.matcher, 0)], mask)
            self.grammar.text_masks[self.reader.part] = mask
        masks[row] = mask[0]
        return True

    @property
    def matcher(self) -> LLMatcher:
        """The matcher, up to date with `tokens`."""
        if self._matcher is None:
            self._matcher, self._num_read = self.grammar.new_matcher(self.tokens), len(self.tokens)
        elif self._num_read < len(self.tokens):
            if not self._matcher.consume_tokens(self.tokens[self._num_read :]):
                raise RuntimeError(f"the grammar refuses a token that its mask allowed: {self._matcher.get_error()}")
            self._num_read = len(self.tokens)
        return self._matcher

    # Taking tokens.

    def take(self, token: int) -> int:
        """Takes a sampled token and all that it forces; returns how many earlier tokens of `tokens` are no longer valid.

        That is 0 except where a text that is closed at its limit ends in the middle of a character.
        """
        chosen, tokenizer = self.choice, self.grammar.tokenizer
        self.tokens.append(token)
        if self._is_plain_text and tokenizer.look_up(token)[1]:
            # Nearly every token takes this way.
            self._text_count += 1
            return 0 if self._text_count < self._text_limit else self._end_text()
        if chosen is not None:
            self.reader.choose(chosen[0].options[chosen[1].index(token)])
            self._settle()
            self._force(self.grammar.after_choice[self.reader.part])
            self.extend_forced()
            return 0
        if token in self.grammar.end_token_ids:
            self.reader.finish()
            self.finish_reason = FinishReason.STOP
            return 0
        if self._is_free:
            self._text_count += 1
            return 0 if self._text_count < self._text_limit else self._end_text()
        part = self.reader.part
        was_text = self.reader.read(tokenizer.look_up(token)[0])
        if self.reader.part != part:
            self._text_count = 0
        self._settle()
        if was_text and self.reader.is_in_text:
            self._text_count += 1
            return 0 if self._text_count < self._text_limit else self._end_text()
        self.extend_forced()
        return 0

    def extend_forced(self) -> None:
        """Takes the tokens that the grammar leaves no choice about, and ends the answer when nothing is left to say."""
        while not self._is_free and not self.reader.is_in_text and not self.reader.is_complete:
            if self.choice is not None and len(self.choice[1]) > 1:
                break
            forced = self.matcher.compute_ff_tokens()
            if not forced:
                break
            self._force(forced)
        if self.reader.is_complete and self.grammar.shape.trailing is None:
            self.finish_reason = FinishReason.STOP

    def _force(self, tokens: Sequence[int]) -> None:
        self.tokens.extend(tokens)
        self.num_forced += len(tokens)
        for token in tokens:
            self.reader.read(self.grammar.tokenizer.look_up(token)[0])
        self._settle()

    def _settle(self) -> None:
        """What the next token is held by: nothing (trailing text), a choice, the mask of a plain text, or the matcher."""
        self.choice = self._find_choice()
        self._is_free = self.reader.is_complete and self.grammar.shape.trailing is not None
        text = self.grammar.shape.parts[self.reader.part] if self.reader.part < len(self.grammar.shape.parts) else None
        self._text_limit = text.max_tokens if isinstance(text, Text) else 0
        self._is_plain_text = self._text_limit > 0 and not self._is_free and self.reader.is_between_characters

    def _end_text(self) -> int:
        """A text met its limit; returns what `take` does."""
        text = self.grammar.shape.parts[self.reader.part]
        assert isinstance(text, Text)
        if text.on_limit == "fail":
            self.finish_reason = FinishReason.LENGTH
            return 0
        self.was_closed = True
        if self._is_free:
            self.finish_reason = FinishReason.STOP
            return 0
        return self._close()

    def _close(self) -> int:
        """Ends a text at its limit: drops an open character or escape, then forces the literal that closes the text."""
        num_dropped = 0
        while self.reader.is_in_text and not self.reader.is_between_characters:
            self.tokens.pop()
            num_dropped += 1
            self.reader = AnswerReader(self.grammar.shape)
            for token in self.tokens:
                self.reader.read(self.grammar.tokenizer.look_up(token)[0])
            self._matcher = None
        if not self.reader.is_in_text:
            # The open character began in the token that opened the text: nothing of the text is left to close.
            self.was_closed, self.finish_reason = False, FinishReason.LENGTH
            return num_dropped
        closing = self.reader.parts[self.reader.part + 1]
        assert isinstance(closing, Literal)
        self._force(self.grammar.tokenizer.ll.tokenize_str(closing.text))
        self._text_count = 0
        self.extend_forced()
        return num_dropped

    # What became of it.

    def record_choice(self, choice: Choice, logprobs: tuple[float, ...]) -> None:
        """Keeps the log-probabilities of the options at a choice, normalised over them."""
        self.slot_logprobs[choice.name] = logprobs

    def text(self) -> str:
        """The answer as text; an unfinished character becomes U+FFFD."""
        return b"".join(self.grammar.tokenizer.look_up(token)[0] for token in self.tokens).decode("utf-8", errors="replace")

    def slots(self) -> dict[str, Slot]:
        """The options taken so far. A choice of one option is forced, with probability 1."""
        forced = {p.name: (0.0,) for p in self.grammar.shape.constrained if isinstance(p, Choice) and len(p.options) == 1}
        return {name: Slot(value, self.slot_logprobs.get(name, forced.get(name, ()))) for name, value in self.reader.taken.items()}
