"""Addresses of a results page: what changes in them with each choice, and what stays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from django.http import QueryDict

from retrieval.engine.types import Facet, FacetValue, Results
from searchsite.forms import SearchForm
from searchsite.links import Link, ResultLinks, describe_range, drop_parameters, label_price, split_price
from searchsite.search import SearchPage

CATEGORIES = Facet("category", "Category", (
    FacetValue("home", "Home", 9),
    FacetValue("home/mugs", "Mugs & cups", 4, is_selected=True, depth=1),
))  # fmt: skip
BRANDS = Facet("brand", "Brand", (FacetValue("Potta & Co", "Potta & Co", 3), FacetValue("Wander", "Wander", 2)))
PRICES = Facet("price", "Price", (FacetValue("0-999", "", 5), FacetValue("1000-", "", 4)))
RATINGS = Facet("rating", "Rating", (FacetValue("4", "4 stars and up", 3),))
STOCK = Facet("stock", "Availability", (FacetValue("1", "In stock", 3),))
COLOURS = Facet("attr.Colour", "Colour", (FacetValue("Red", "Red", 2), FacetValue("Blue", "Blue", 1)))


def build_links(address: str, *facets: Facet, total: int = 9, **facts: Any) -> ResultLinks:
    """Return the links of a results page at this address."""
    parameters = QueryDict(address)
    form = SearchForm(parameters)
    assert form.is_valid(), form.errors
    query = form.to_query()
    return ResultLinks(parameters, SearchPage(query, Results((), total, facets, query.text, **facts), ()))


def mark(facet: Facet, *chosen: str) -> Facet:
    return replace(facet, values=tuple(replace(value, is_selected=value.value in chosen) for value in facet.values))


def read(url: str) -> list[tuple[str, str]]:
    parts = urlsplit(url)
    assert parts.path == "/search/"
    return sorted(parse_qsl(parts.query, keep_blank_values=True))


def links_of(links: ResultLinks) -> dict[str, Link]:
    return {link.label: link for facet in links.facets for link in facet.links}


@pytest.mark.parametrize(
    ("facet", "label", "added"),
    [
        (BRANDS, "Potta & Co", [("brand", "Potta & Co")]),
        (CATEGORIES, "Home", [("category", "home")]),
        (PRICES, "Up to $9.99", [("price_max", "9.99"), ("price_min", "0.00")]),
        (PRICES, "$10.00 and up", [("price_min", "10.00")]),
        (RATINGS, "4 stars and up", [("rating", "4")]),
        (STOCK, "In stock", [("in_stock", "1")]),
        (COLOURS, "Red", [("attr.Colour", "Red")]),
    ],
)
def test_choosing_a_value_keeps_all_else_and_starts_at_page_one(facet, label, added):
    link = links_of(build_links("q=red+mug&sort=rating&page=3&attr.Size=M", facet))[label]
    assert read(link.url) == sorted([("attr.Size", "M"), ("q", "red mug"), ("sort", "rating"), *added])


@pytest.mark.parametrize(
    ("address", "facet", "label"),
    [
        ("brand=potta+%26+co", mark(BRANDS, "Potta & Co"), "Potta & Co"),
        ("brand=+Potta+%26+Co+", mark(BRANDS, "Potta & Co"), "Potta & Co"),
        ("price_min=0&price_max=9.99", mark(PRICES, "0-999"), "Up to $9.99"),
        ("rating=4.0", mark(RATINGS, "4"), "4 stars and up"),
        ("in_stock=on", mark(STOCK, "1"), "In stock"),
        ("attr.Colour=red", mark(COLOURS, "Red"), "Red"),
    ],
)
def test_choosing_it_again_takes_it_back_and_so_does_its_chip(address, facet, label):
    links = build_links(f"q=mug&{address}", facet)
    assert read(links_of(links)[label].url) == [("q", "mug")]
    assert [read(chip.url) for chip in links.chips] == [[("q", "mug")]]


def test_values_of_one_field_add_up_and_are_taken_back_one_by_one():
    links = build_links("brand=Wander&attr.Colour=Red&attr.Colour=Blue", mark(BRANDS, "Wander"), COLOURS)
    colours = [("attr.Colour", "Blue"), ("attr.Colour", "Red")]
    assert read(links_of(links)["Potta & Co"].url) == [*colours, ("brand", "Potta & Co"), ("brand", "Wander")]
    assert read(links_of(links)["Wander"].url) == colours
    assert {chip.label: len(read(chip.url)) for chip in links.chips} == {
        "Wander": 2, "Colour: Red": 2, "Colour: Blue": 2}  # fmt: skip
    assert read(links.without_filters) == []


def test_only_where_values_add_up_a_count_is_how_many_more():
    links = build_links("brand=Wander&rating=4", mark(BRANDS, "Wander"), mark(RATINGS, "4"), COLOURS)
    assert {facet.field: facet.adds for facet in links.facets} == {"brand": True, "rating": False, "attr.Colour": False}


def test_a_chosen_category_goes_back_to_its_parent():
    links = build_links("category=home/mugs", CATEGORIES)
    assert read(links_of(links)["Mugs & cups"].url) == [("category", "home")]
    assert [(chip.label, read(chip.url)) for chip in links.chips] == [("Mugs & cups", [])]


def test_a_category_without_products_is_named_by_its_address():
    assert [chip.label for chip in build_links("category=home/tea-pots").chips] == ["Tea pots"]


def test_a_value_keeps_its_name_on_the_next_page_for_the_focus():
    before = links_of(build_links("q=mug", BRANDS, COLOURS))
    after = links_of(build_links("q=mug&brand=Wander", mark(BRANDS, "Wander"), COLOURS))
    assert {label: link.key for label, link in before.items()} == {label: link.key for label, link in after.items()}
    assert len({link.key for link in before.values()}) == 4


def test_the_address_is_short_whatever_a_form_sends():
    links = build_links(
        "q=mug&price_min=&price_max=+&sort=relevance&page=1&brand=&brand=A&brand=A&utm_source=x&attr.a="
    )
    assert links.here == "/search/?q=mug&brand=A"
    assert build_links("q=").here == "/search/"


def test_forms_send_along_what_they_do_not_ask_for():
    links = build_links("q=mug&price_min=5&sort=rating&page=2&brand=A&brand=B")
    kept = [("q", "mug"), ("brand", "A"), ("brand", "B")]
    assert links.kept_by_price == [("q", "mug"), ("sort", "rating"), *kept[1:]]
    assert links.kept_by_sort == [("q", "mug"), ("price_min", "5"), *kept[1:]]


@pytest.mark.parametrize(
    ("page", "total", "shown"),
    [
        (1, 20, "1"),
        (1, 24 * 3, "1 2 3"),
        (1, 24 * 9, "1 2 3 … 9"),
        (4, 24 * 9, "1 2 3 4 5 6 … 9"),
        (5, 24 * 9, "1 2 3 4 5 6 7 8 9"),
        (6, 24 * 20, "1 … 4 5 6 7 8 … 20"),
        (20, 24 * 20, "1 … 18 19 20"),
        (50, 24 * 3, "1 2 3"),
        (1, 0, ""),
    ],
)
def test_pages_show_both_ends_and_what_is_near(page, total, shown):
    links = build_links(f"q=mug&page={page}", total=total)
    assert " ".join(link.label if link else "…" for link in links.pages) == shown
    assert [link.label for link in links.pages if link and link.is_selected] == ([str(page)] if page * 24 <= total + 23 and total else [])  # fmt: skip  # noqa: E501


def test_the_first_page_has_no_number_in_its_address():
    links = build_links("q=mug&page=2", total=60)
    assert (read(links.previous), read(links.next)) == ([("q", "mug")], [("page", "3"), ("q", "mug")])
    assert (build_links("q=mug").previous, build_links("q=mug&page=3", total=60).next) == ("", "")
    assert read(build_links("q=mug&page=9", total=60).last) == [("page", "3"), ("q", "mug")]


def test_the_way_back_from_a_correction_keeps_the_filters():
    links = build_links("q=mgu&brand=A&page=2", corrected_from="mgu")
    assert read(links.verbatim) == [("brand", "A"), ("q", "mgu"), ("verbatim", "1")]
    offered = build_links("q=mgu&verbatim=1&brand=A", suggestion="mug")
    assert read(offered.suggested) == [("brand", "A"), ("q", "mug")]


@pytest.mark.parametrize(
    ("address", "title"),
    [
        ("q=+red+mug+", "“red mug”"),
        ("", "All products"),
        ("category=home/mugs", "Mugs & cups"),
        ("brand=Wander", "Wander"),
        ("brand=A&brand=B", "All products"),
    ],
)
def test_a_page_is_titled_by_what_it_shows(address, title):
    assert build_links(address, CATEGORIES).title == title


def test_text_is_quoted_in_addresses():
    links = build_links("q=%22%3Cb%3E%22+%26+%F0%9F%98%80%23", BRANDS)
    assert ("q", '"<b>" & 😀#') in read(links_of(links)["Wander"].url)
    assert not set('<>"# ') & set(links.here)


def test_wrong_parameters_are_dropped_and_right_ones_stay():
    parameters = QueryDict("q=mug&price_min=abc&brand=A&attr.a=1&attr.b=2&page=0")
    assert drop_parameters(parameters, ["price_min", "page"]) == "/search/?q=mug&brand=A&attr.a=1&attr.b=2"
    assert drop_parameters(parameters, ["", "price_min", "page"]) == "/search/?q=mug&brand=A"


def test_prices_are_shown_in_the_shops_currency(settings):
    assert (split_price("1050-2000"), split_price("500-")) == (("10.50", "20.00"), ("5.00", ""))
    settings.SEARCHSITE = {**settings.SEARCHSITE, "CURRENCY": "JPY"}
    assert split_price("1050-2000") == ("1050", "2000")
    assert label_price("0-2000") == "Up to ¥2,000"
    assert describe_range(100, None, "JPY") == "¥100 and up"
    assert describe_range(100, 200, "KWD") == "0.100 KWD to 0.200 KWD"
