"""An exported transformer at work on the CPU: texts in, one row of numbers per text out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import openvino
from tokenizers import Tokenizer

from retrieval.engine.exported import CURE, NETWORK, TOKENIZER, EncoderError, ModelCard
from retrieval.engine.processor import count_cores, has_bf16
from retrieval.engine.text import CHARACTERS_PER_TOKEN
from retrieval.engine.types import Vectors

Precision = Literal["auto", "f32", "bf16"]
Text = str | tuple[str, str]
BATCH_SIZE = 16
LENGTH_STEP = 8  # lengths are padded to multiples of it: fewer shapes to prepare for, and to keep in memory
MAX_STREAMS = 8
# OpenVINO's bindings set themselves up in a process's first inference: two threads at it would wait for each other,
# one for the GIL and one with it, and the process stands still.
_first_use = Lock()


@dataclass(frozen=True, slots=True)
class Tokens:
    ids: list[int]
    type_ids: list[int]


class Network:
    """Loads an exported model once and runs it for any number of threads at the same time."""

    def __init__(self, folder: Path, kind: str, *, threads: int = 0, precision: Precision = "auto") -> None:
        """Load the `kind` of model in `folder`; raises EncoderError when it is another or cannot be loaded.

        threads: 0 for all cores. precision: auto is bf16 where the processor computes in it, else f32.
        """
        if threads < 0:
            raise EncoderError(f"threads={threads}, expected 0 for all cores or more")
        self.card = ModelCard.read(folder)
        if self.card.kind != kind:
            raise EncoderError(f"model folder {folder} holds a {self.card.kind} model, expected a {kind} one")
        threads = threads or count_cores()
        self._streams = streams = min(threads, MAX_STREAMS)
        options = {
            # Streams side by side, one thread each on small machines, do more work per core than one wide one.
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": choose_precision(precision),
            "ENABLE_CPU_PINNING": False,  # every web process would pin its threads to the same cores
        }
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
            self._tokenizer.no_padding()
            self._tokenizer.enable_truncation(self.card.max_tokens)
            self._special_ids = set(self._tokenizer.get_added_tokens_decoder())  # that for unknown words among them
            self._compiled = openvino.Core().compile_model(str(folder / NETWORK), "CPU", options)
        except Exception as error:  # both libraries raise plain exceptions for files they cannot use
            reason = str(error).strip().rpartition("\n")[2]  # the lines above it are places in OpenVINO's source
            raise EncoderError(f"model folder {folder} cannot be loaded ({reason}); delete it and {CURE}") from error
        self._inputs = [port.get_any_name() for port in self._compiled.inputs]
        self._idle: SimpleQueue[Any] = SimpleQueue()  # infer requests; each serves one thread at a time
        for _ in range(streams):
            self._idle.put(self._compiled.create_infer_request())
        self._workers = ThreadPoolExecutor(streams, thread_name_prefix="encoder")
        with _first_use:
            self._run_batch([Tokens([self.card.pad_id], [0])], [0])

    def tokenize(self, texts: Sequence[Text], prompt: str = "") -> list[Tokens]:
        """Return the tokens of each text, behind the prompt, or pair, at most `max_tokens`.

        Raises EncoderError if one is no text.
        """
        cleaned = [self._clean(text, prompt) for text in texts]
        if len(cleaned) == 1:  # saves the round trip through the tokenizer's own threads
            encodings = [_encode_one(self._tokenizer, cleaned[0])]
        else:
            encodings = self._tokenizer.encode_batch_fast(cleaned)
        return [Tokens(encoding.ids or [self.card.pad_id], encoding.type_ids or [0]) for encoding in encodings]

    def count_tokens(self, text: str) -> int:
        """Return how many tokens `text` would have if none were cut, special ones included."""
        encoding = self._tokenizer.encode(_replace_surrogates(text))
        special = self._tokenizer.num_special_tokens_to_add(False)
        return len(encoding.ids) + sum(len(rest.ids) - special for rest in encoding.overflowing)

    def is_one_token(self, word: str) -> bool:
        """Return whether the vocabulary holds the whole of `word`."""
        ids = self._tokenizer.encode(_replace_surrogates(word), add_special_tokens=False).ids
        return len(ids) == 1 and ids[0] not in self._special_ids

    def run(self, tokens: Sequence[Tokens], on_progress: Callable[[int], None] | None = None) -> Vectors:
        """Return the network's rows in the order of `tokens`, shape (len(tokens), card.dim).

        `on_progress` is called after each batch with how many texts are done. Raises EncoderError if the
        network fails or gives numbers that are not finite.
        """
        rows = np.empty((len(tokens), self.card.dim), np.float32)
        # Alike lengths together: little padding. Longest first: memory peaks at once, and no core waits at the end.
        order = sorted(range(len(tokens)), key=lambda position: -len(tokens[position].ids))
        batches = split_evenly(order, self._streams)
        run_all = map if len(batches) == 1 else self._workers.map
        done = 0
        for batch, result in zip(batches, run_all(lambda batch: self._run_batch(tokens, batch), batches), strict=True):
            rows[batch] = result
            done += len(batch)
            if on_progress:
                on_progress(done)
        if not np.isfinite(rows).all():
            raise EncoderError(f"model {self.card.version} gave numbers that are not finite; its weights are damaged")
        return rows

    def _run_batch(self, tokens: Sequence[Tokens], batch: Sequence[int]) -> Vectors:
        feed = pad_batch([tokens[position] for position in batch], self.card.pad_id)
        request = self._idle.get()
        try:
            result = request.infer([feed[name] for name in self._inputs], share_outputs=True)
            return np.array(result[0], np.float32)
        except RuntimeError as error:
            raise EncoderError(f"model {self.card.version} failed on {len(batch)} texts: {error}") from error
        finally:
            self._idle.put(request)

    def _clean(self, text: Any, prompt: str) -> Text:
        if isinstance(text, tuple):
            return self._clean_one(text[0]), self._clean_one(text[1])
        return prompt + self._clean_one(text)

    def _clean_one(self, text: Any) -> str:
        if not isinstance(text, str):
            raise EncoderError(f"cannot encode {text!r:.80}: expected a str, got {type(text).__name__}")
        return _replace_surrogates(text[: self.card.max_tokens * CHARACTERS_PER_TOKEN])


def split_evenly(order: Sequence[int], streams: int) -> list[Sequence[int]]:
    """Return the parts of `order` that are run as batches: BATCH_SIZE at most, all streams with as much to do."""
    count = -(-len(order) // BATCH_SIZE)
    if len(order) > streams:
        count = -(-count // streams) * streams
    bounds = [len(order) * number // max(count, 1) for number in range(count + 1)]
    return [order[start:stop] for start, stop in pairwise(bounds)]


def pad_batch(tokens: Sequence[Tokens], pad_id: int) -> dict[str, npt.NDArray[np.int64]]:
    """Return the network's inputs, each of shape (len(tokens), longest rounded up to LENGTH_STEP)."""
    longest = max(len(one.ids) for one in tokens)
    length = -(-longest // LENGTH_STEP) * LENGTH_STEP
    ids = np.full((len(tokens), length), pad_id, np.int64)
    mask, types = np.zeros_like(ids), np.zeros_like(ids)
    for row, one in enumerate(tokens):
        ids[row, : len(one.ids)], types[row, : len(one.ids)], mask[row, : len(one.ids)] = one.ids, one.type_ids, 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def choose_precision(precision: Precision) -> str:
    """Return the precision OpenVINO computes in: f32 or bf16; raises EncoderError for another."""
    if precision not in get_args(Precision):
        raise EncoderError(f"unknown precision {precision!r}, expected one of: {', '.join(get_args(Precision))}")
    if precision != "auto":
        return precision
    return "bf16" if has_bf16() else "f32"


def _encode_one(tokenizer: Any, text: Text) -> Any:
    return tokenizer.encode(*text) if isinstance(text, tuple) else tokenizer.encode(text)


def _replace_surrogates(text: str) -> str:
    """Return `text` with halves of broken emoji as '?': the tokenizer takes only valid Unicode."""
    return text.encode("utf-8", "replace").decode("utf-8")
