"""Facts in columns: built, kept in files, changed, looked up."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from retrieval.engine.columns import UNKNOWN_PRICE, Columns, ColumnsBuilder, build_columns
from retrieval.engine.types import Document
from tests.fakes import make_document

MUG = make_document(
    30, "Mug", brand="Potta", price_cents=900, rating=4.5, category=("Kitchen", "Mugs"), category_path="kitchen/mugs",
    attributes={"colour": "Red", "size": "L"}, popularity=2.5, released=19_000,
)  # fmt: skip
SOFA = make_document(10, "Sofa", brand="Lounga", is_in_stock=False, attributes={"colour": "Blue"}, price_cents=59_900)
BARE = make_document(20, "Bare")


def facts(columns: Columns) -> dict[int, tuple[Any, ...]]:
    """Return each product's facts, read back from the columns."""
    found = {}
    for row, product_id in enumerate(columns.product_ids.tolist()):
        codes, _ = columns.pairs_of(np.array([row]))
        rating = float(columns.ratings[row])
        found[product_id] = (
            int(columns.prices[row]),
            None if np.isnan(rating) else rating,
            bool(columns.in_stock[row]),
            int(columns.released[row]),
            float(columns.popularity[row]),
            columns.brands[columns.brand_codes[row]],
            columns.categories[columns.category_codes[row]],
            {columns.attributes[code] for code in codes},
        )
    return found


def expected_facts(*documents: Document) -> dict[int, tuple[Any, ...]]:
    return {
        document.product_id: (
            UNKNOWN_PRICE if document.price_cents is None else document.price_cents,
            document.rating,
            document.is_in_stock,
            document.released,
            document.popularity,
            document.brand,
            (document.category_path, document.category),
            set(document.attributes.items()),
        )
        for document in sorted(documents, key=lambda document: document.product_id)
    }


def test_columns_hold_every_fact_by_ascending_product_id():
    columns = build_columns([MUG, SOFA, BARE])
    assert columns.product_ids.tolist() == [10, 20, 30]
    assert facts(columns) == expected_facts(MUG, SOFA, BARE)


def test_batches_are_joined():
    builder = ColumnsBuilder()
    for batch in ([MUG], [], [SOFA, BARE]):
        builder.add(batch)
    assert facts(builder.build()) == expected_facts(MUG, SOFA, BARE)


def test_an_empty_catalogue_has_columns(tmp_path):
    for columns in (build_columns([]), ColumnsBuilder().build()):
        assert len(columns) == 0
        assert columns.rows_of(np.array([1, 2])).tolist() == [-1, -1]
        assert len(columns.pairs_of(np.empty(0, np.int64))[0]) == 0
        columns.save(tmp_path)
        assert facts(Columns.load(tmp_path)) == {}
        assert facts(columns.update([MUG], [])) == expected_facts(MUG)


def test_what_is_saved_is_loaded(tmp_path):
    columns = build_columns([MUG, SOFA, BARE])
    columns.save(tmp_path)
    loaded = Columns.load(tmp_path)
    for field in dataclasses.fields(Columns):
        before, after = getattr(columns, field.name), getattr(loaded, field.name)
        assert np.array_equal(before, after, equal_nan=True) if field.name == "ratings" else np.all(before == after)
        assert getattr(before, "dtype", None) == getattr(after, "dtype", None)


def test_odd_characters_survive_saving(tmp_path):
    odd = make_document(1, "Odd", brand="猫\u2028😀", attributes={"naïve\ud800": 'q"\\\x00'}, category=("\udfff",))
    build_columns([odd]).save(tmp_path)
    assert facts(Columns.load(tmp_path)) == expected_facts(odd)


def test_update_replaces_adds_and_removes():
    changed = dataclasses.replace(MUG, price_cents=1_000, attributes={"colour": "Green"})
    new = make_document(5, "New", brand="Potta", attributes={"colour": "Red"})
    columns = build_columns([MUG, SOFA, BARE]).update([changed, new], [SOFA.product_id, 999])
    assert columns.product_ids.tolist() == [5, 20, 30]
    assert facts(columns) == expected_facts(changed, new, BARE)


def test_update_leaves_the_columns_it_was_asked_of():
    columns = build_columns([MUG])
    columns.update([SOFA], [MUG.product_id])
    assert facts(columns) == expected_facts(MUG)


def test_many_updates_come_to_the_same_as_building_anew():
    random = np.random.default_rng(7)
    shop: dict[int, Document] = {}
    columns = build_columns([])
    for _ in range(30):
        ids = random.choice(40, size=8, replace=False).tolist()
        documents = [random_document(random, product_id) for product_id in ids[:5]]
        shop |= {document.product_id: document for document in documents}
        for product_id in ids[5:]:
            shop.pop(product_id, None)
        columns = columns.update(documents, ids[5:])
        assert facts(columns) == expected_facts(*shop.values())


def random_document(random: np.random.Generator, product_id: int) -> Document:
    names = random.choice(["colour", "size", "material"], size=random.integers(4), replace=False)
    return make_document(
        product_id,
        "Any",
        brand=str(random.choice(["", "Potta", "Lounga"])),
        price_cents=int(random.integers(1000)) if random.random() < 0.8 else None,
        attributes={str(name): str(random.choice(["a", "b", "c"])) for name in names},
    )


def test_unknown_products_have_no_row():
    columns = build_columns([MUG, SOFA, BARE])
    assert columns.rows_of(np.array([30, 10, 11, 0, 99, 10])).tolist() == [2, 0, -1, -1, -1, 0]
    assert columns.rows_of(np.empty(0, np.int64)).tolist() == []


def test_rows_are_taken_in_the_order_asked_for():
    columns = build_columns([MUG, SOFA, BARE]).take(np.array([2, 0]))
    assert columns.product_ids.tolist() == [30, 10]
    assert facts(columns) == {30: expected_facts(MUG)[30], 10: expected_facts(SOFA)[10]}


def test_attribute_pairs_know_which_product_they_belong_to():
    columns = build_columns([MUG, SOFA, BARE])
    codes, owners = columns.pairs_of(np.array([1, 2, 0, 2]))
    pairs = [columns.attributes[code] for code in codes]
    assert owners.tolist() == [1, 1, 2, 3, 3]
    assert pairs == [("colour", "Red"), ("size", "L"), ("colour", "Blue"), ("colour", "Red"), ("size", "L")]


@pytest.mark.parametrize(
    ("asked", "found"), [("HP", ["HP"]), ("Hp", ["Hp"]), ("hP", ["HP", "Hp"]), ("Asus", ["ASUS"]), ("Dell", [])]
)
def test_brands_are_found_whatever_their_case_the_exact_one_first(asked, found):
    columns = build_columns([make_document(n, "Any", brand=brand) for n, brand in enumerate(["HP", "Hp", "ASUS"])])
    assert [columns.brands[code] for code in columns.brand_codes_of(asked)] == found


def test_attributes_are_found_whatever_their_case():
    columns = build_columns([MUG, SOFA])
    assert [columns.attributes[code] for code in columns.attribute_codes_of("Colour", "red")] == [("colour", "Red")]
    assert columns.attribute_codes_of("colour", "Green") == columns.attribute_codes_of("size", "Red") == []
    assert [columns.spell_attribute(name) for name in ("SIZE", "size", "weight")] == ["size", "size", ""]
    assert list(columns.attribute_names[0]) == ["colour", "size"]
