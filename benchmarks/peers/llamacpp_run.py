"""llama-cpp-python on a job folder: one pass per prompt, all prompts decoded together, common beginnings read once.

Run by the interpreter that `llamacpp.sh` sets up: `llamacpp_run.py JOB GGUF [--threads 2] [--limit N]`.

The package's own calls take one prompt at a time, and with pictures they forget the prompt before. Its C interface, which the server
among its examples uses, does more: here every prompt is a sequence of one context; what several prompts begin with (up to and with a
picture) is read by the first and copied to the others; texts at the same place of the prompts go into one call; and each picture is
encoded once.
"""

import ctypes
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp as lib
from llama_cpp import mtmd_cpp as mtmd
from peer_job import PARSER, PeerJob, measure, report

# Job S took 4% longer without flash attention, 2 with smaller calls (n_ubatch 256), 17 with one buffer of keys for all sequences.
SETTINGS = {"n_batch": 2048, "n_ubatch": 512, "kv_unified": False, "flash_attn_type": lib.LLAMA_FLASH_ATTN_TYPE_ENABLED}
IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"


def main() -> None:
    """Runs the job and prints the line."""
    PARSER.add_argument("gguf", type=Path)
    args = PARSER.parse_args()
    job = PeerJob.read(args)
    peer = Peer(job, args.gguf)
    sampling = job.sampling
    # top_k first costs least; temperature does not change which tokens it keeps.
    drawing = chain(
        lib.llama_sampler_init_top_k(sampling["top_k"]),
        lib.llama_sampler_init_temp(sampling["temperature"]),
        lib.llama_sampler_init_top_p(sampling["top_p"], 1),
        lib.llama_sampler_init_dist(job.seed),
    )
    peer.generate([job.warm_up], 8, drawing)
    answers, spent = measure(lambda: peer.generate(job.prompts, job.num_tokens, drawing))
    greedy = peer.generate(job.prompts, 1, chain(lib.llama_sampler_init_greedy()))
    report(
        job,
        spent,
        num_prompt_tokens=[answer.num_prompt_tokens for answer in answers],
        num_tokens=[len(answer.tokens) for answer in answers],
        greedy={prompt["name"]: peer.text(answer.tokens[0]) for prompt, answer in zip(job.prompts, greedy, strict=True)},
        settings=SETTINGS | {"passes": 1, "threads": job.threads, "build": lib.llama_print_system_info().decode()},
        versions={"llama_cpp_python": lib.__version__},
    )


def chain(*samplers: Any) -> Any:
    """Samplers one after the other."""
    whole = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    for sampler in samplers:
        lib.llama_sampler_chain_add(whole, sampler)
    return whole


@dataclass(frozen=True)
class Chunk:
    """A piece of a prompt: text (`content` is its tokens) or a picture (`content` is its name)."""

    handle: Any
    content: tuple[int, ...] | bytes


@dataclass(frozen=True)
class Row:
    """A token to read, and whether the one behind it is to be drawn."""

    sequence: int
    position: int
    token: int
    is_last: bool


@dataclass(frozen=True)
class Answer:
    """What a prompt took and what came out."""

    num_prompt_tokens: int
    tokens: list[int]


