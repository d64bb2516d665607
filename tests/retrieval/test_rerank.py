"""The cross-encoder in OpenVINO beside PyTorch, and what it remembers. The model is tiny and random."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from retrieval.engine.exported import EncoderError
from retrieval.engine.rerank import CrossEncoderReranker, RerankCache
from retrieval.learning.export import export_reranker
from tests.tiny_models import make_tokenizer, save_cross_encoder

DOCUMENTS = [
    ("h1", "red mug of steel"),
    ("h2", "blue kettle"),
    ("h3", "sofa. " * 60),  # cut at the model's limit
    ("h4", ""),
    ("h5", "green travel cup, for kettle and sofa: steel mug"),
]


@pytest.fixture(scope="module")
def models_by_labels(tmp_path_factory):
    """The folders of a cross-encoder with one label and of one with two, each in PyTorch and exported."""
    folder = tmp_path_factory.mktemp("models")
    sources = {labels: save_cross_encoder(folder / f"tiny{labels}", seed=labels, labels=labels) for labels in (1, 2)}
    return {labels: (source, export_reranker(str(source), folder / "models")) for labels, source in sources.items()}


@pytest.fixture(params=[1, 2], ids=["one label", "two labels"])
def models(request, models_by_labels):
    return models_by_labels[request.param]


@pytest.fixture
def reranker(models):
    return CrossEncoderReranker(models[1], precision="f32")


def score_by_pytorch(source, query: str, texts: list[str]) -> Any:
    features = make_tokenizer()(
        [query] * len(texts), texts, padding=True, truncation=True, max_length=48, return_tensors="pt"
    )
    with torch.inference_mode():
        return AutoModelForSequenceClassification.from_pretrained(source).eval()(**features).logits[:, -1].numpy()


def test_scores_are_the_last_logits_of_pytorch(models, reranker):
    scores = reranker.score("red mug", DOCUMENTS)
    assert scores.shape == (5,)
    assert scores.dtype == np.float32
    assert np.abs(scores - score_by_pytorch(models[0], "red mug", [text for _, text in DOCUMENTS])).max() < 1e-2
    assert np.ptp(scores) > 0.05  # they differ, so that the comparison says something


def test_query_and_product_are_told_apart(reranker):
    there, back = reranker.score("red mug", [("", "sofa")])[0], reranker.score("sofa", [("", "red mug")])[0]
    assert abs(there - back) > 1e-3


def test_no_documents_give_no_scores(reranker):
    assert reranker.score("mug", []).shape == (0,)


def test_a_long_query_leaves_the_pair_scored(reranker):
    assert np.isfinite(reranker.score("mug " * 1000, DOCUMENTS)).all()


@pytest.mark.parametrize(
    ("query", "text", "name"), [("mug", None, "NoneType"), ("mug", 5, "int"), (None, "mug", "NoneType")]
)
def test_what_is_no_text_is_refused_by_name(reranker, query, text, name):
    with pytest.raises(EncoderError, match=rf"cannot encode .*: expected a str, got {name}"):
        reranker.score(query, [("h1", text)])


def test_threads_share_a_reranker(models):
    queries = [f"{colour} {thing}" for colour in ("red", "blue", "green") for thing in ("mug", "sofa", "cup")] * 4
    alone = CrossEncoderReranker(models[1], precision="f32")
    expected = [alone.score(query, DOCUMENTS).tolist() for query in queries]
    shared = CrossEncoderReranker(models[1], precision="f32")
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda query: shared.score(query, DOCUMENTS).tolist(), queries))
    assert np.allclose(found, expected, atol=1e-4)


# --- what is remembered --------------------------------------------------------------------------------


@pytest.fixture
def cache():
    return RerankCache()


@pytest.fixture
def remembering(models, cache):
    return CrossEncoderReranker(models[1], cache, precision="f32")


def test_scores_are_remembered_by_model_query_and_content_hash(remembering, cache):
    scores = remembering.score("red mug", DOCUMENTS)
    keys = [(remembering.model_version, "red mug", content_hash) for content_hash, _ in DOCUMENTS]
    assert cache.get_many(keys) == pytest.approx(dict(zip(keys, scores.tolist(), strict=True)))
    assert len(cache) == 5


def test_a_remembered_score_is_not_computed_again(remembering, cache):
    # A score no network gives shows where the answer came from.
    cache.put_many({(remembering.model_version, "red mug", "h2"): 1234.5})
    scores = remembering.score("red mug", DOCUMENTS)
    assert scores[1] == 1234.5
    assert np.abs(np.delete(scores, 1)).max() < 1000
    assert remembering.score("red mug", DOCUMENTS).tolist() == scores.tolist()
    assert remembering.score("blue mug", DOCUMENTS)[1] < 1000


def test_a_changed_product_is_read_again(remembering, cache):
    before = remembering.score("red mug", [("h1", "steel mug")])[0]
    assert remembering.score("red mug", [("h1-changed", "green sofa")])[0] != before
    assert len(cache) == 2


def test_another_model_has_scores_of_its_own(models_by_labels, cache):
    one, other = (CrossEncoderReranker(models_by_labels[labels][1], cache) for labels in (1, 2))
    assert np.abs(one.score("red mug", DOCUMENTS) - other.score("red mug", DOCUMENTS)).max() > 1e-2
    assert len(cache) == 10


def test_products_without_a_hash_are_read_every_time(remembering, cache):
    scores = remembering.score("red mug", [("", "steel mug"), ("", "blue sofa"), ("h1", "kettle")])
    assert len(cache) == 1
    assert scores[0] != scores[1]
    assert remembering.score("red mug", [("", "blue sofa")])[0] == pytest.approx(scores[1], abs=1e-4)


def test_products_alike_are_read_once(remembering, cache):
    scores = remembering.score("red mug", [("h1", "steel mug"), ("h1", "steel mug")])
    assert scores[0] == scores[1]
    assert len(cache) == 1


def keys(*names: str) -> list[tuple[str, str, str]]:
    return [("model", "query", name) for name in names]


def test_scores_not_used_for_longest_make_room():
    cache = RerankCache(size=3)
    cache.put_many(dict.fromkeys(keys("a", "b", "c"), 1.0))
    cache.get_many(keys("a"))  # used: b is the oldest now
    cache.put_many(dict.fromkeys(keys("c", "d"), 2.0))
    assert cache.get_many(keys("a", "b", "c", "d")) == dict(zip(keys("a", "c", "d"), (1.0, 2.0, 2.0), strict=True))


def test_more_scores_than_fit_leave_the_last():
    cache = RerankCache(size=2)
    cache.put_many(dict.fromkeys(keys("a", "b", "c", "d"), 1.0))
    assert len(cache) == 2
    assert list(cache.get_many(keys("a", "b", "c", "d"))) == keys("c", "d")


def test_more_products_than_the_cache_holds_are_all_scored(models):
    small = CrossEncoderReranker(models[1], RerankCache(size=1), precision="f32")
    large = CrossEncoderReranker(models[1], precision="f32")
    assert np.allclose(small.score("red mug", DOCUMENTS), large.score("red mug", DOCUMENTS), atol=1e-4)


@pytest.mark.parametrize("size", [0, -1])
def test_a_cache_of_nothing_is_refused(size):
    with pytest.raises(ValueError, match=f"a cache of {size} scores, expected 1 or more"):
        RerankCache(size)
