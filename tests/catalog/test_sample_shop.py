"""The sample shop: large enough, always the same, its truth following from what products are."""

from __future__ import annotations

import csv
import gzip
import json
import random
import re
from collections import Counter
from dataclasses import replace

import pytest
from django.core.management import CommandError, call_command

from catalog.sample.asking import Wish, ask_use, slip
from catalog.sample.queries import generate_queries, grade, make_queries
from catalog.sample.shop import SampleProduct, generate_products, make_gtin, make_products
from catalog.sample.taxonomy import ProductType, TaxonomyError, build_taxonomy, load_taxonomy


@pytest.fixture(scope="module")
def whole_shop():
    return list(make_products(20_000, seed=7))


@pytest.fixture(scope="module")
def products(whole_shop):
    return whole_shop[:5000]


def test_there_are_types_and_departments_enough():
    taxonomy = load_taxonomy()
    assert len(taxonomy.types) >= 400
    assert len(taxonomy.departments) >= 25
    assert len(taxonomy.absent) >= 12


def test_the_same_seed_makes_the_same_shop():
    assert list(generate_products(300, seed=3)) == list(generate_products(300, seed=3))
    assert list(generate_products(300, seed=3)) != list(generate_products(300, seed=4))
    assert list(generate_products(100, seed=3)) == list(generate_products(300, seed=3))[:100]
    assert list(generate_products(0, seed=3)) == []
    with pytest.raises(ValueError, match="-1 products: expected 0 or more"):
        generate_products(-1, seed=3)


def test_every_type_is_there_and_no_sku_or_gtin_twice(products):
    assert {product.kind.slug for product in products} == set(load_taxonomy().types)
    assert len({product.sku for product in products}) == len({product.gtin for product in products}) == 5000


def test_check_digits_of_gtins():
    assert make_gtin(0) == "2000000000008"  # 3 · 0 + 2 = 2, 8 to the next ten
    assert make_gtin(12345) == "2000000123455"  # (2 + 0 + 0 + 0 + 2 + 4) + 3 · (0 + 0 + 0 + 1 + 3 + 5) = 35


def test_all_gtins_are_valid_and_of_the_in_store_range(products):
    for product in products:
        digits = [int(digit) for digit in product.gtin]
        assert len(digits) == 13
        assert digits[0] == 2
        assert (sum(digits[::2]) + 3 * sum(digits[1::2])) % 10 == 0


def to_words(text: str) -> str:
    words = re.findall(r"[^\W_]+", text.casefold())
    return f" {' '.join(words)} "


def test_synonyms_are_in_no_text(products):
    texts = to_words(json.dumps([product.to_row() for product in products], ensure_ascii=False))
    synonyms = {synonym for kind in load_taxonomy().types.values() for synonym in kind.synonyms}
    found = [synonym for synonym in synonyms if to_words(synonym) in texts]
    assert found == []
    assert len(synonyms) > 250


def test_rows_say_what_shops_say():
    row = next(row for row in generate_products(900, seed=7) if row["sku"].startswith("LAP") and "rating" in row)
    assert row["category"].startswith("Electronics > Computers > ")
    assert row["currency"] == "USD"
    assert row["image_url"].startswith("/sample-images/laptop")
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", row["released"])
    assert all(name[0].isupper() for name in row["attributes"])


