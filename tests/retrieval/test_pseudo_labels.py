"""Queries of the sample shop asked of a catalogue: a teacher says what answers them, and whether anything does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from retrieval import pseudo_source
from retrieval.admin.training_form import TrainingForm
from retrieval.engine.config import get_config
from retrieval.engine.exported import EncoderError
from retrieval.engine.text import Analyzer
from retrieval.engine.types import Scores
from retrieval.evaluation import guards
from retrieval.judging import convene, decide
from retrieval.learning.examples import LabelledQuery
from retrieval.learning.memory_search import MemorySearch
from retrieval.learning.mixing import TrainingDataError
from retrieval.learning.negatives import build_corpus
from retrieval.learning.pseudo_labels import PseudoSettings, label_queries
from retrieval.learning.training import TrainingCancelledError
from retrieval.training_data import Amounts, collect
from retrieval.training_runs import create_training
from retrieval.training_settings import TrainingRefused
from retrieval.training_sources import CATALOGUE, PSEUDO, gather_catalogue, gather_sample
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
    [query] = label_queries([ask("mug")], search, Teacher(ODDS))
    assert query.grades == {1: 3.0, 6: 3.0, 2: 2.0, 5: 0.0, 3: 0.0, 4: 0.0}
    assert (query.text, query.source, query.is_complete) == ("mug", "pseudo", False)


def test_no_more_than_the_best_few_are_answers(search):
    alike = dict.fromkeys(ODDS, 4.0)
    [query] = label_queries([ask("mug")], search, Teacher(alike), PseudoSettings(most=2))
    assert sorted(query.grades.values()) == [2.0, 2.0, 2.0, 2.0, 3.0, 3.0]
    assert 6 in query.positives  # the search puts it first


def test_a_query_that_nothing_answers_is_left_out_after_a_glance(search):
    teacher = Teacher(dict.fromkeys(ODDS, 0.9))
    assert label_queries([ask("mug")], search, teacher, PseudoSettings(glance=2)) == []
    assert teacher.read == 2
    told: list[tuple[int, int]] = []
    found = label_queries([ask("mug"), ask("sofa")], search, Teacher(ODDS), on_query=lambda *done: told.append(done))
    assert [query.text for query in found] == ["mug", "sofa"]
    assert told == [(0, 2), (1, 2)]


def test_an_empty_shop_answers_nothing():
    search = MemorySearch(
        build_corpus([], Analyzer()).with_vectors(np.empty((0, 8), np.float32)), HashEncoder(), get_config("hybrid")
    )
    assert label_queries([], search, Teacher(ODDS)) == []


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
        [(CATALOGUE, 1.0), (PSEUDO, 3.0)], amounts=FEW, on_source=told.append, on_part=lambda *done: parts.append(done)
    )
    assert told == [CATALOGUE, PSEUDO]
    assert parts[-1][0] == parts[-1][1] - 1
    assert {query.source.partition(":")[0] for query in collected.queries} == {CATALOGUE, PSEUDO}
    facts = {one["name"]: one for one in collected.report["sources"]}
    assert facts[PSEUDO]["queries"] > 0
    court = convene(collected, [CATALOGUE, PSEUDO], seed=1)
    worse, better = (
        {name: np.full(len(queries), score) for name, queries in court.sets.items()} for score in (0.2, 0.9)
    )
    assert not decide(court, worse, better).is_passed


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


def test_a_training_is_cancelled_in_the_middle_of_it(shop):
    def stop(done: int, total: int) -> None:
        if done == 5:
            raise TrainingCancelledError("cancelled")

    with pytest.raises(TrainingCancelledError):
        pseudo_source.gather_pseudo(1, FEW, stop)


def test_the_catalogue_that_was_asked_already_is_not_read_again(shop, monkeypatch):
    catalogue = gather_catalogue(1, FEW)
    monkeypatch.setattr(pseudo_source, "gather_catalogue", None)
    assert pseudo_source.gather_pseudo(1, FEW, catalogue=catalogue).queries


def _refuse() -> None:
    raise EncoderError("not exported yet")


@pytest.mark.parametrize("get_live", [lambda: None, _refuse])
@pytest.mark.parametrize("is_needed", [True, False])
def test_where_none_is_live_the_one_that_comes_with_the_project_teaches_in_need(
    monkeypatch, tmp_path, get_live, is_needed
):
    built_in: Any = Reader()
    monkeypatch.setattr(pseudo_source, "get_reranker", lambda version="": built_in if version else get_live())
    monkeypatch.setattr(pseudo_source, "export_for_searches", lambda name, models_dir: tmp_path / name)
    assert pseudo_source.find_teacher(is_needed=is_needed) is (built_in if is_needed else None)


def test_the_live_cross_encoder_teaches(monkeypatch):
    live: Any = Reader()
    monkeypatch.setattr(pseudo_source, "get_reranker", lambda: live)
    assert pseudo_source.find_teacher(is_needed=True) is live
    assert pseudo_source.find_teacher(is_needed=False) is live


def test_a_cross_encoder_learns_nothing_from_what_it_says_itself(shop):
    with pytest.raises(TrainingRefused, match="two towers alone learn from it"):
        create_training("cross-encoder", [(PSEUDO, 1.0), (CATALOGUE, 1.0)])
    asked = {"kind": "cross-encoder", "weights": "lora", "use_0": True, "weight_0": 1, "use_1": True, "weight_1": 3}
    assert TrainingForm(asked).names[:2] == [CATALOGUE, PSEUDO]
    sources = {kind: _sources_of(asked | {"kind": kind}) for kind in ("two-tower", "cross-encoder")}
    assert sources == {"two-tower": [(CATALOGUE, 1.0), (PSEUDO, 3.0)], "cross-encoder": [(CATALOGUE, 1.0)]}
    assert not TrainingForm(asked | {"use_0": False}).is_valid()


def _sources_of(asked: dict[str, object]) -> list[tuple[str, float]]:
    form = TrainingForm(asked)
    assert form.is_valid(), form.errors
    return form.sources


def test_the_form_of_a_shop_without_ratings_ticks_it(shop):
    form = TrainingForm()
    assert [(use.label, use.initial, weight.initial) for use, weight in form.source_fields][:2] == [
        (CATALOGUE, True, 1.0),
        (PSEUDO, True, 3.0),
    ]


def test_it_asks_for_no_category_that_is_kept_cold(shop, monkeypatch):
    monkeypatch.setattr(guards, "COLD_SHARE", 0.4)
    collected = collect([(CATALOGUE, 1.0), (PSEUDO, 3.0)], amounts=FEW)
    paths = {product_id: one.category_path for product_id, one in collected.documents.items()}
    warm = {paths[product_id] for query in collected.queries for product_id in query.positives}
    assert warm < set(paths.values())
    assert {query.source for query in collected.queries} >= {PSEUDO}
