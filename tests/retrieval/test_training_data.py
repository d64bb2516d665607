"""What a training of this shop learns from."""

from __future__ import annotations

import json

import pytest
from rapidfuzz import fuzz

from catalog.models import Product
from retrieval.engine.text import embedding_text, normalize
from retrieval.evaluation.guards import pick_cold_queries
from retrieval.evaluation.rating_files import Rating
from retrieval.judgement_files import import_ratings
from retrieval.learning.examples import ALIKE, LabelledQuery, query_key
from retrieval.learning.mixing import TrainingDataError
from retrieval.setup import get_analyzer
from retrieval.training_data import Amounts, collect, default_sources, training_text, training_texts
from retrieval.training_sources import gather_catalogue, gather_sample
from tests.factories import make_product
from tests.fakes import HashEncoder, make_document

pytestmark = pytest.mark.django_db
FEW = Amounts(catalogue_queries=150, sample_products=700, sample_queries=200)
NOUNS = ["mug", "kettle", "sofa", "lamp", "charger", "keyboard", "monitor", "cable"]
COLOURS = ["red", "blue", "green", "black"]


@pytest.fixture
def products():
    """Two of each noun and colour, by SKU such as mug-red-1."""
    return {
        f"{noun}-{colour}-{n}": make_product(
            f"{brand} {colour} {noun}", sku=f"{noun}-{colour}-{n}", brand=brand, category=f"Home > {noun}",
            attributes={"Colour": colour},
        )
        for noun in NOUNS for colour in COLOURS for n, brand in enumerate(("Potta", "Lumo"), 1)
    }  # fmt: skip


def rate(name: str, *, variants: bool = False) -> None:
    """Judge 'red mug' and the like: that noun in that colour is right, in another wrong."""
    texts = ["{1} {0}", "{0} {1}", "{1} {0}s", "{1}  {0} sale"] if variants else ["{1} {0}"]
    ratings = [
        rating
        for noun in NOUNS
        for place, colour in enumerate(COLOURS)
        for text in texts
        for rating in (
            Rating(text.format(noun, colour), f"{noun}-{colour}-1", 3.0),
            Rating(text.format(noun, colour), f"{noun}-{COLOURS[place - 1]}-1", 0.0),
        )
    ]
    import_ratings(name, ratings)


def share(queries: list[LabelledQuery], prefix: str) -> float:
    found = sum(query.weight for query in queries if query.source.startswith(prefix))
    return found / sum(query.weight for query in queries)


def test_ratings_become_queries_by_product_id(products):
    rate("shop")
    collected = collect([("judgements:shop", 1)])
    for query in [*collected.queries, *collected.held_out]:
        colour, noun = query.text.split()
        assert [collected.documents[product_id].sku for product_id in query.positives] == [f"{noun}-{colour}-1"]
        assert len(query.negatives) == 1
    assert len(collected.queries) + len(collected.held_out) == 32
    assert collected.documents.keys() == {product.pk for product in products.values()}  # rated or not: negatives
    assert collected.documents[products["mug-red-1"].pk].category == ("Home", "mug")


def test_sources_are_mixed_by_weight_and_told_of(products):
    rate("shop")
    collected = collect([("catalogue", 1), ("sample", 1), ("judgements:shop", 2)], amounts=FEW)
    assert share(collected.queries, "judgements") == pytest.approx(0.5)
    assert share(collected.queries, "catalogue") == pytest.approx(0.25)
    assert {product_id for product_id in collected.documents if product_id > 0} == {one.pk for one in products.values()}
    assert min(collected.documents) == -700
    facts = {source["name"]: source for source in collected.report["sources"]}
    assert (facts["judgements:shop"]["queries"], facts["judgements:shop"]["grades"]) == (32, 64)
    assert facts["sample"]["products"] == 700
    assert collected.report["shared"] > 0  # the catalogue asks for a 'red mug' too
    assert len(collected.report["data_hash"]) == 16
    json.dumps(collected.report)
    every = [*collected.queries, *collected.held_out]
    assert all(product_id in collected.documents for query in every for product_id in query.grades)


def test_what_people_graded_is_judged_by_what_they_said_alone(products):
    rate("shop")
    collected = collect([("catalogue", 2), ("judgements:shop", 1)], held_out=0.5, amounts=FEW)
    rated = [query for query in collected.held_out if query.source == "judgements:shop"]
    assert len(rated) > 5
    assert all(len(query.grades) == 2 for query in rated)
    asked = {normalize(query.text) for query in rated}
    assert asked.isdisjoint(normalize(query.text) for query in collected.held_out if query.source != "judgements:shop")


