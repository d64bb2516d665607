"""Filters, counts and orders over a result set: what a count promises, choosing shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from retrieval.engine.columns import Columns, build_columns
from retrieval.engine.facets import MAX_ATTRIBUTES, MAX_VALUES, FacetCounter, combine, filter_masks, sort_rows
from retrieval.engine.types import Document, Facet, FacetValue, Filters, Sort
from tests.fakes import make_document

NOTHING = Filters()


def find(columns, filters, rows=None):
    """Return the ids of the products that pass the filters."""
    rows = np.arange(len(columns)) if rows is None else rows
    passing = combine(filter_masks(columns, rows, filters), len(rows))
    return columns.product_ids[rows[passing]].tolist()


def count(columns: Columns, filters: Filters = NOTHING, rows: np.ndarray | None = None) -> dict[str, Facet]:
    rows = np.arange(len(columns)) if rows is None else rows
    facets = FacetCounter(columns, rows, filter_masks(columns, rows, filters), filters).count()
    return {facet.field: facet for facet in facets}


def counts(facet: Facet) -> dict[str, int]:
    return {value.value: value.count for value in facet.values}


def selected(facet: Facet) -> list[str]:
    return [value.value for value in facet.values if value.is_selected]


def choose(filters: Filters, field: str, value: str) -> Filters:
    """Return the filters with this value chosen in its facet, and none other of the same field."""
    if field == "price":
        low, high = value.split("-")
        return replace(filters, price_min_cents=int(low), price_max_cents=int(high) if high else None)
    if field.startswith("attr."):
        name = field.removeprefix("attr.")
        others = tuple(pair for pair in filters.attributes if pair[0] != name)
        return replace(filters, attributes=(*others, (name, (value,))))
    if field == "category":
        return replace(filters, category=value)
    if field == "brand":
        return replace(filters, brands=(value,))
    return replace(filters, in_stock=True) if field == "stock" else replace(filters, rating_min=float(value))


# --- filters -------------------------------------------------------------------------------------------

SHOP = build_columns(
    [
        make_document(1, "Red mug", brand="Potta", price_cents=0, rating=4.0, category=("Kitchen", "Mugs"),
                      category_path="kitchen/mugs", attributes={"Colour": "Red", "Size": "L"}, released=30),
        make_document(2, "Blue mug", brand="potta", price_cents=1000, rating=3.9, category=("Kitchen", "Mugs"),
                      category_path="kitchen/mugs", attributes={"Colour": "Blue", "Size": "L"}, released=10),
        make_document(3, "Kettle", brand="Wander", price_cents=2500, is_in_stock=False, category=("Kitchen",),
                      category_path="kitchen", attributes={"Colour": "Red"}, released=-5000),
        make_document(4, "Mixer", brand="", price_cents=None, rating=5.0, category=("Kitchenware",),
                      category_path="kitchenware", released=20),
        make_document(5, "Nothing"),
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (NOTHING, [1, 2, 3, 4, 5]),
        (Filters(category="kitchen"), [1, 2, 3]),
        (Filters(category="kitchen/mugs"), [1, 2]),
        (Filters(category="mugs"), []),
        (Filters(brands=("Potta",)), [1]),
        (Filters(brands=("POTTA",)), [1, 2]),  # spelt like neither: both
        (Filters(brands=("Wander", "Potta")), [1, 3]),
        (Filters(brands=("Nobody",)), []),
        (Filters(price_min_cents=0), [1, 2, 3]),  # no price is not a price of 0
        (Filters(price_max_cents=1000), [1, 2]),
        (Filters(price_min_cents=1000, price_max_cents=1000), [2]),
        (Filters(price_min_cents=2000, price_max_cents=1000), []),
        (Filters(rating_min=4.0), [1, 4]),
        (Filters(rating_min=3.9), [1, 2, 4]),
        (Filters(rating_min=0.0), [1, 2, 4]),  # not rated is not rated 0
        (Filters(in_stock=True), [1, 2, 4, 5]),
        (Filters(attributes=(("Colour", ("Red",)),)), [1, 3]),
        (Filters(attributes=(("colour", ("red", "blue")),)), [1, 2, 3]),
        (Filters(attributes=(("Colour", ("Red",)), ("Size", ("L",)))), [1]),
        (Filters(attributes=(("Colour", ()),)), []),
        (Filters(attributes=(("Weight", ("1",)),)), []),
        (Filters(category="kitchen", brands=("Potta", "potta"), price_max_cents=500, in_stock=True), [1]),
    ],
)
def test_each_filter_lets_pass_what_it_names(filters, expected):
    assert find(SHOP, filters) == expected


def test_filters_narrow_a_result_set_and_keep_its_order():
    assert find(SHOP, Filters(category="kitchen"), np.array([4, 2, 0, 1])) == [3, 1, 2]
    assert find(SHOP, Filters(category="kitchen"), np.empty(0, np.int64)) == []


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        (Sort.RELEVANCE, [5, 4, 3, 2, 1]),
        (Sort.PRICE_ASC, [1, 2, 3, 5, 4]),
        (Sort.PRICE_DESC, [3, 2, 1, 5, 4]),
        (Sort.RATING, [4, 1, 2, 5, 3]),
        (Sort.NEWEST, [1, 4, 2, 3, 5]),  # of 1956, yet older than one of no known date is not
    ],
)
def test_equals_keep_their_order_and_unknown_values_come_last(sort, expected):
    rows = np.array([4, 3, 2, 1, 0])
    assert SHOP.product_ids[rows[sort_rows(SHOP, rows, sort)]].tolist() == expected


def test_nothing_is_sorted_and_counted_as_nothing():
    rows = np.empty(0, np.int64)
    assert all(len(sort_rows(SHOP, rows, sort)) == 0 for sort in Sort)
    assert count(SHOP, NOTHING, rows) == count(build_columns([])) == {}


# --- what is promised ----------------------------------------------------------------------------------

VALUES = {"Colour": ["Red", "Blue", "Green", "red"], "Size": ["S", "M", "L", "XL"], "Material": ["Steel", "Clay"]}
TREE = [
    ("", ()), ("kitchen", ("Kitchen",)), ("kitchen/mugs", ("Kitchen", "Mugs")), ("garden", ("Garden",)),
    ("kitchen/mugs/travel", ("Kitchen", "Mugs", "Travel")), ("kitchen/mugs-and-cups", ("Kitchen", "Mugs and cups")),
]  # fmt: skip


def random_document(random: np.random.Generator, product_id: int) -> Document:
    path, names = TREE[random.integers(len(TREE))]
    return make_document(
        product_id,
        "Any",
        brand=str(random.choice(["", "Potta", "potta", "Wander", *(f"Brand {n}" for n in range(15))])),
        price_cents=None if random.random() < 0.1 else int(random.lognormal(random.choice([2, 7, 11]), 1.5)),
        rating=None if random.random() < 0.2 else round(float(random.uniform(0, 5)), 1),
        is_in_stock=bool(random.random() < 0.7),
        category=names,
        category_path=path,
        attributes={name: str(random.choice(values)) for name, values in VALUES.items() if random.random() < 0.7},
    )


def random_filters(random: np.random.Generator) -> Filters:
    def maybe(value, otherwise):
        return value if random.random() < 0.35 else otherwise

    names = random.choice(list(VALUES), size=2, replace=False)
    pairs = tuple((str(name), tuple(random.choice(VALUES[name], 2, replace=False).tolist())) for name in names)
    return Filters(
        category=maybe(TREE[random.integers(len(TREE))][0], ""),
        brands=maybe(tuple(random.choice(["Potta", "Wander", "Brand 1", "Brand 2"], 2).tolist()), ()),
        price_min_cents=maybe(int(random.integers(2000)), None),
        price_max_cents=maybe(int(random.integers(2000, 90_000)), None),
        rating_min=maybe(float(random.choice([2, 3, 3.5])), None),
        in_stock=maybe(True, False),
        attributes=maybe(pairs[: random.integers(1, 3)], ()),
    )


@pytest.mark.parametrize("seed", range(8))
def test_choosing_a_value_shows_as_many_products_as_it_promised(seed):
    random = np.random.default_rng(seed)
    columns = build_columns([random_document(random, n) for n in range(int(random.integers(5, 400)))])
    tried = 0
    while tried < 60:
        rows = random.permutation(len(columns))[: random.integers(1, len(columns) + 1)]
        filters = random_filters(random)
        promises = [(facet, value) for facet in count(columns, filters, rows).values() for value in facet.values]
        for position in random.permutation(len(promises))[:10]:
            facet, value = promises[position]
            shown = find(columns, choose(filters, facet.field, value.value), rows)
            assert (facet.field, value.value, len(shown)) == (facet.field, value.value, value.count)
            tried += 1
        tried += not promises


@pytest.mark.parametrize("seed", range(4))
def test_several_chosen_values_show_the_sum_of_what_they_promise(seed):
    random = np.random.default_rng(seed)
    columns = build_columns([random_document(random, n) for n in range(300)])
    for _ in range(10):
        filters = replace(random_filters(random), brands=("Potta", "Brand 3"), attributes=(("Size", ("S", "XL")),))
        facets = count(columns, filters)
        for field in ("brand", "attr.Size"):
            chosen = [value.count for value in facets[field].values if value.is_selected]
            assert sum(chosen) == len(find(columns, filters))
            assert len(chosen) == 2


# --- single facets -------------------------------------------------------------------------------------


def test_a_field_s_own_filter_does_not_narrow_its_own_values():
    facets = count(SHOP, Filters(brands=("Potta",), attributes=(("Colour", ("Red",)),)))
    assert counts(facets["brand"]) == {"Potta": 1, "Wander": 1}  # of the red ones
    assert counts(facets["attr.Colour"]) == {"Red": 1}  # of Potta's
    assert selected(facets["brand"]) == ["Potta"]


def test_products_without_brand_are_no_brand():
    assert "" not in counts(count(SHOP)["brand"])


def test_at_most_so_many_values_are_shown_the_chosen_ones_always():
    columns = build_columns(
        [make_document(10 * n + copy, "Any", brand=f"Brand {n:02}") for n in range(20) for copy in range(20 - n)]
    )
    assert list(counts(count(columns)["brand"])) == [f"Brand {n:02}" for n in range(MAX_VALUES)]
    brand = count(columns, Filters(brands=("Brand 19", "brand 19", "Brand 18")))["brand"]
    assert [value.value for value in brand.values][:3] == ["Brand 19", "Brand 18", "Brand 00"]
    assert len(brand.values) == len(counts(brand)) == MAX_VALUES


def test_every_chosen_value_is_shown_even_beyond_the_limit():
    columns = build_columns([make_document(n, "Any", brand=f"Brand {n}") for n in range(30)])
    brand = count(columns, Filters(brands=tuple(f"Brand {n}" for n in range(20))))["brand"]
    assert selected(brand) == [f"Brand {n}" for n in range(20)]
    assert len(brand.values) == 20


def categories(selected: str) -> list[tuple[str, int, int, bool]]:
    columns = build_columns(
        [
            make_document(n, "Any", category_path=path, category=names)
            for n, (path, names) in enumerate([*TREE, TREE[2], TREE[2], TREE[3], TREE[3], TREE[3]])
        ]
    )
    values = count(columns, Filters(category=selected))["category"].values
    return [(value.label, value.count, value.depth, value.is_selected) for value in values]


def test_categories_start_closed_with_the_largest_first():
    assert categories("") == [("Kitchen", 6, 0, False), ("Garden", 4, 0, False)]


def test_a_chosen_category_opens_its_children_and_keeps_its_neighbours():
    assert categories("kitchen") == [
        ("Kitchen", 6, 0, True),
        ("Mugs", 4, 1, False),
        ("Mugs and cups", 1, 1, False),
        ("Garden", 4, 0, False),
    ]
    assert categories("kitchen/mugs") == [
        ("Kitchen", 6, 0, False),
        ("Mugs", 4, 1, True),
        ("Travel", 1, 2, False),
        ("Mugs and cups", 1, 1, False),
        ("Garden", 4, 0, False),
    ]


def test_an_unknown_category_opens_nothing():
    assert [label for label, *_ in categories("nowhere/at/all")] == ["Kitchen", "Garden"]


def prices(*cents: int | None, filters: Filters = NOTHING) -> list[FacetValue]:
    columns = build_columns([make_document(n, "Any", price_cents=price) for n, price in enumerate(cents)])
    facet = count(columns, filters).get("price")
    return list(facet.values) if facet else []


@pytest.mark.parametrize(
    "cents",
    [(), (500,), (500, 500, 500), (None, None), (None, 500), (0, 0, 0), (100, 101), (0, 0, 0, 0, 0, 7)],
)
def test_prices_that_leave_nothing_to_choose_are_no_facet(cents):
    assert prices(*cents) == []


@pytest.mark.parametrize(
    "cents",
    [
        (1, 2),
        (0, 1, 2, 3),
        (100, 200, 300, 400, 500),
        (999, 1999, 2999, 49_999, 1_299_999),
        tuple(range(1, 1000)),
        (10**12, 3 * 10**12, 9 * 10**12, 10**14),
        (1, 10, 100, 1000, 10**14),
        (None, 0, 0, 0, 995, 1000, 1005, None),
        (0, *[1000] * 50, 10**9),
    ],
)
def test_price_ranges_hold_every_priced_product_once(cents):
    known = [price for price in cents if price is not None]
    ranges = [value.value.split("-") for value in prices(*cents)]
    lows, highs = [int(low) for low, _ in ranges], [int(high) if high else None for _, high in ranges]
    assert 2 <= len(ranges) <= 5
    assert sum(value.count for value in prices(*cents)) == len(known)
    assert lows == sorted(set(lows))
    assert all(high is None or low <= high for low, high in zip(lows, highs, strict=True))
    assert all(high is not None and high < after for high, after in zip(highs, lows[1:], strict=False))


def test_price_ranges_lie_at_round_figures_near_the_quintiles():
    cents = [137 * n for n in range(1, 101)]  # quintiles 2850, 5562, 8275, 10987
    assert {value.value: value.count for value in prices(*cents)} == {
        "0-2999": 21, "3000-5499": 19, "5500-8499": 22, "8500-9999": 10, "10000-": 28,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 99, ["0-99"]),
        (None, 99, ["0-99"]),
        (400, None, ["400-"]),
        (0, None, []),
        (150, 200, []),
        (None, None, []),
    ],
)
def test_a_chosen_price_range_is_marked(low, high, expected):
    values = prices(*range(501), filters=Filters(price_min_cents=low, price_max_cents=high))
    assert [value.value for value in values] == ["0-99", "100-199", "200-299", "300-399", "400-"]
    assert [value.value for value in values if value.is_selected] == expected


def test_free_products_can_be_chosen():
    cents = [0, 0, 0, 1, 1, 1, 2, 2, 2]
    values = prices(*cents, filters=Filters(price_min_cents=0, price_max_cents=0))
    assert values[0] == FacetValue("0-0", "0-0", 3, is_selected=True)


def test_ratings_add_up_from_the_top():
    rating = count(SHOP, Filters(rating_min=3.0))["rating"]
    assert counts(rating) == {"4": 2, "3": 3, "2": 3}
    assert selected(rating) == ["3"]


@pytest.mark.parametrize(
    ("stocks", "filters", "expected"),
    [
        ([True, True], NOTHING, {}),
        ([False, False], NOTHING, {}),
        ([True, False], NOTHING, {"1": 1}),
        ([False, False], Filters(in_stock=True), {"1": 0}),  # chosen: it must be possible to undo
    ],
)
def test_stock_is_a_facet_where_it_tells_products_apart(stocks, filters, expected):
    columns = build_columns([make_document(n, "Any", is_in_stock=stock) for n, stock in enumerate(stocks)])
    facet = count(columns, filters).get("stock")
    assert (counts(facet) if facet else {}) == expected


# --- attributes ----------------------------------------------------------------------------------------


def attributes_of(*products: dict[str, str]) -> Columns:
    return build_columns([make_document(n, "Any", attributes=pairs) for n, pairs in enumerate(products)])


def test_attributes_that_split_the_results_come_first():
    columns = attributes_of(
        *(
            {
                "serial": str(n),  # each its own
                "warranty": "2 years",  # all the same
                "colour": ["Red", "Blue", "Green", "Black"][n % 4],
                "foldable": "yes" if n < 3 else "no",
                **({"rare": "a"} if n == 0 else {}),  # hardly known
            }
            for n in range(20)
        )
    )
    assert [field for field in count(columns) if field.startswith("attr.")] == ["attr.colour", "attr.foldable"]


def test_a_chosen_attribute_is_shown_however_useless():
    columns = attributes_of({"warranty": "2 years"}, {"warranty": "2 years"})
    facet = count(columns, Filters(attributes=(("warranty", ("2 years",)),)))["attr.warranty"]
    assert (counts(facet), selected(facet), facet.label) == ({"2 years": 2}, ["2 years"], "Warranty")


def test_attributes_are_limited_but_the_chosen_ones_all_shown():
    names = [f"name{n:02}" for n in range(12)]
    columns = attributes_of(*({name: str((n >> (k % 3)) % 2) for k, name in enumerate(names)} for n in range(8)))
    assert len(attribute_fields(columns, 0)) == MAX_ATTRIBUTES
    assert attribute_fields(columns, 3)[:3] == ["attr.name00", "attr.name01", "attr.name02"]
    assert len(attribute_fields(columns, 3)) == MAX_ATTRIBUTES
    assert attribute_fields(columns, 10) == [f"attr.{name}" for name in names[:10]]


def attribute_fields(columns: Columns, chosen: int) -> list[str]:
    filters = Filters(attributes=tuple((f"name{n:02}", ("0", "1")) for n in range(chosen)))
    return [field for field in count(columns, filters) if field.startswith("attr.")]


def test_an_attribute_chosen_in_another_case_is_counted_and_shown_once():
    columns = attributes_of({"Colour": "Red"}, {"Colour": "Red"}, {"Colour": "Blue"}, {"Colour": "Blue"}, {})
    facets = count(columns, Filters(attributes=(("colour", ("red",)),)))
    assert [field for field in facets if field.startswith("attr.")] == ["attr.colour"]
    assert counts(facets["attr.colour"]) == {"Red": 2, "Blue": 2}
    assert selected(facets["attr.colour"]) == ["Red"]


def test_an_unknown_attribute_finds_and_counts_nothing():
    facets = count(SHOP, Filters(attributes=(("Weight", ("1 kg",)),)))
    assert "attr.Weight" not in facets
    assert "brand" not in facets