def test_texts_are_of_many_lengths_and_values_keep_their_capitals(products):
    words = sorted(len(product.description.split()) for product in products)
    assert words[0] == 0
    assert words[len(words) // 2] in range(15, 60)
    assert words[-1] > 150
    assert any(product.to_row()["attributes"].get("Power", "").endswith(" W") for product in products)
    assert any("colour" not in product.attributes and "colour" in product.kind.attributes for product in products)
    assert len({product.title for product in products}) > 4000


def test_variants_share_their_model_and_brand(products):
    articles: dict[str, list[SampleProduct]] = {}
    for product in products:
        articles.setdefault(product.article, []).append(product)
    several = [variants for variants in articles.values() if len(variants) > 1]
    assert len(several) > 500
    assert all(len({(product.model, product.brand) for product in variants}) == 1 for variants in several)
    assert all(len({json.dumps(product.attributes) for product in variants}) == len(variants) for variants in several)


def test_demand_has_a_long_tail(products):
    popularity = sorted((product.popularity for product in products), reverse=True)
    assert sum(popularity[:500]) > 0.5 * sum(popularity)
    brands = Counter(product.brand for product in products)
    assert brands[""] > 100
    assert max(brands.values()) > 5 * min(brands.values())
    assert any(product.stock == 0 for product in products)
    assert any(not product.description for product in products)
    assert all(0 < product.price < 5000 for product in products)
    assert all(product.rating is None or 1 <= product.rating <= 5 for product in products)


# --- truth, by hand ---------------------------------------------------------------------------------------

MUG = ProductType(
    "mug",
    names=("mug",),
    category=("Cups",),
    picture="mug",
    price=(5, 20),
    lines=("Holds tea.", "Blue or red.", "Of {size} size."),
    attributes={"colour": ("red", "blue"), "size": ("S", "L")},
    synonyms=("beaker",),
    substitutes=("cup",),
    accessories=("rack",),
    department="Kitchen",
    brands=("Potta",),
)
CUP = replace(MUG, slug="cup", names=("cup",), substitutes=(), accessories=(), synonyms=())
RACK = replace(CUP, slug="rack", names=("mug rack",))
LAMP = replace(CUP, slug="lamp", names=("lamp",))
TAXONOMY = build_taxonomy([MUG, CUP, RACK, LAMP])
PRODUCT = next(make_products(1, 1, TAXONOMY))


def of(kind: ProductType, sku: str = "X-00001-1", brand: str = "Potta", **attributes: str):
    return replace(PRODUCT, kind=kind, sku=sku, brand=brand, attributes={"colour": "red", "size": "S", **attributes})


@pytest.mark.parametrize(
    ("product", "expected"),
    [
        (of(MUG), 3),
        (of(MUG, colour="blue"), 2),
        (of(MUG, colour="blue", size="L"), 1),
        (of(CUP), 2),
        (of(CUP, colour="blue"), 1),
        (of(RACK), 1),
        (of(LAMP), 0),
    ],
)
def test_grades_of_a_wish_for_a_small_red_mug(product, expected):
    assert grade(product, Wish(frozenset({"mug"}), (("colour", "red"), ("size", "S"))), TAXONOMY) == expected


@pytest.mark.parametrize("name", ["for", "compatible with", "fits", "fits on", "socket"])
def test_what_does_not_fit_is_no_substitute(name):
    wish = Wish(frozenset({"mug"}), ((name, "16 l baskets"),))
    products = [of(MUG, **{name: value}) for value in ("16 l baskets", "12 l baskets")]
    assert [grade(product, wish, TAXONOMY) for product in products] == [3, 1]


def test_grades_of_brands_accessories_and_skus():
    assert grade(of(MUG, brand="Other"), Wish(frozenset({"mug"}), brand="Potta"), TAXONOMY) == 2
    assert grade(of(MUG), Wish(frozenset({"rack"})), TAXONOMY) == 1  # a mug for one who asks for a mug rack
    assert grade(of(RACK), Wish(frozenset({"rack"})), TAXONOMY) == 3
    wish = Wish(frozenset(), sku="X-00001-1")
    assert [grade(of(MUG, sku), wish, TAXONOMY) for sku in ("X-00001-1", "X-00001-2", "X-00002-1")] == [3, 2, 0]


def test_grades_of_a_model():
    wish = Wish(frozenset({"mug"}), brand="Potta", model="KX-200")
    found, other = replace(of(MUG), model="KX-200"), replace(of(MUG), model="KX-300")
    others = (other, replace(found, brand="Other"), replace(found, kind=LAMP))
    assert grade(found, wish, TAXONOMY) == 3
    assert [grade(product, wish, TAXONOMY) for product in others] == [1, 0, 0]


def test_queries_of_a_small_shop_have_its_truth():
    products = [of(MUG), of(MUG, "X-00002-1", colour="blue"), of(CUP, "X-00003-1"), of(LAMP, "X-00004-1")]
    queries = {query.text: query for query in make_queries(products, TAXONOMY, random.Random(1), 200)}
    assert queries["beaker"].grades == {"X-00001-1": 3, "X-00002-1": 3, "X-00003-1": 2}
    assert queries["red beaker"].grades == {"X-00001-1": 3, "X-00002-1": 2, "X-00003-1": 2}
    assert queries["potta lamp"].grades == {"X-00004-1": 3}
    assert not any("rack" in text for text in queries)  # not on sale here
    assert make_queries([], TAXONOMY, random.Random(1), 5) == []


def test_what_goes_with_a_thing_is_related_and_not_asked_for_it():
    bowl = replace(RACK, slug="bowl", names=("bowl",), goes_with=("mug",))
    mug = replace(MUG, accessories=("bowl",))
    taxonomy, products = build_taxonomy([mug, CUP, bowl]), [of(mug), of(bowl, "X-00002-1")]
    texts = {query.text for query in make_queries(products, taxonomy, random.Random(1), 200)}
    assert "bowl for mug" in texts
    assert not any("mug for bowl" in text for text in texts)
    for wanted in ("mug", "bowl"):
        grades = [grade(product, Wish(frozenset({wanted})), taxonomy) for product in products]
        assert sorted(grades) == [1, 3]


@pytest.mark.parametrize(("use", "of_rack"), [("tidying a kitchen", 2), ("present for a tea drinker", 3)])
def test_supplies_of_a_use_are_graded_below_the_main_things_unless_they_are_presents(use, of_rack):
    mug = replace(MUG, accessories=("rack",), uses=(use,))
    rack, lamp = replace(RACK, uses=(use,)), replace(LAMP, uses=(use,))
    taxonomy = build_taxonomy([mug, CUP, rack, lamp])
    made = ask_use(of(mug), {}, taxonomy, random.Random(1))
    assert made is not None
    assert [grade(of(kind), made[1], taxonomy) for kind in (mug, lamp, rack, CUP)] == [3, 3, of_rack, 2]


def test_slips_change_one_word_and_keep_its_first_letter():
    slips = {slip("frying saucepan", random.Random(seed)) for seed in range(20)}
    assert len(slips) > 8
    assert all(text.startswith("frying s") for text in slips)
    assert slip("red mug", random.Random(1)) == "red mug"


def test_queries_of_every_kind_have_an_answer_but_the_absent_ones():
    queries = generate_queries(1500, seed=7, limit=300)
    assert len(queries) == len({query.text for query in queries}) == len({query.query_id for query in queries}) == 300
    kinds = Counter(query.kind for query in queries)
    assert len(kinds) == 12
    assert min(kinds.values()) >= 10
    assert all((3 in query.grades.values()) == (query.kind != "absent") for query in queries)
    assert queries == generate_queries(1500, seed=7, limit=300)


def test_there_are_products_and_queries_enough(whole_shop):
    assert len({product.sku for product in whole_shop}) == 20_000
    queries = make_queries(whole_shop, load_taxonomy(), random.Random(2), 3000)
    assert len({query.text for query in queries}) == 3000


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"substitutes": ("sofa",)}, "unknown type 'sofa'"),
        ({"goes_with": ("sofa",)}, "unknown type 'sofa'"),
        ({"substitutes": ("lamp",), "accessories": ("lamp",)}, "'lamp' is there twice in substitutes, accessories and"),
        ({"accessories": ("lamp",)}, "'lamp' is an accessory of it and it of 'lamp'; one of them goes_with the other"),
        ({"in_title": ("power",)}, "'power' is in the title but no attribute"),
        ({"attributes": {"colour": ("plaid",)}}, "unknown colour 'plaid'"),
        ({"attributes": {"size": ()}}, "attribute 'size' has no values"),
        ({"lines": ("Holds {volume}.",) * 3}, "names no attribute"),
        ({"picture": "cat"}, "unknown picture 'cat', expected one of: armchair"),
        ({"tones": ("plaid",)}, "unknown colour 'plaid', expected one of: red"),
        ({"extras": ("From {shop}.",)}, "extra 'From {shop}.' names what is neither brand nor name"),
        ({"lines": ("Bright.",)}, "1 lines: at least 3 are needed"),
        ({"brands": ()}, "names, brands, tones and a category are needed"),
        ({"price": (5, 5)}, r"price \[5, 5\]: expected a rising range"),
    ],
)
def test_data_that_is_not_sound_is_named(change, reason):
    with pytest.raises(TaxonomyError, match=f"type 'lamp': .*{reason}"):
        build_taxonomy([replace(LAMP, **change)])
    with pytest.raises(TaxonomyError, match="type 'mug' is there twice"):
        build_taxonomy([MUG, MUG])


