"""The two towers at work: texts in, unit vectors out, through OpenVINO. No torch is needed or loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from retrieval.engine.exported import QUERY_TOWER, EncoderError, find_exported
from retrieval.engine.network import Network, Precision
from retrieval.engine.recent import Recent
from retrieval.engine.types import Vectors

__all__ = ["EncoderError", "TwoTowerEncoder", "find_exported"]

WINDOW = 4096  # texts tokenized at once, so that memory does not grow with the catalogue
RECENT_QUERIES = 1000  # texts whose vectors are kept: both rankings of an experiment ask for the same


class TwoTowerEncoder:
    """Encodes queries and products into one space. Where the towers are tied, both sides share the weights."""

    def __init__(
        self, folder: Path, *, dims: int | None = None, threads: int = 0, precision: Precision = "auto"
    ) -> None:
        """Load the model in `folder`; raises EncoderError when it cannot be.

        dims: how many of the first dimensions to keep (Matryoshka), all by default. threads: 0 for all cores.
        """
        self._network = Network(folder, "two-tower", threads=threads, precision=precision)
        self._queries = self._network
        card = self._network.card
        if card.towers == "untied":
            self._queries = Network(folder / QUERY_TOWER, "two-tower", threads=threads, precision=precision)
        if dims is not None and not 1 <= dims <= card.dim:
            raise EncoderError(f"dims={dims}, expected 1 to {card.dim}: model {card.version} has no more")
        self.dim = dims or card.dim
        self.model_version = card.version if self.dim == card.dim else f"{card.version}-{self.dim}d"
        self.max_tokens = card.max_tokens
        self._recent = Recent[str, Vectors](RECENT_QUERIES)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Return unit-length float32 vectors, shape (len(texts), dim).

        No texts gives shape (0, dim); an empty text is a text. Raises EncoderError for what is not a str, or
        if the model gives no finite numbers. A single text's vector is kept, and read-only.
        """
        if isinstance(texts, str) or len(texts) != 1 or not isinstance(texts[0], str):
            return self._encode(self._queries, texts, self._queries.card.query_prompt, None)
        vectors = self._recent.get(texts[0])
        if vectors is None:
            vectors = self._encode(self._queries, texts, self._queries.card.query_prompt, None)
            vectors.setflags(write=False)
            self._recent.put(texts[0], vectors)
        return vectors

    def encode_products(self, texts: Sequence[str], on_progress: Callable[[int], None] | None = None) -> Vectors:
        """Return unit-length float32 vectors, shape (len(texts), dim), in the order of `texts`.

        `on_progress` is called after each batch with how many texts are done. Raises as `encode_queries`.
        """
        return self._encode(self._network, texts, self._network.card.product_prompt, on_progress)

    def count_tokens(self, text: str) -> int:
        """Return how many of the `max_tokens` this product text takes; more than that if it would be cut."""
        return self._network.count_tokens(self._network.card.product_prompt + text)

    def is_word(self, word: str) -> bool:
        """Return whether the model's vocabulary holds the whole word, not only pieces of it."""
        return self._queries.is_one_token(word)

    def _encode(
        self, network: Network, texts: Sequence[str], prompt: str, on_progress: Callable[[int], None] | None
    ) -> Vectors:
        if isinstance(texts, str):
            raise EncoderError(f"cannot encode {texts!r:.80}: expected a list of texts, got one")
        vectors = np.empty((len(texts), self.dim), np.float32)
        for start in range(0, len(texts), WINDOW):
            window = texts[start : start + WINDOW]
            tokens = network.tokenize(window, prompt)
            report = None if on_progress is None else count_from(on_progress, start)
            rows = network.run(tokens, report)
            vectors[start : start + WINDOW] = scale_to_unit(rows[:, : self.dim])
        return vectors


def scale_to_unit(vectors: Vectors) -> Vectors:
    """Return `vectors` with length 1 each; vectors of length 0 stay as they are."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), np.float32)


def count_from(on_progress: Callable[[int], None], start: int) -> Callable[[int], None]:
    """Return what tells `on_progress` how many are done where `start` were done before."""
    return lambda done: on_progress(start + done)