class Peer:
    """The model with room for a job's prompts, and the vision tower."""

    def __init__(self, job: PeerJob, gguf: Path) -> None:
        lib.llama_backend_init()
        self.model = _found(lib.llama_model_load_from_file(str(gguf / "model.gguf").encode(), lib.llama_model_default_params()))
        params = lib.llama_context_default_params()
        for name, value in SETTINGS.items():
            setattr(params, name, value)
        room = max(prompt["num_prompt_tokens"] for prompt in job.prompts) + job.num_tokens
        params.n_seq_max = len(job.prompts)
        params.n_ctx = len(job.prompts) * (room + -room % 256)  # the library rounds the room of a sequence so
        params.n_threads = params.n_threads_batch = job.threads
        self.context = _found(lib.llama_init_from_model(self.model, params))
        self.memory = lib.llama_get_memory(self.context)
        self.batch = lib.llama_batch_init(params.n_batch, 0, 1)
        tower = mtmd.mtmd_context_params_default()
        tower.n_threads, tower.flash_attn_type = job.threads, params.flash_attn_type
        self.tower = _found(mtmd.mtmd_init_from_file(str(gguf / "mmproj.gguf").encode(), self.model, tower))
        self.marker = mtmd.mtmd_default_marker().decode()
        self.bitmaps = {}
        for name, picture in job.pictures.items():
            pixels = picture.tobytes()
            self.bitmaps[name] = mtmd.mtmd_bitmap_init(*picture.size, (ctypes.c_uint8 * len(pixels)).from_buffer_copy(pixels))
            mtmd.mtmd_bitmap_set_id(self.bitmaps[name], name.encode())

    def generate(self, prompts: list[dict[str, Any]], num_tokens: int, sampler: Any) -> list[Answer]:
        """Answers of exactly `num_tokens` tokens; an end of text is a token like others."""
        lib.llama_memory_clear(self.memory, False)
        # Sequences of one kind stand together: only neighbours share a call of the model.
        order = sorted(range(len(prompts)), key=lambda i: prompts[i]["kind"])
        inputs = [self._cut(prompts[i]) for i in order]
        ends, drawn = self._read([self._chunks(pieces) for pieces in inputs], sampler)
        tokens = [[drawn[sequence]] for sequence in range(len(order))]
        for step in range(num_tokens - 1):
            rows = [Row(sequence, ends[sequence] + step, answer[-1], True) for sequence, answer in enumerate(tokens)]
            drawn = self._decode(rows, sampler)
            for sequence, answer in enumerate(tokens):
                answer.append(drawn[sequence])
        answers = [Answer(mtmd.mtmd_helper_get_n_tokens(pieces), answer) for pieces, answer in zip(inputs, tokens, strict=True)]
        for pieces in inputs:
            mtmd.mtmd_input_chunks_free(pieces)
        return [answers[order.index(i)] for i in range(len(prompts))]

    def text(self, token: int) -> str:
        """A token's text."""
        piece = ctypes.create_string_buffer(256)
        length = lib.llama_token_to_piece(lib.llama_model_get_vocab(self.model), token, piece, len(piece), 0, True)
        return piece.raw[:length].decode(errors="replace")

    def _cut(self, prompt: dict[str, Any]) -> Any:
        """The library's list of a prompt's texts and pictures; to be freed."""
        text = prompt["text"].replace(IMAGE, self.marker).encode()
        pictures = [self.bitmaps[name] for name in prompt["images"]]
        pieces = mtmd.mtmd_input_chunks_init()
        whole = mtmd.mtmd_input_text(text=text, text_len=len(text), add_special=False, parse_special=True)
        array = (mtmd.mtmd_bitmap_p_ctypes * len(pictures))(*pictures)
        _succeed(mtmd.mtmd_tokenize(self.tower, pieces, ctypes.byref(whole), array, len(pictures)))
        return pieces

    def _chunks(self, pieces: Any) -> list[Chunk]:
        chunks, count = [], ctypes.c_size_t()
        for index in range(mtmd.mtmd_input_chunks_size(pieces)):
            handle = mtmd.mtmd_input_chunks_get(pieces, index)
            if mtmd.mtmd_input_chunk_get_type(handle) == mtmd.MTMD_INPUT_CHUNK_TYPE_TEXT:
                tokens = mtmd.mtmd_input_chunk_get_tokens_text(handle, ctypes.byref(count))
                chunks.append(Chunk(handle, tuple(tokens[: count.value])))
            else:
                chunks.append(Chunk(handle, mtmd.mtmd_input_chunk_get_id(handle)))
        return chunks

    def _read(self, prompts: list[list[Chunk]], sampler: Any) -> tuple[list[int], dict[int, int]]:
        """Reads the prompts depth by depth; the position behind each one, and the first token of each answer."""
        ends, drawn = [0] * len(prompts), dict[int, int]()
        readers: dict[tuple[object, ...], int] = {}
        features: dict[bytes, Any] = {}
        for depth in range(max(map(len, prompts))):
            new = []
            for sequence, chunks in enumerate(prompts):
                beginning = tuple(chunk.content for chunk in chunks[: depth + 1])
                if len(beginning) <= depth or beginning in readers:
                    continue
                source = readers.get(beginning[:-1], sequence)
                if source != sequence:
                    lib.llama_memory_seq_cp(self.memory, source, sequence, -1, -1)
                    ends[sequence] = ends[source]
                readers[beginning] = sequence
                new.append((sequence, chunks[depth], depth + 1 == len(chunks)))
            rows = []
            for sequence, chunk, is_last in new:
                start = ends[sequence]
                if isinstance(chunk.content, bytes):
                    ends[sequence] = self._look(chunk, start, sequence, features)
                else:
                    ends[sequence] += len(chunk.content)
                    places = zip(itertools.count(start), chunk.content, strict=False)
                    rows += [Row(sequence, place, token, is_last and place + 1 == ends[sequence]) for place, token in places]
            drawn |= self._decode(rows, sampler)
        return ends, drawn

    def _look(self, chunk: Chunk, position: int, sequence: int, features: dict[bytes, Any]) -> int:
        """Reads a picture, encoded if it is not in `features`; the position behind it."""
        assert isinstance(chunk.content, bytes)
        if chunk.content not in features:
            _succeed(mtmd.mtmd_encode_chunk(self.tower, chunk.handle))
            size = lib.llama_model_n_embd_inp(self.model) * mtmd.mtmd_input_chunk_get_n_tokens(chunk.handle)
            found = ctypes.cast(mtmd.mtmd_get_output_embd(self.tower), ctypes.POINTER(ctypes.c_float * size))
            features[chunk.content] = (ctypes.c_float * size).from_buffer_copy(found.contents)
        end, nothing = lib.llama_pos(), mtmd.mtmd_helper_post_decode_callback()
        where = (position, sequence, SETTINGS["n_batch"], ctypes.byref(end), nothing, None)
        _succeed(mtmd.mtmd_helper_decode_image_chunk(self.tower, self.context, chunk.handle, features[chunk.content], *where))
        return int(end.value)

    def _decode(self, rows: list[Row], sampler: Any) -> dict[int, int]:
        """Reads tokens; by sequence the next one where it is to be drawn."""
        drawn: dict[int, int] = {}
        for part in _parts(rows, SETTINGS["n_batch"]):
            self.batch.n_tokens = len(part)
            for i, row in enumerate(part):
                self.batch.token[i], self.batch.pos[i] = row.token, row.position
                self.batch.n_seq_id[i], self.batch.seq_id[i][0], self.batch.logits[i] = 1, row.sequence, row.is_last
            _succeed(lib.llama_decode(self.context, self.batch))
            drawn |= {row.sequence: lib.llama_sampler_sample(sampler, self.context, i) for i, row in enumerate(part) if row.is_last}
        return drawn


def _parts(rows: list[Row], size: int) -> Iterable[list[Row]]:
    return (rows[i : i + size] for i in range(0, len(rows), size))


def _found(pointer: Any) -> Any:
    if not pointer:
        raise RuntimeError("llama.cpp could not load what it was given; it says why above")
    return pointer


def _succeed(code: int) -> None:
    if code:
        raise RuntimeError(f"llama.cpp failed with code {code}")


if __name__ == "__main__":
    main()