def test_names_that_clash_and_empty_taxonomies_are_named():
    with pytest.raises(TaxonomyError, match="type 'lamp': 'mug' is what type 'mug' is called"):
        build_taxonomy([replace(MUG, substitutes=(), accessories=()), replace(LAMP, synonyms=("mug",))])
    with pytest.raises(TaxonomyError, match=r"there are no types: expected data files with \[\[types\]\]"):
        build_taxonomy([])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name = 'Kitchen'\n[[types]\n", "is not TOML"),
        ("brands = ['Potta']\n[[types]]\nslug = 'mug'\n", "'name' is missing or empty"),
        ("name = 'K'\nbrands = ['P']\n[[types]]\nslug = 'mug'\n", "type 'mug': 'category' is missing"),
        ("name = 'K'\nbrands = ['P']\n[[types]]\nslug = 'mug'\nsynonym = []\n", "type 'mug': unknown field 'synonym'"),
    ],
)
def test_broken_data_files_are_named(tmp_path, text, reason):
    (tmp_path / "kitchen.toml").write_text(text)
    with pytest.raises(TaxonomyError, match=rf"kitchen\.toml.*{reason}"):
        load_taxonomy(tmp_path)


# --- the command ------------------------------------------------------------------------------------------


def test_the_command_writes_files_that_agree(tmp_path, capsys):
    call_command("make_sample_shop", str(tmp_path), "--products", "300", "--queries", "40", "--json")
    assert json.loads(capsys.readouterr().out)["queries"] == 40
    with gzip.open(tmp_path / "products.jsonl.gz", "rt") as file:
        skus = {json.loads(line)["sku"] for line in file}
    with (tmp_path / "queries.tsv").open() as file:
        queries = {row["query_id"] for row in csv.DictReader(file, delimiter="\t")}
    with (tmp_path / "qrels.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(skus) == 300
    assert {row["doc_id"] for row in rows} <= skus
    assert {row["query_id"] for row in rows} <= queries
    assert {row["relevance"] for row in rows} == {"1", "2", "3"}
    with pytest.raises(CommandError, match="--products 0: expected 1 to 1000000"):
        call_command("make_sample_shop", str(tmp_path), "--products", "0")
    (tmp_path / "file").touch()
    with pytest.raises(CommandError, match="cannot be written to: Not a directory; name another folder"):
        call_command("make_sample_shop", str(tmp_path / "file" / "shop"), "--products", "1")


def test_the_command_writes_the_same_bytes_for_the_same_seed(tmp_path):
    for name in ("one", "two"):
        call_command("make_sample_shop", str(tmp_path / name), "--products", "50", "--queries", "10")
    for file in ("products.jsonl.gz", "queries.tsv", "qrels.tsv"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
