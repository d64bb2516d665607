"""The pipeline end to end on a real Edge index of a dozen products."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from retrieval.engine.config import CONFIGS, SearchConfig
from retrieval.engine.types import Filters, Query, Results, Sort
from tests.fakes import HashEncoder, build_pipeline, make_document

SHOP = [
    make_document(1, "Red ceramic mug", brand="Potta", price_cents=900, rating=4.5, category=("Kitchen", "Mugs"),
                  category_path="kitchen/mugs", attributes={"colour": "Red"}, popularity=5, released=100),
    make_document(2, "Blue ceramic mug", brand="Potta", price_cents=1100, rating=3.5, category=("Kitchen", "Mugs"),
                  category_path="kitchen/mugs", attributes={"colour": "Blue"}, popularity=9, released=300),
    make_document(3, "Steel travel mug", brand="Wander", price_cents=2400, is_in_stock=False,
                  category=("Kitchen", "Mugs"), category_path="kitchen/mugs", attributes={"colour": "Silver"}),
    make_document(4, "Steel kettle 1.7 l", brand="Wander", price_cents=3900, category=("Kitchen", "Kettles"),
                  category_path="kitchen/kettles", attributes={"colour": "Silver"}, popularity=7),
    make_document(5, "Three seat sofa", brand="Lounga", price_cents=59900, category=("Furniture", "Sofas"),
                  category_path="furniture/sofas", description="Sit softly. With mug holder."),
    make_document(6, "Sofa cover", brand="Lounga", price_cents=4900, category=("Furniture", "Covers"),
                  category_path="furniture/covers"),
    make_document(7, "Wireless keyboard KX-200", brand="Typa", gtin="4006381333931", price_cents=4500),
    make_document(8, "Wireless mouse MX100", brand="Typa", price_cents=2500),
    make_document(9, "Gaming keyboard", brand="Typa", price_cents=8500),
    make_document(10, "Kitchen table", brand="Lounga", price_cents=19900),
]  # fmt: skip


@pytest.fixture
def shop(tmp_path):
    return build_pipeline(tmp_path, SHOP, encoder=HashEncoder({"couch": "sofa"}))


def ids(results: Results) -> list[int]:
    return [hit.product_id for hit in results.hits]


def test_finds_by_word_and_by_meaning(shop):
    assert ids(shop.search(Query("keyboard")))[:2] in ([7, 9], [9, 7])
    assert set(ids(shop.search(Query("couch")))[:2]) == {5, 6}


def test_explains_each_hit_with_ranks_and_scores_of_both_sides(shop):
    best = shop.search(Query("gaming keyboard")).hits[0]
    assert best.product_id == 9
    assert best.explanation.lexical_rank == best.explanation.dense_rank == best.explanation.fused_rank == 1
    assert best.explanation.dense_score == pytest.approx(1.0, abs=1e-4)
    assert best.explanation.rerank_score is None


def test_a_sku_or_gtin_comes_first(shop):
    assert ids(shop.search(Query("SKU-5")))[0] == 5
    assert ids(shop.search(Query("4006381333931")))[0] == 7


def test_misspelt_words_are_corrected_from_the_catalogue_and_it_says_so(shop):
    results = shop.search(Query("keybord"))
    assert (results.searched_text, results.corrected_from) == ("keyboard", "keybord")
    assert set(ids(results)[:2]) == {7, 9}


def test_verbatim_search_corrects_nothing(shop):
    results = shop.search(Query("keybord", is_verbatim=True))
    assert (results.searched_text, results.corrected_from) == ("keybord", "")


def test_codes_are_never_corrected(shop):
    assert shop.search(Query("mx101")).searched_text == "mx101"


def test_a_word_understood_by_meaning_is_not_corrected_away(tmp_path):
    documents = [*SHOP, make_document(11, "Leather pouch")]
    shop = build_pipeline(tmp_path, documents, encoder=HashEncoder({"couch": "sofa"}))
    results = shop.search(Query("couch"))
    assert results.searched_text == "couch"
    assert results.suggestion == "pouch"
    assert set(ids(results)[:2]) == {5, 6}


def test_quoted_words_must_stand_together(shop):
    assert set(ids(shop.search(Query('"ceramic mug"')))) == {1, 2}
    assert ids(shop.search(Query('"mug ceramic"'))) == []


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(brands=("Potta",)), {1, 2}),
        (Filters(brands=("potta",)), {1, 2}),
        (Filters(price_min_cents=1000, price_max_cents=2400), {2, 3}),
        (Filters(rating_min=4), {1}),
        (Filters(in_stock=True, category="kitchen"), {1, 2, 4}),
        (Filters(category="kitchen/mugs"), {1, 2, 3}),
        (Filters(attributes=(("colour", ("Red", "Blue")),)), {1, 2}),
        (Filters(attributes=(("colour", ("Red",)), ("size", ("L",)))), set()),
        (Filters(category="kit"), set()),
    ],
)
def test_filters_narrow_what_is_browsed(shop, filters, expected):
    results = shop.search(Query("", filters))
    assert set(ids(results)) == expected
    assert results.total == len(expected)


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        (Sort.RELEVANCE, [2, 4, 1, 3]),  # browsing: most popular first
        (Sort.PRICE_ASC, [1, 2, 3, 4]),
        (Sort.PRICE_DESC, [4, 3, 2, 1]),
        (Sort.RATING, [1, 2, 4, 3]),  # unrated last, by popularity
        (Sort.NEWEST, [2, 1, 4, 3]),
    ],
)
def test_sorts_put_unknown_values_last(shop, sort, expected):
    assert ids(shop.search(Query("", Filters(category="kitchen"), sort))) == expected


def test_pages_follow_each_other_without_gap_or_repeat(shop):
    pages = [ids(shop.search(Query("mug", page=page, page_size=2))) for page in (1, 2, 3, 4)]
    everything = ids(shop.search(Query("mug")))
    assert [product_id for page in pages for product_id in page] == everything


def test_facets_promise_what_choosing_them_shows(shop):
    choices = 0
    for text in ("mug", "sofa", "wireless", ""):
        for facet in shop.search(Query(text)).facets:
            for value in facet.values:
                assert shop.search(Query(text, to_filters(facet.field, value.value))).total == value.count
                choices += 1
    assert choices > 30


def to_filters(field: str, value: str) -> Filters:
    if field == "price":
        low, high = value.split("-")
        return Filters(price_min_cents=int(low), price_max_cents=int(high) if high else None)
    known = {
        "category": Filters(category=value),
        "brand": Filters(brands=(value,)),
        "rating": Filters(rating_min=float(value)) if field == "rating" else Filters(),
        "stock": Filters(in_stock=True),
    }
    return known.get(field) or Filters(attributes=((field.removeprefix("attr."), (value,)),))


def test_category_facet_opens_the_chosen_branch(shop):
    closed = {value.value for value in shop.search(Query("")).facets[0].values}
    assert closed == {"kitchen", "furniture"}
    opened = shop.search(Query("", Filters(category="kitchen"))).facets[0]
    assert {value.value: value.count for value in opened.values} == {
        "kitchen": 4, "kitchen/mugs": 3, "kitchen/kettles": 1, "furniture": 2,
    }  # fmt: skip
    assert [value.value for value in opened.values if value.is_selected] == ["kitchen"]


@pytest.mark.parametrize("text", ["???", "😀", "'; DROP TABLE x; --", "<script>", "a" * 10_000, "\x00", '"', '""'])
def test_hostile_queries_get_an_answer(shop, text):
    assert shop.search(Query(text)).total >= 0


@pytest.mark.parametrize("name", CONFIGS)
def test_every_built_in_config_searches(tmp_path, name):
    results = build_pipeline(tmp_path, SHOP, CONFIGS[name]).search(Query("ceramic mug"))
    assert set(ids(results)[:2]) == {1, 2}
    assert results.config_name == name


def test_without_an_encoder_words_alone_are_searched(shop):
    lexical = dataclasses.replace(shop, encoder=None, notice="words only")
    results = lexical.search(Query("mug"))
    assert ids(results)[:3]
    assert results.notice == "words only"


def test_reranker_reorders_the_best_and_is_explained(tmp_path):
    class PreferBlue:
        span = 0.0

        def score(self, query, documents):
            return np.array([float("Blue" in text) for _, text in documents], np.float32)

    config = SearchConfig(rerank_depth=5, rerank_blend=1.0)
    shop = build_pipeline(tmp_path, SHOP, config, reranker=PreferBlue())
    best = shop.search(Query("red ceramic mug")).hits[0]
    assert (best.product_id, best.explanation.rerank_score) == (2, 1.0)


class PreferLong:
    span = 0.0

    def score(self, query, documents):
        return np.array([len(text.partition(".")[0]) for _, text in documents], np.float32)


def test_a_code_is_not_for_the_reranker_to_judge(tmp_path):
    plain = build_pipeline(tmp_path / "plain", SHOP)
    config = SearchConfig(rerank_depth=10, rerank_blend=1.0)
    reranked = build_pipeline(tmp_path / "reranked", SHOP, config, reranker=PreferLong())
    assert ids(reranked.search(Query("kx-200"))) == ids(plain.search(Query("kx-200")))
    assert ids(reranked.search(Query("keyboard"))) != ids(plain.search(Query("keyboard")))


def test_timings_name_every_stage(shop):
    assert {"total", "understand", "encode", "lexical", "dense", "fuse", "filter", "facets"} <= set(
        shop.search(Query("mug")).timings_ms
    )
