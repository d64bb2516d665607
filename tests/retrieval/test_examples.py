"""What is learned from and what is measured on stay apart."""

from __future__ import annotations

import random

import pytest
from rapidfuzz import fuzz

from retrieval.engine.text import Analyzer, normalize
from retrieval.learning.examples import ALIKE, LabelledQuery, find_alike, query_key, split_queries
from retrieval.learning.made_queries import Condition, Shelves, make_queries, misspell
from tests.fakes import make_document

ANALYZER = Analyzer()


def label(*texts: str) -> list[LabelledQuery]:
    return [LabelledQuery(text, {1: 3.0}, "test") for text in texts]


def test_positives_are_of_the_highest_grade_and_negatives_known_to_be_wrong():
    query = LabelledQuery("mug", {1: 3, 2: 2, 3: 0, 4: 3}, "test")
    assert (query.positives, query.negatives) == ([1, 4], [2, 3])
    assert LabelledQuery("mug", {1: 2}, "test").positives == []
    assert LabelledQuery("mug", {}, "test").positives == []


@pytest.mark.parametrize("other", ["Red Mugs", "mugs, red", "RED  mug!", "the red mug"])
def test_the_same_words_are_the_same_query(other):
    assert query_key("red mug", ANALYZER) == query_key(other, ANALYZER)


def test_texts_without_words_are_told_apart():
    assert query_key("the", ANALYZER) != query_key("of", ANALYZER)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_query_or_near_duplicate_crosses_the_split(seed):
    """Thousands of queries that differ by order, ending, one letter or one word."""
    rng = random.Random(seed)
    nouns = ["mug", "kettle", "sofa", "lamp", "charger", "keyboard", "monitor", "cable", "printer", "toner"]
    plain = [f"{a} {b} {c}" for a in ("red", "usb", "steel", "large") for b in nouns for c in nouns]
    texts = [variant for text in plain for variant in (text, f"{text}s", misspell(text, rng), text.upper())]
    split = split_queries(label(*texts), ANALYZER, held_out=0.2, seed=seed)
    assert len(split.train) + len(split.held_out) + len(split.left_out) == len(texts)
    assert split.train
    assert 0.1 < len(split.held_out) / len(texts) < 0.3
    held_out = {query.text for query in split.held_out}
    keys = {query_key(text, ANALYZER) for text in held_out}
    for query in split.train:
        assert query_key(query.text, ANALYZER) not in keys
        closest = max(fuzz.token_sort_ratio(normalize(query.text), normalize(other)) for other in held_out)
        assert closest < ALIKE, query.text


def test_a_query_stays_on_its_side_whatever_the_others_are():
    texts = [f"thing number {n}" for n in range(200)]
    first = split_queries(label(*texts), ANALYZER)
    second = split_queries(label(*reversed(texts[:100])), ANALYZER)
    assert {query.text for query in second.held_out} <= {query.text for query in first.held_out}


def test_nothing_may_be_held_out_but_not_everything():
    assert split_queries(label("a", "b"), ANALYZER, held_out=0).held_out == []
    with pytest.raises(ValueError, match="held_out=1: expected a share from 0 to below 1"):
        split_queries([], ANALYZER, held_out=1)
    assert find_alike(["red mug"], []) == [False]


SHOP = [
    make_document(
        n, f"{brand} {colour} {kind} {n}x", brand=brand, category=("Home", kind), category_path=f"home/{kind}",
        attributes={"colour": colour, "washable": "yes" if n % 2 else "no", "watt": "40"},
    )
    for n, (brand, colour, kind) in enumerate(
        ((b, c, k) for b in ("Potta", "Lumo") for c in ("red", "blue", "green") for k in ("mug", "lamp")), 1
    )
]  # fmt: skip


def test_made_queries_are_labelled_with_all_that_satisfy_them():
    queries = {query.text: query for query in make_queries(SHOP, 200, seed=2)}
    assert queries["potta mug"].source == "catalogue: brand and type"
    assert sorted(queries["potta mug"].positives) == [1, 3, 5]
    missed = {document.product_id: document for document in SHOP}
    for product_id in queries["potta mug"].negatives:
        document = missed[product_id]
        assert (document.brand == "Potta") != (document.category[-1] == "mug")
    assert not any("no" in text.split() or "40" in text.split() for text in queries)
    assert all(query.positives for query in queries.values())


def test_made_queries_are_the_same_every_time_and_differ_by_seed():
    assert make_queries(SHOP, 40) == make_queries(SHOP, 40)
    assert make_queries(SHOP, 40) != make_queries(SHOP, 40, seed=2)


def test_a_catalogue_that_gives_few_queries_gives_few():
    assert make_queries([], 10) == []
    assert len(make_queries([make_document(1, "Mug")], 50)) <= 2


def test_without_categories_frequent_phrases_are_the_types():
    titles = [f"Potta toner cartridge {n}" for n in range(10)] + [f"Potta desk lamp {n}" for n in range(90)]
    shop = [make_document(n, title, brand="Potta") for n, title in enumerate(titles, 1)]
    shelves = Shelves(shop)
    types = [[one.words for one in shelves.conditions[n] if one.kind == "category"] for n in (1, 50)]
    assert types == [["toner cartridge"], []]  # 'desk lamp' says too little where it is nine tenths of the shop
    assert shelves.meet(Condition("category", "toner cartridge", "toner cartridge")) == set(range(1, 11))


def test_a_slip_of_the_fingers_is_one_slip():
    rng = random.Random(4)
    assert misspell("a 40w bulb", rng) == "a 40w bulb"
    for _ in range(50):
        slipped = misspell("red kettle", rng)
        assert abs(len(slipped) - len("red kettle")) <= 1
