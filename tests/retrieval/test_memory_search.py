"""The search in memory finds what the pipeline finds on a real index."""

from dataclasses import replace

import numpy as np
import pytest

from retrieval.engine.config import get_config
from retrieval.engine.text import Analyzer
from retrieval.engine.types import Query
from retrieval.learning.memory_search import MemorySearch
from retrieval.learning.negatives import build_corpus
from retrieval.reading import Reading, read_again
from tests.fakes import HashEncoder, build_pipeline
from tests.retrieval.test_pipeline import SHOP, PreferLong, ids


@pytest.mark.parametrize("text", ["keyboard", "couch", "steel mug", "wireless mouse mx100", "sofa with holder", "zzz"])
@pytest.mark.parametrize("config", ["hybrid", "lexical", "dense"])
def test_it_finds_what_the_pipeline_finds_with_the_same_scores(tmp_path, text, config):
    encoder = HashEncoder({"couch": "sofa"})
    pipeline = build_pipeline(tmp_path, SHOP, get_config(config), encoder=encoder)
    corpus = build_corpus(SHOP, Analyzer())
    corpus = corpus.with_vectors(encoder.encode_products([document.title for document in SHOP]))
    [ranking] = MemorySearch(corpus, encoder, get_config(config)).search([text], limit=50)
    scores = dict(ranking)
    hits = pipeline.search(Query(text, is_verbatim=True)).hits
    for hit in hits:
        assert scores[hit.product_id] == pytest.approx(hit.explanation.fused_score, abs=1e-3)
    found = [scores[hit.product_id] for hit in hits]
    assert found == sorted(found, reverse=True)
    assert ranking.scores[: len(hits)] == pytest.approx(np.array(found), abs=1e-3)


def test_each_side_brings_as_many_candidates_as_the_pipeline_asks_for(tmp_path):
    encoder, config = HashEncoder({}), replace(get_config("hybrid"), depth=10)
    shop = [
        replace(one, product_id=one.product_id + 100 * n, title=f"{one.title} mk{n}") for n in range(4) for one in SHOP
    ]
    corpus = build_corpus(shop, Analyzer())
    corpus = corpus.with_vectors(encoder.encode_products([document.title for document in shop]))
    [ranking] = MemorySearch(corpus, encoder, config).search(["wireless mouse"], limit=100)
    pipeline = build_pipeline(tmp_path, shop, config, encoder=encoder)
    hits = pipeline.search(Query("wireless mouse", is_verbatim=True)).hits
    assert len(ranking) < len(shop)
    assert ranking.scores[: len(hits)] == pytest.approx([hit.explanation.fused_score for hit in hits], abs=1e-3)


@pytest.mark.parametrize("text", ["keyboard", "steel mug", "ceramic mug", "typa kx-200"])
def test_it_is_read_again_as_the_pipeline_reads_it(tmp_path, text):
    config = replace(get_config("hybrid"), rerank_depth=2, rerank_blend=0.6)
    corpus = build_corpus([replace(one, content_hash="") for one in SHOP], Analyzer())
    corpus = corpus.with_vectors(HashEncoder().encode_products([document.title for document in SHOP]))
    [ranking] = MemorySearch(corpus, HashEncoder(), config).search([text], limit=50)
    found = read_again(text, ranking, corpus, Reading(PreferLong(), depth=2, blend=0.6)).tolist()
    shown = ids(build_pipeline(tmp_path, SHOP, config, reranker=PreferLong()).search(Query(text, is_verbatim=True)))
    assert [one for one in found if one in shown] == shown