def test_made_queries_leave_some_categories_cold(products):
    for number in range(60):
        for n in (1, 2):
            make_product(
                f"Potta thing{number} {n}", sku=f"{number}-{n}", brand="Potta", category=f"Other > thing{number}"
            )
    collected = collect([("catalogue", 1)], amounts=Amounts(catalogue_queries=1500))
    paths = {product_id: document.category_path for product_id, document in collected.documents.items()}
    asked = {paths[product_id] for query in collected.queries for product_id in query.positives}
    cold = set(paths.values()) - asked
    assert 1 <= len(cold) <= 10
    spared = {grade for query in collected.queries for one, grade in query.grades.items() if paths[one] in cold}
    assert 2.0 in spared  # of 'potta': neither an answer nor a negative
    assert pick_cold_queries(collected.held_out, collected.queries, paths)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_query_or_near_duplicate_crosses_the_split_of_any_source(products, tmp_path, seed):
    rate("one", variants=True)
    rate("two")
    lines = [
        f"{noun} in {colour}\t{noun}-{colour}-2\t{grade}" for grade, noun in enumerate(NOUNS[:4]) for colour in COLOURS
    ]
    (tmp_path / "more.tsv").write_text("\n".join(["query\tsku\tgrade", *lines]))
    names = ["judgements:one", "judgements:two", "catalogue", "sample", f"file:{tmp_path / 'more.tsv'}"]
    collected = collect([(name, 1) for name in names], seed, held_out=0.3, amounts=FEW)
    analyzer = get_analyzer()
    held_out = {normalize(query.text) for query in collected.held_out}
    keys = {query_key(text, analyzer) for text in held_out}
    assert len(held_out) > 30
    assert collected.report["left_out"] > 0
    assert len({query.source.split(":")[0] for query in collected.queries}) == 4
    for query in collected.queries:
        assert query_key(query.text, analyzer) not in keys
        assert max(fuzz.token_sort_ratio(normalize(query.text), other) for other in held_out) < ALIKE, query.text


def test_skus_are_looked_up_and_never_learned_but_judged(products):
    codes = [product.sku for product in products.values()]
    import_ratings("codes", [Rating(code.upper(), code, 3.0) for code in codes])
    rate("shop")
    collected = collect([("judgements:codes", 1), ("judgements:shop", 1)], held_out=0.5)
    assert {query.source for query in collected.queries} == {"judgements:shop"}
    assert {query.source for query in collected.held_out} == {"judgements:codes", "judgements:shop"}
    assert 0 < collected.report["looked_up"] < len(codes)


def test_skus_alone_are_nothing_to_learn_from(products):
    import_ratings("codes", [Rating(code, code, 3.0) for code in products])
    with pytest.raises(TrainingDataError, match="no query to learn from"):
        collect([("judgements:codes", 1)])


def test_what_one_seed_holds_out_no_other_learns(products):
    rate("shop")
    first, other = (collect([("judgements:shop", 1)], seed) for seed in (1, 2))
    assert {query.text for query in first.held_out} == {query.text for query in other.held_out} != set()


def test_the_same_seed_collects_the_same(products):
    rate("shop")
    first, again, other = (
        collect([("catalogue", 1), ("judgements:shop", 2)], seed, amounts=FEW).report["data_hash"] for seed in (1, 1, 2)
    )
    assert first == again != other


def test_what_the_sample_shop_sells_is_never_of_this_shop_and_its_truth_is_whole(products):
    collected = collect([("sample", 1)], amounts=FEW)
    assert max(collected.documents) < 0
    assert {query.source.partition(":")[0] for query in collected.queries} == {"sample"}
    assert not {"sample: sku", "sample: absent"} & {query.source for query in collected.queries}
    graded = [query for query in collected.queries if query.source != "sample: made"]
    assert all(query.positives and 0.0 in query.grades.values() for query in graded)
    assert all(query.is_complete for query in graded)
    document = collected.documents[-1]
    assert document.category
    assert document.category_path.count("/") == len(document.category) - 1


def test_a_fifth_of_what_is_drawn_from_the_sample_shop_is_made_from_its_texts():
    queries = gather_sample(1, FEW).queries
    made = [query for query in queries if query.source == "sample: made"]
    assert len(made) > 50
    assert sum(query.weight for query in made) / sum(query.weight for query in queries) == pytest.approx(0.2)
    assert len({normalize(query.text) for query in queries}) == len(queries)


