"""Hard negatives: found by words and by vectors, doubted by a teacher, counted against truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from retrieval.engine.lexicon import build_lexicon
from retrieval.engine.text import Analyzer
from retrieval.engine.types import Scores, Vectors
from retrieval.learning.examples import LabelledQuery
from retrieval.learning.negatives import (
    MiningSettings,
    build_corpus,
    filter_by_teacher,
    interleave,
    measure_false_negatives,
    mine,
    mine_bm25,
    mine_dense,
)
from tests.fakes import HashEncoder, make_document

TITLES = {1: "red mug", 2: "blue mug", 3: "red kettle", 4: "green sofa", 5: "red mug tree", 6: "cup"}
DOCUMENTS = [make_document(product_id, title, content_hash=title) for product_id, title in TITLES.items()]
SETTINGS = MiningSettings(count=4, depth=4)
ANALYZER = Analyzer()


@pytest.fixture(scope="module")
def corpus():
    return build_corpus(DOCUMENTS, ANALYZER).with_vectors(HashEncoder().encode_products(list(TITLES.values())))


def ask(text: str, **grades: float) -> LabelledQuery:
    return LabelledQuery(text, {int(name[1:]): grade for name, grade in grades.items()}, "test")


class Synonyms:
    """A teacher who knows that a cup is a mug: 4 for a product with all words asked for, less 3 for each not there."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def score(self, query: str, documents: Sequence[tuple[str, str]]) -> Scores:
        self.read += [text for _, text in documents]
        words = [set(text.replace("cup", "mug").replace(".", "").split()) for _, text in documents]
        return np.array([4 - 3 * len(set(query.split()) - found) for found in words], np.float32)


def test_words_weigh_as_they_do_in_the_index(corpus):
    lexicon = build_lexicon(DOCUMENTS, ANALYZER)
    vector = corpus.bm25.product_vector(DOCUMENTS[1])
    expected = {term: lexicon.idf(term) for term in ANALYZER.tokens("blue mug")}
    found = corpus.weights[[1]].toarray()[0]
    columns = np.searchsorted(corpus.terms, vector.indices)
    weights = dict(zip(vector.indices.tolist(), (found[columns] / vector.values).tolist(), strict=True))
    for term, idf in expected.items():
        query = corpus.bm25.query_vector(term)
        assert weights[int(query.indices[0])] == pytest.approx(idf, rel=1e-5)


def test_words_find_what_shares_them_best_first_without_what_is_right(corpus):
    queries = [ask("red mug", p1=3), ask("purple", p1=3), ask("sofa", p1=3)]
    assert mine_bm25(corpus, queries, 2) == [[5, 2], [], [4]]
    assert mine_bm25(corpus, queries, 10)[0] == [5, 2, 3]
    assert mine_bm25(corpus, [], 2) == []


def test_good_substitutes_are_no_negatives(corpus):
    assert mine_bm25(corpus, [ask("red mug", p1=3, p5=2, p3=1)], 10) == [[2, 3]]


def test_vectors_find_the_nearest_without_what_is_right(corpus):
    vectors: Vectors = np.asarray(corpus.vectors)[[0, 3]]
    assert mine_dense(corpus, [ask("red mug", p1=3), ask("sofa", p1=3)], vectors, 2)[1][0] == 4
    found = mine_dense(corpus, [ask("red mug", p1=3), ask("sofa")], vectors, 6)
    similar = np.argsort(-(vectors @ np.asarray(corpus.vectors).T), axis=1) + 1
    assert found == [[product for product in similar[0].tolist() if product != 1], similar[1].tolist()]


def test_only_products_of_the_querys_own_shop_are_found():
    corpus = build_corpus([make_document(number, "red mug") for number in (-2, -1, 1, 2)], ANALYZER)
    assert mine_bm25(corpus, [ask("mug", p1=3), LabelledQuery("mug", {-1: 3}, "test")], 9) == [[2], [-2]]


def test_many_queries_are_mined_like_one(corpus):
    queries = [ask(f"{text} x{number}", p1=3) for number in range(300) for text in ("red mug",)]
    assert mine_bm25(corpus, queries, 3) == [[5, 2, 3]] * 300


def test_a_candidate_close_to_the_positive_is_dropped():
    scores = np.array([3.5, 1.0, 2.0, -4.0], np.float32)
    assert filter_by_teacher([7, 8, 9, 10], scores, 4.0, 2.0) == [8, 10]
    assert filter_by_teacher([], np.empty(0, np.float32), 4.0, 2.0) == []


def test_lists_take_turns():
    assert interleave([[1, 2, 3], [4, 1]]) == [1, 4, 2, 3]


def test_words_and_vectors_take_turns_behind_what_is_known_to_be_wrong(corpus):
    encoder, query = HashEncoder(), ask("red mug", p1=3, p4=0, p6=0, p3=1)
    words = mine_bm25(corpus, [query], 4)[0]
    vectors = mine_dense(corpus, [query], encoder.encode_queries(["red mug"]), 4)[0]
    found = interleave([words, vectors])
    known, fresh = (
        [product for product in found if (product in query.grades) == is_known] for is_known in (True, False)
    )
    assert known
    assert fresh
    negatives = mine([query], corpus, encoder, None, SETTINGS)["red mug"]
    assert negatives == [*list(dict.fromkeys([*known, 4, 6, 3]))[:2], *fresh[:2]]


def test_the_teacher_takes_out_answers_nobody_has_labelled(corpus):
    teacher, query = Synonyms(), ask("red mug", p1=3)
    assert 5 in mine([query], corpus, None, None, SETTINGS)["red mug"]
    assert mine([query], corpus, None, teacher, SETTINGS)["red mug"] == [2, 3]  # not the red mug tree
    assert teacher.read[0].startswith("red mug")


def test_a_query_nothing_is_found_for_gets_products_by_chance(corpus):
    found = mine([ask("purple", p1=3)], corpus, None, None, SETTINGS)["purple"]
    assert found
    assert 1 not in found
    assert mine([ask("purple", p1=3)], corpus, None, None, SETTINGS)["purple"] == found


def test_a_catalogue_without_products_has_no_negatives():
    empty = build_corpus([], ANALYZER)
    assert mine([ask("mug", p1=3)], empty, None, None, SETTINGS) == {"mug": []}


def test_false_negatives_are_counted_against_truth(corpus):
    known, truth = ask("red mug", p1=3), {"red mug": {1: 3.0, 5: 3.0, 3: 1.0}}
    mined = mine([known], corpus, None, None, SETTINGS)
    assert mined["red mug"] == [5, 2, 3]
    assert measure_false_negatives(mined, truth) == pytest.approx(1 / 3)
    assert measure_false_negatives(mine([known], corpus, None, Synonyms(), SETTINGS), truth) == 0.0
    assert measure_false_negatives({}, truth) == 0.0
