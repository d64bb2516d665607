"""Vectors of products, each text embedded once: the encoder works while the batch before it is being indexed."""

from __future__ import annotations

import hashlib
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from django.db.models import QuerySet

from retrieval.engine.encoders import TwoTowerEncoder, count_from
from retrieval.engine.text import embedding_text
from retrieval.engine.types import Document, Vectors
from retrieval.models import Embedding, IndexBuild

Progress = Callable[[IndexBuild], None]
AHEAD = 2  # batches handed to the encoder before the first is asked back: it never waits
REPORT_S = 0.5
BATCH = 500
SWITCH_S = 0.0002


@dataclass
class Job:
    """A batch at the encoder: `missing` are the texts it embeds, by their hash."""

    documents: list[Document]
    hashes: list[str]
    missing: dict[str, str]
    done: int = 0
    vectors: Future[Vectors] = field(default_factory=Future)

    def report(self, done: int) -> None:
        self.done = done


def embed_batches(
    batches: Iterable[list[Document]], encoder: TwoTowerEncoder, build: IndexBuild, on_progress: Progress
) -> Iterator[tuple[list[Document], Vectors]]:
    """Yield each batch with its vectors, shape (len(batch), encoder.dim); `build` is told how far it is."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="embed")
    waiting: deque[Job] = deque()
    try:
        with _short_turns():
            for documents in batches:
                job = _start(documents, encoder, {digest for other in waiting for digest in other.missing})
                job.vectors = pool.submit(encoder.encode_products, list(job.missing.values()), job.report)
                waiting.append(job)
                if len(waiting) > AHEAD:
                    job = waiting.popleft()
                    yield job.documents, _finish(job, encoder, build, on_progress)
            while waiting:
                job = waiting.popleft()
                yield job.documents, _finish(job, encoder, build, on_progress)
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _short_turns() -> Iterator[None]:
    """Let threads take turns often: the encoder's need Python for a moment only, between long computations."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def embed_texts(texts: Sequence[str], encoder: TwoTowerEncoder, on_progress: Callable[[int], None]) -> Vectors:
    """Return the products' vectors, shape (len(texts), encoder.dim): read where they are stored, stored where new.

    `on_progress` is given how many are there, now and then.
    """
    vectors = np.empty((len(texts), encoder.dim), np.float32)
    for start in range(0, len(texts), BATCH):
        part = texts[start : start + BATCH]
        hashes = [_hash(text) for text in part]
        known = _read(encoder, hashes)
        missing = {digest: text for digest, text in zip(hashes, part, strict=True) if digest not in known}
        known_before = start + len(part) - len(missing)
        on_progress(known_before)
        new = encoder.encode_products(list(missing.values()), count_from(on_progress, known_before)) if missing else ()
        fresh = dict(zip(missing, new, strict=True))
        _keep(encoder, fresh)
        known |= fresh
        vectors[start : start + BATCH] = [known[digest] for digest in hashes]
    return vectors


def _start(documents: list[Document], encoder: TwoTowerEncoder, being_made: set[str]) -> Job:
    texts = [embedding_text(document, encoder.count_tokens, encoder.max_tokens) for document in documents]
    hashes = [_hash(text) for text in texts]
    there = being_made | set(_stored(encoder, hashes).values_list("text_hash", flat=True))
    missing = {digest: text for digest, text in zip(hashes, texts, strict=True) if digest not in there}
    return Job(documents, hashes, missing)


def _finish(job: Job, encoder: TwoTowerEncoder, build: IndexBuild, on_progress: Progress) -> Vectors:
    """Wait for the batch and return its vectors, keeping those that are new."""
    before, reused = build.products_done, len(job.documents) - len(job.missing)
    while not wait([job.vectors], timeout=REPORT_S).done:
        build.products_done = before + reused + job.done
        build.save(update_fields=["products_done", "products_total", "is_full"])
        on_progress(build)
    new = dict(zip(job.missing, job.vectors.result(), strict=True))
    _keep(encoder, new)
    known = _read(encoder, [digest for digest in job.hashes if digest not in new]) | new
    build.products_done = before + len(job.documents)
    build.embedded += len(new)
    build.save(update_fields=["products_done", "products_total", "is_full", "embedded"])
    on_progress(build)
    return np.array([known[digest] for digest in job.hashes], np.float32).reshape(len(job.documents), encoder.dim)


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _read(encoder: TwoTowerEncoder, hashes: Sequence[str]) -> dict[str, Vectors]:
    rows = _stored(encoder, hashes).values_list("text_hash", "vector")
    return {digest: np.frombuffer(vector, np.float32) for digest, vector in rows}


def _stored(encoder: TwoTowerEncoder, hashes: Sequence[str]) -> QuerySet[Embedding]:
    return Embedding.objects.filter(model_version=encoder.model_version, text_hash__in=hashes)


def _keep(encoder: TwoTowerEncoder, vectors: dict[str, Vectors]) -> None:
    rows = [
        Embedding(model_version=encoder.model_version, text_hash=digest, vector=vector.tobytes())
        for digest, vector in vectors.items()
    ]
    Embedding.objects.bulk_create(rows, batch_size=500, ignore_conflicts=True)