def test_by_default_the_catalogue_and_every_set_with_judgements(products):
    assert default_sources() == [("catalogue", 1.0), ("pseudo", 3.0)]
    assert default_sources("cross-encoder") == [("catalogue", 1.0)]
    rate("one")
    rate("two")
    import_ratings("empty", [])
    assert default_sources() == [("catalogue", 1.0), ("judgements:one", 2.0), ("judgements:two", 2.0)]


def test_products_that_are_not_in_the_catalogue_are_counted(products):
    rate("shop")
    Product.objects.filter(sku__startswith="mug").delete()
    (facts,) = collect([("judgements:shop", 1)]).report["sources"]
    assert (facts["unknown_skus"], facts["queries"]) == (4, 28)
    assert facts["unknown_examples"][0] == "mug-black-1"


def test_products_off_sale_are_learned_from_where_they_are_judged(products):
    rate("shop")
    Product.objects.all().set_active(False)
    assert collect([("judgements:shop", 1)]).documents
    with pytest.raises(TrainingDataError, match=r"no product on sale; run: manage\.py import_products"):
        collect([("catalogue", 1)])


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (
            [],
            "no source to learn from, expected at least one of: catalogue, pseudo, sample, judgements:NAME",
        ),
        ([("clicks", 1)], "unknown source 'clicks', expected one of: catalogue, pseudo, sample"),
        ([("judgements:none", 1)], "unknown judgement set 'none', expected one of: empty, wrong shop"),
        ([("judgements:empty", 1)], "judgements:empty has no ratings; import some, or leave it out"),
        ([("judgements:wrong shop", 1)], "none of the 1 products rated in judgements:wrong shop is in the catalogue"),
        ([("file:/none.tsv", 1)], r"/none\.tsv: cannot be read"),
        ([("catalogue", 1), ("catalogue", 2)], "named twice"),
        ([("catalogue", 0)], "weight 0.0 of 'catalogue': expected a number above 0"),
    ],
)
def test_sources_that_give_nothing_are_named_with_the_cure(sources, message):
    import_ratings("empty", [])
    import_ratings("wrong shop", [Rating("mug", "X1", 3.0)])
    with pytest.raises(TrainingDataError, match=message):
        collect(sources)


def test_a_set_against_itself_is_refused_however_much_there_is_beside_it(products):
    rate("shop")
    import_ratings("shop", [Rating(f"{colour.upper()} mug", f"mug-{colour}-1", 0.0) for colour in COLOURS])
    with pytest.raises(TrainingDataError, match="4 of 64 pairs in judgements:shop are graded both 3 and 0, such as '"):
        collect([("catalogue", 1), ("judgements:shop", 1)], amounts=FEW)


def test_of_a_large_catalogue_chance_chooses_the_same_part_each_time(products):
    first, again = (set(gather_catalogue(1, Amounts(20, most_products=30)).documents) for _ in range(2))
    assert len(first) == 30
    assert first == again


def test_ratings_in_a_folder_are_read(products, tmp_path):
    queries = [(f"q{n}", f"{COLOURS[n % 4]} {noun}") for n, noun in enumerate(NOUNS * 4)]
    (tmp_path / "queries.tsv").write_text(
        "query_id\tquery\n" + "".join(f"{key}\t{text} {key}\n" for key, text in queries)
    )
    qrels = "".join(f"{key}\tmug-red-1\t0\n{key}\tlamp-red-1\t2\n" for key, _ in queries)
    (tmp_path / "qrels.tsv").write_text("query_id\tdoc_id\trelevance\n" + qrels)
    collected = collect([(f"file:{tmp_path}", 1)])
    assert all(query.positives == [products["lamp-red-1"].pk] for query in collected.queries)


def test_products_of_judgements_are_found_with_few_questions(products, django_assert_max_num_queries):
    rate("one")
    with django_assert_max_num_queries(8):
        collect([("judgements:one", 1)])


def test_texts_are_those_the_index_embeds():
    document = make_document(1, "Red mug", brand="Potta", description="Holds tea. Made of clay.", sku="A-1")
    encoder = HashEncoder()
    expected = embedding_text(document, encoder.count_tokens, encoder.max_tokens)
    assert training_text(document, encoder) == expected == "Red mug, Potta. Holds tea. Made of clay"
    assert training_texts({1: document}, encoder) == {1: expected}
