"""From a request to a job: its prompt rendered and hashed, its answer compiled, and what is wrong with it said before it runs."""

from __future__ import annotations

from editscore.engine.config import EngineConfig
from editscore.engine.grammar import AnswerGrammar, GrammarTokenizer
from editscore.engine.limits import check_request
from editscore.engine.sequences import Job, Leaf
from editscore.models.vlm import VisionLanguageModel
from editscore.types import Request

# Compiled answer shapes kept at a time.
MAX_GRAMMARS = 256


class Intake:
    """Makes jobs for one model under the limits of one configuration."""

    def __init__(self, model: VisionLanguageModel, config: EngineConfig) -> None:
        self._model, self._config = model, config
        self.tokenizer = GrammarTokenizer(model.chat.tokenizer_json, model.vocab_size, model.eos_token_ids)
        self._grammars: dict[object, AnswerGrammar] = {}

    def job(self, job_id: int, request: Request, store_pages: int) -> Job:
        """The job of a request; a store of `store_pages` pages must hold one pass of it. Raises InvalidInputError naming what is wrong."""
        grammar = self._grammar(request)
        leaf = Leaf.of(self._model.render(request.messages, request.images), grammar.leading, request.images)
        check_request(request, grammar.shape, leaf, self._model, self._config, store_pages)
        passes = list(range(request.first_pass, request.first_pass + request.num_passes))
        return Job(job_id, request, grammar, leaf, passes, set(passes))

    def _grammar(self, request: Request) -> AnswerGrammar:
        key = (request.answer, request.ignore_end_of_text)
        if key not in self._grammars:
            if len(self._grammars) >= MAX_GRAMMARS:
                self._grammars.clear()
            self._grammars[key] = AnswerGrammar(request.answer, self.tokenizer, ignore_end_of_text=request.ignore_end_of_text)
        return self._grammars[key]
