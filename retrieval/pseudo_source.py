"""The source `pseudo`: queries of the sample shop asked of this catalogue, answered by the teaching cross-encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from retrieval.embedding import embed_texts
from retrieval.engine.config import get_config
from retrieval.engine.exported import EncoderError
from retrieval.engine.rerank import CrossEncoderReranker
from retrieval.engine.text import embedding_text
from retrieval.generations import get_analyzer
from retrieval.indexing import export_for_searches
from retrieval.learning.calibration import calibrate
from retrieval.learning.memory_search import MemorySearch
from retrieval.learning.mixing import TrainingDataError
from retrieval.learning.negatives import build_corpus
from retrieval.learning.pseudo_labels import label
from retrieval.live import MODELS_DIR
from retrieval.setup import get_encoder, get_reranker, load_reranker
from retrieval.training_sources import MADE, PSEUDO, Amounts, Gathered, gather_catalogue, gather_sample

BUILT_IN_TEACHER = "default-reranker"
Told = Callable[[int, int], None]


def find_teacher(*, is_needed: bool) -> CrossEncoderReranker | None:
    """Return the live cross-encoder, None where there is none to be had.

    Where it `is_needed`, the one that comes with the project takes its place, exported first if need be.
    """
    try:
        live = get_reranker()
    except EncoderError:
        live = None
    if live is None and is_needed:
        return load_reranker(export_for_searches(BUILT_IN_TEACHER, MODELS_DIR))
    return live


def gather_pseudo(seed: int, amounts: Amounts, on_query: Told = lambda done, total: None) -> Gathered:
    """Return the sample shop's queries that this catalogue answers, by the word of the teacher.

    None where it cannot tell right from wrong here. Raises TrainingDataError where there is no product, or no teacher.
    """
    catalogue = gather_catalogue(seed, amounts)
    documents = catalogue.documents
    try:
        encoder, teacher = get_encoder(), find_teacher(is_needed=True)
    except EncoderError as error:
        raise TrainingDataError(f"{PSEUDO} needs a cross-encoder to say what answers a query: {error}") from error
    assert teacher is not None
    # What queries made from the catalogue find is known: so is what the teacher's scores mean here.
    calibrated = calibrate(teacher, catalogue.queries, documents, seed=seed)
    if calibrated is None:
        return Gathered([], documents)
    texts = [embedding_text(one, encoder.count_tokens, encoder.max_tokens) for one in documents.values()]
    corpus = build_corpus(list(documents.values()), get_analyzer())
    vectors = embed_texts(texts, encoder, lambda done: None)
    search = MemorySearch(corpus.with_vectors(vectors), encoder, get_config("hybrid"))
    sample = gather_sample(seed, replace(amounts, sample_queries=amounts.pseudo_queries))
    asked = {query.text: replace(query, source=PSEUDO, weight=1.0) for query in sample.queries if query.source != MADE}
    return Gathered(label(list(asked.values()), search, calibrated, on_query=on_query), documents)
