"""Reading the best hits again, query and product together: the cross-encoder and what it remembers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock

import numpy as np

from retrieval.engine.network import Network, Precision
from retrieval.engine.types import Scores

Key = tuple[str, str, str]  # model version, query, content hash


class RerankCache:
    """The scores last used, at most `size` of them. Safe to share between threads and rerankers."""

    def __init__(self, size: int = 50_000) -> None:
        if size < 1:
            raise ValueError(f"a cache of {size} scores, expected 1 or more")
        self._size, self._lock = size, Lock()
        self._scores: OrderedDict[Key, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._scores)

    def get_many(self, keys: Sequence[Key]) -> dict[Key, float]:
        """Return the scores of those keys that are known."""
        with self._lock:
            found = {key: self._scores[key] for key in keys if key in self._scores}
            for key in found:
                self._scores.move_to_end(key)
        return found

    def put_many(self, scores: Mapping[Key, float]) -> None:
        """Remember these scores; the ones not used for longest make room."""
        with self._lock:
            for key, score in scores.items():
                self._scores[key] = score
                self._scores.move_to_end(key)
            while len(self._scores) > self._size:
                self._scores.popitem(last=False)


class CrossEncoderReranker:
    """Scores a query and a product's text read together, through OpenVINO."""

    def __init__(
        self, folder: Path, cache: RerankCache | None = None, *, threads: int = 0, precision: Precision = "auto"
    ) -> None:
        """Load the model in `folder`, with a cache of its own unless one is given.

        threads: 0 for all cores. Raises EncoderError when the model cannot be loaded.
        """
        self._network = Network(folder, "cross-encoder", threads=threads, precision=precision)
        self._cache = RerankCache() if cache is None else cache
        self.model_version = self._network.card.version
        self.span = self._network.card.span

    def score(self, query: str, documents: Sequence[tuple[str, str]]) -> Scores:
        """Return one score per (content hash, text), float32 of shape (len(documents),), higher is better.

        The score is the logit of the model's one label, or of the last of its two. Scores are remembered by
        model, query and content hash; a document without a hash is read every time. Raises EncoderError for
        what is not a str, or if the model gives no finite numbers.
        """
        keys = [(self.model_version, query, content_hash or f"\0{n}") for n, (content_hash, _) in enumerate(documents)]
        scores = self._cache.get_many(keys)
        texts = {key: text for key, (_, text) in zip(keys, documents, strict=True) if key not in scores}
        if texts:
            logits = self._network.run(self._network.tokenize([(query, text) for text in texts.values()]))
            fresh = dict(zip(texts, logits[:, 0].tolist(), strict=True))
            self._cache.put_many({key: score for key, score in fresh.items() if not key[2].startswith("\0")})
            scores |= fresh
        return np.array([scores[key] for key in keys], np.float32)
