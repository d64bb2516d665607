"""The source `pseudo`: queries of the sample shop asked of this catalogue, answered by the teaching cross-encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from catalog.sample.shop import make_products
from retrieval.embedding import embed_texts
from retrieval.engine.config import get_config
from retrieval.engine.exported import EncoderError
from retrieval.engine.rerank import CrossEncoderReranker
from retrieval.engine.text import embedding_text
from retrieval.generations import get_analyzer
from retrieval.learning.calibration import calibrate
from retrieval.learning.memory_search import MemorySearch
from retrieval.learning.mixing import TrainingDataError
from retrieval.learning.negatives import build_corpus
from retrieval.learning.pseudo_labels import label_queries
from retrieval.live import MODELS_DIR
from retrieval.readers import export_for_searches
from retrieval.setup import get_encoder, get_reranker
from retrieval.training_sources import PSEUDO, Amounts, Gathered, ask_sample, gather_catalogue

BUILT_IN_TEACHER = "default-reranker"
OnPart = Callable[[int, int], None]  # how many are done, and of how many


def find_teacher(*, is_needed: bool) -> CrossEncoderReranker | None:
    """Return the live cross-encoder, None where there is none to be had.

    Where it `is_needed`, the one that comes with the project takes its place, exported first if need be; raises
    EncoderError where that cannot be.
    """
    try:
        live = get_reranker()
    except EncoderError:
        live = None
    if live is None and is_needed:
        return get_reranker(export_for_searches(BUILT_IN_TEACHER, MODELS_DIR).name)
    return live


def gather_pseudo(
    seed: int,
    amounts: Amounts,
    on_part: OnPart = lambda done, total: None,
    *,
    catalogue: Gathered | None = None,
) -> Gathered:
    """Return the sample shop's queries that this catalogue answers, by the word of the teacher.

    None where it cannot tell right from wrong here. `catalogue`: what that source gave, where it was asked already.
    `on_part` is told how much is done of each step, and may end it all. Raises TrainingDataError where there is no
    product, or no teacher.
    """
    catalogue = catalogue or gather_catalogue(seed, amounts)
    documents, encoder = catalogue.documents, get_encoder()
    try:
        teacher = find_teacher(is_needed=True)
    except EncoderError as error:
        raise TrainingDataError(f"{PSEUDO} needs a cross-encoder to say what answers a query: {error}") from error
    assert teacher is not None
    # What queries made from the catalogue find is known: so is what the teacher's scores mean here.
    calibrated = calibrate(teacher, catalogue.queries, documents, seed=seed, on_query=on_part)
    if calibrated is None:
        return Gathered([], documents)
    texts = [embedding_text(one, encoder.count_tokens, encoder.max_tokens) for one in documents.values()]
    vectors = embed_texts(texts, encoder, lambda done: on_part(done, len(texts)))
    corpus = build_corpus(list(documents.values()), get_analyzer()).with_vectors(vectors)
    asked = ask_sample(list(make_products(amounts.sample_products, seed)), seed, amounts.pseudo_queries)
    queries = [replace(query, source=PSEUDO) for query in {query.text: query for query in asked}.values()]
    search = MemorySearch(corpus, encoder, get_config("hybrid"))
    return Gathered(label_queries(queries, search, calibrated, on_query=on_part), documents)
