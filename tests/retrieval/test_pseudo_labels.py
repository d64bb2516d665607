"""Queries of the sample shop asked of a catalogue: a teacher says what answers them, and whether anything does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from retrieval import pseudo_source
from retrieval.engine.config import get_config
from retrieval.engine.exported import EncoderError
from retrieval.engine.text import Analyzer
from retrieval.engine.types import Scores
from retrieval.learning.examples import LabelledQuery
from retrieval.learning.memory_search import MemorySearch
from retrieval.learning.mixing import TrainingDataError
from retrieval.learning.negatives import build_corpus
from retrieval.learning.pseudo_labels import PseudoSettings, label
from retrieval.training_data import Amounts, collect
from retrieval.training_sources import CATALOGUE, PSEUDO, gather_sample
from tests.factories import make_product
from tests.fakes import HashEncoder, make_document

TITLES = {1: "red mug", 2: "blue mug", 3: "mug rack", 4: "green sofa", 5: "cup", 6: "mug"}
ODDS = {"red mug": 4.0, "mug": 3.5, "blue mug": 2.5, "mug rack": 0.0, "cup": 1.5, "green sofa": -3.0}


class Teacher:
    """One whose log-odds are given, by the content hash, which is the title; `read` counts what it was asked to."""

    def __init__(self, odds: dict[str, float]) -> None:
        self.odds, self.read = odds, 0

    def score(self, query: str, documents: Sequence[tuple[str, str]]) -> Scores:
        self.read += len(documents)
        return np.array([self.odds[title] for title, _ in documents], np.float32)


class Reader:
    """A teacher who reads: 5 for a product with all words of the query, 5 less for each that is missing."""

    def score(self, query: str, documents: Sequence[tuple[str, str]]) -> Scores:
        asked = set(query.casefold().split())
        found = [set(text.casefold().replace(".", " ").split()) for _, text in documents]
        return np.array([5 - 5 * len(asked - words) for words in found], np.float32)


class Shrug:
    """A teacher to whom all is the same."""

    def score(self, query: str, documents: Sequence[tuple[str, str]]) -> Scores:
        return np.zeros(len(documents), np.float32)


@pytest.fixture(scope="module")
def search() -> MemorySearch:
    encoder = HashEncoder()
    documents = [make_document(product_id, title, content_hash=title) for product_id, title in TITLES.items()]
    corpus = build_corpus(documents, Analyzer()).with_vectors(encoder.encode_products(list(TITLES.values())))
    return MemorySearch(corpus, encoder, get_config("hybrid"))


def ask(text: str) -> LabelledQuery:
    return LabelledQuery(text, {-7: 3.0}, "pseudo", is_complete=True)


def test_the_best_are_answers_those_far_below_wrong_and_of_the_rest_nobody_knows(search):
    [query] = label([ask("mug")], search, Teacher(ODDS))
    assert query.grades == {1: 3.0, 6: 3.0, 2: 2.0, 5: 1.0, 3: 1.0, 4: 1.0}
    assert (query.text, query.source, query.is_complete) == ("mug", "pseudo", False)


def test_no_more_than_the_best_few_are_answers(search):
    alike = dict.fromkeys(ODDS, 4.0)
    [query] = label([ask("mug")], search, Teacher(alike), PseudoSettings(most=2))
    assert sorted(query.grades.values()) == [2.0, 2.0, 2.0, 2.0, 3.0, 3.0]
    assert 6 in query.positives  # the search puts it first


def test_a_query_that_nothing_answers_is_left_out_after_a_glance(search):
    teacher = Teacher(dict.fromkeys(ODDS, 0.9))
    assert label([ask("mug")], search, teacher, PseudoSettings(glance=2)) == []
    assert teacher.read == 2
    told: list[tuple[int, int]] = []
    found = label([ask("mug"), ask("sofa")], search, Teacher(ODDS), on_query=lambda *done: told.append(done))
    assert [query.text for query in found] == ["mug", "sofa"]
    assert told == [(0, 2), (1, 2)]


def test_an_empty_shop_answers_nothing():
    search = MemorySearch(
        build_corpus([], Analyzer()).with_vectors(np.empty((0, 8), np.float32)), HashEncoder(), get_config("hybrid")
    )
    assert label([], search, Teacher(ODDS)) == []


# --- the source ---------------------------------------------------------------------------------------

FEW = Amounts(catalogue_queries=60, pseudo_queries=300, sample_products=700)


@pytest.fixture
def shop(db, monkeypatch):
    """Some of what is asked for in the sample shop, in three colours."""
    asked = gather_sample(1, replace(FEW, sample_queries=FEW.pseudo_queries)).queries
    nouns = [query.text for query in asked if query.text.isalpha()][:8]
    for noun in nouns:
        for colour in ("black", "white", "red"):
            make_product(f"{colour} {noun}", brand="Lumo", category=f"All > {noun}", attributes={"Colour": colour})
    monkeypatch.setattr(pseudo_source, "get_encoder", HashEncoder)
    monkeypatch.setattr(pseudo_source, "find_teacher", lambda **_: Reader())
    return {noun.casefold() for noun in nouns}


def test_what_shoppers_ask_elsewhere_is_asked_here(shop):
    found = pseudo_source.gather_pseudo(1, FEW)
    assert found.queries
    assert {query.source for query in found.queries} == {PSEUDO}
    for query in found.queries:
        assert shop & set(query.text.casefold().split())
        assert all(product_id > 0 for product_id in query.grades)
        for product_id in query.positives:
            assert set(query.text.split()) <= set(found.documents[product_id].title.split())


def test_it_is_a_source_beside_others_and_proves_nothing(shop):
    told: list[str] = []
    parts: list[tuple[int, int]] = []
    collected = collect(
        [(CATALOGUE, 1.0), (PSEUDO, 1.0)], amounts=FEW, on_source=told.append, on_part=lambda *done: parts.append(done)
    )
    assert told == [CATALOGUE, PSEUDO]
    assert parts[-1][0] == parts[-1][1] - 1
    assert {query.source.partition(":")[0] for query in collected.queries} == {CATALOGUE, PSEUDO}
    facts = {one["name"]: one for one in collected.report["sources"]}
    assert facts[PSEUDO]["queries"] > 0


def test_a_teacher_that_tells_nothing_apart_answers_nothing(shop, monkeypatch):
    monkeypatch.setattr(pseudo_source, "find_teacher", lambda **_: Shrug())
    assert pseudo_source.gather_pseudo(1, FEW).queries == []
    assert collect([(CATALOGUE, 1.0), (PSEUDO, 1.0)], amounts=FEW).queries
    with pytest.raises(TrainingDataError, match="there is no query to learn from"):
        collect([(PSEUDO, 1.0)], amounts=FEW)


def test_without_any_cross_encoder_it_is_refused_with_the_reason(shop, monkeypatch):
    def fail(*, is_needed: bool) -> None:
        raise EncoderError("there is no model folder 'x'")

    monkeypatch.setattr(pseudo_source, "find_teacher", fail)
    with pytest.raises(TrainingDataError, match=r"pseudo needs a cross-encoder .* no model folder 'x'"):
        collect([(PSEUDO, 1.0)], amounts=FEW)


@pytest.mark.parametrize("is_needed", [True, False])
def test_the_live_cross_encoder_teaches_and_in_need_the_one_that_comes_with_the_project(
    monkeypatch, tmp_path, is_needed
):
    live, built_in = Reader(), Reader()
    monkeypatch.setattr(pseudo_source, "get_reranker", lambda: live)
    assert pseudo_source.find_teacher(is_needed=is_needed) is live

    def export(name, models_dir):
        assert name == "default-reranker"
        return tmp_path

    monkeypatch.setattr(pseudo_source, "export_for_searches", export)
    monkeypatch.setattr(pseudo_source, "load_reranker", lambda folder: built_in)
    for nothing in (lambda: None, pytest.raises):
        monkeypatch.setattr(pseudo_source, "get_reranker", _fail if nothing is pytest.raises else nothing)
        assert pseudo_source.find_teacher(is_needed=is_needed) is (built_in if is_needed else None)


def _fail() -> None:
    raise EncoderError("not exported yet")
