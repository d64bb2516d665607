"""The shop's pages, with the real model on a small shop."""

from __future__ import annotations

import random
import re
from html import unescape

import pytest
from django.urls import reverse

from catalog.models import Product
from retrieval import past_queries, setup
from retrieval.fallback import NOTICE
from retrieval.models import PastQuery
from searchsite.templatetags.shop import product_url

RESULTS = "/search/"
HOSTILE = [
    "",
    "???",
    "😀",
    "'; DROP TABLE catalog_product; --",
    "<script>alert(1)</script>",
    "a" * 10_000,
    '"',
    "%",
    "\\",
]


def get_html(client, url, data=None, *, status=200, **headers):
    response = client.get(url, data, headers=headers)
    assert response.status_code == status, response.content[:500]
    return response.content.decode()


def total_of(html: str) -> int:
    found = re.search(r'data-total="(\d+)"', html)
    assert found
    return int(found[1])


def test_the_front_door_shows_departments_and_popular_products(client, filled, django_assert_max_num_queries):
    with django_assert_max_num_queries(3):
        html = get_html(client, "/")
    assert "Departments" in html
    assert html.count('class="card"') == 12


def test_an_empty_shop_says_how_to_fill_it(client, shop):
    html = get_html(client, "/")
    assert "manage.py import_products" in html
    assert "make demo" in html


def test_results_are_a_whole_page_or_a_fragment(client, filled, django_assert_max_num_queries):
    with django_assert_max_num_queries(2):
        page = get_html(client, RESULTS, {"q": "mug"})
    assert page.startswith("<!doctype html>")
    assert "Ceramic mug number" in page
    response = client.get(RESULTS, {"q": "mug"}, headers={"HX-Request": "true"})
    fragment = response.content.decode().strip()
    assert fragment.startswith('<div id="results"')
    assert response["Vary"] == "HX-Request"
    assert re.search(r"total;dur=[\d.]+", response["Server-Timing"])
    restored = client.get(RESULTS, {"q": "mug"}, headers={"HX-Request": "true", "HX-History-Restore-Request": "true"})
    assert restored.content.decode().startswith("<!doctype html>")


def test_facets_promise_what_choosing_them_shows(client, filled):
    """Follow 200 random (query, facet value) links: the count beside each is the total behind it.

    Where values of a field are chosen already, '+3' promises three more.
    """
    rng = random.Random(5)
    queries = ["mug", "ceramic", "lamp", "", "red", "wooden", "bag", "kitchen", "office", "dog"]
    link = re.compile(
        r'<li class="depth-\d+"><a href="([^"]+)"([^>]*)>[^<]*</a> <span class="count">(\+?)([\d,]+)</span>'
    )
    followed = 0
    starts = [(f"{RESULTS}?q={query}", 0) for query in queries]
    while followed < 200:
        url, depth = rng.choice(starts)
        html = get_html(client, url)
        choices = [found for found in link.findall(html) if "aria-current" not in found[1]]
        assert choices or depth, url
        for href, _, plus, count in rng.sample(choices, min(len(choices), 12)):
            followed += 1
            promised = int(count.replace(",", "")) + (total_of(html) if plus else 0)
            assert total_of(get_html(client, unescape(href))) == promised, unescape(href)
            if depth < 2:
                starts.append((unescape(href), depth + 1))


def test_filters_show_as_chips_that_take_them_back(client, filled):
    html = get_html(client, RESULTS, {"q": "mug", "brand": "Potta & Co", "attr.Colour": "Red", "price_max": "10"})
    chips = dict(re.findall(r'<a href="([^"]+)"[^>]*><span class="unseen">Remove filter </span>([^<]+) <', html))
    assert sorted(map(unescape, chips.values())) == ["Colour: Red", "Potta & Co", "Up to $10.00"]
    assert total_of(html) == 5
    without_colour = next(url for url, label in chips.items() if label.startswith("Colour"))
    assert total_of(get_html(client, unescape(without_colour))) == 10


def test_sorts_and_pages_are_in_the_address(client, filled):
    html = get_html(client, RESULTS, {"q": "ceramic mug", "sort": "price_asc", "brand": "Potta & Co"})
    prices = [float(text) for text in re.findall(r'class="price">\$([\d.]+)', html)]
    assert prices == sorted(prices)
    assert len(prices) == 24
    assert 'aria-current="page"' in html
    second = re.search(r'<a rel="next" href="([^"]+)"', html)
    assert second
    rest = get_html(client, unescape(second[1]))
    assert rest.count('class="card"') == 6
    assert min(float(text) for text in re.findall(r'class="price">\$([\d.]+)', rest)) > max(prices)
    beyond = get_html(client, RESULTS, {"q": "ceramic mug", "page": 9})
    assert "There is no page 9." in beyond


def test_corrections_say_so_and_offer_the_way_back(client, filled):
    html = get_html(client, RESULTS, {"q": "cermic mug"})
    assert "Showing results for <strong>ceramic mug</strong>" in html
    verbatim = re.search(r'Search instead for <a href="([^"]+)"', html)
    assert verbatim
    assert "Showing results for" not in get_html(client, unescape(verbatim[1]))


def test_nothing_found_helps_on(client, filled):
    html = get_html(client, RESULTS, {"q": "mug", "price_min": "9000"})
    assert "Nothing found for “mug”." in html
    assert "Leave out a filter" in html


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("page", "x"), ("page", "0"), ("page", "99999999999"), ("sort", "best"), ("rating", "9"), ("rating", "nan"),
     ("price_min", "-1"), ("price_min", "abc"), ("price_max", "1e400"), ("page_size", "1000"), ("q", "a\x00b"),
     ("brand", "x" * 600), ("category", "x" * 800)],
)  # fmt: skip
def test_wrong_parameters_are_named(client, db, parameter, value):
    html = get_html(client, RESULTS, {"q": "mug", parameter: value} | {parameter: value}, status=400)
    assert "This search cannot be understood" in html
    assert f"<code>{parameter}=" in html


def test_hostile_queries_get_an_answer(client, filled):
    for text in HOSTILE:
        html = get_html(client, RESULTS, {"q": text})
        assert "<script>alert" not in html
        get_html(client, "/suggest/", {"q": text})
        get_html(client, RESULTS, {"category": text[:700], "brand": text[:500], f"attr.{text[:200]}": text[:500]})
    many = "&".join(f"attr.a{n}=1" for n in range(60))
    assert "expected at most 50" in get_html(client, f"{RESULTS}?{many}", status=400)


def test_suggestions_are_options_with_links(client, filled):
    PastQuery.objects.record("ceramic <b>mug</b>", 3, {"ada", "bob", "cleo"})
    html = get_html(client, "/suggest/", {"q": "cer"})
    assert "ceramic &lt;b&gt;mug" in html
    assert 'role="option"' in html
    assert "Ceramic mug number" in html
    assert get_html(client, "/suggest/", {"q": ""}).strip() == ""


def test_searches_are_remembered_for_suggestions(client, filled):
    get_html(client, RESULTS, {"q": "Ceramic  Mug"})
    get_html(client, RESULTS, {"q": "ceramic mug", "page": 2})
    past_queries.flush_recorded()
    assert list(PastQuery.objects.values_list("text", "count")) == [("ceramic mug", 1)]


@pytest.mark.parametrize("headers", [{"DNT": "1"}, {"Sec-GPC": "1"}, {"User-Agent": "Googlebot/2.1"}])
def test_what_those_type_who_are_not_recorded_is_not_remembered(client, filled, headers):
    for address in (RESULTS, "/api/v1/search/"):
        for client_id in ("ada", "bob", "cleo"):
            assert client.get(address, {"q": "mug for ada", "client_id": client_id}, headers=headers).status_code == 200
    past_queries.flush_recorded()
    assert not PastQuery.objects.exists()


def test_a_shop_that_records_nothing_remembers_no_queries(client, filled, settings):
    settings.SEARCHSITE = settings.SEARCHSITE | {"EVENTS": False}
    get_html(client, RESULTS, {"q": "ceramic mug"})
    past_queries.flush_recorded()
    assert not PastQuery.objects.exists()


def test_a_search_of_the_api_is_remembered_of_a_visitor_it_names(client, filled):
    client.get("/api/v1/search/", {"q": "ceramic mug"})
    for client_id in ("ada", "bob", "cleo", "ada"):
        client.get("/api/v1/search/", {"q": "blue mug", "client_id": client_id})
    past_queries.flush_recorded()
    assert list(PastQuery.objects.values_list("text", "count")) == [("blue mug", 3)]


def test_a_product_has_its_page_whatever_its_sku(client, filled, django_assert_max_num_queries):
    product = Product.objects.get(sku="MUG/3 %")
    with django_assert_max_num_queries(3):
        html = get_html(client, product_url(product))
    assert "Ceramic mug number 3" in html
    assert "Similar products" in html
    assert "Potta &amp; Co" in html
    assert "Kitchen</a>" in html
    assert "There is no such page" in get_html(client, "/product/nothing/", status=404)


def test_a_product_no_longer_sold_shows_others_like_it(client, filled):
    Product.objects.filter(sku="MUG/3 %").set_active(False)
    html = get_html(client, "/product/MUG%2F3%20%25/", status=410)
    assert "is no longer sold" in html
    assert "Similar products" in html


def test_what_nobody_expects_of_an_engine_still_gets_an_answer(client, filled, monkeypatch, caplog):
    def fail(*arguments):
        raise RuntimeError("out of device memory")

    monkeypatch.setattr(setup.get_encoder(), "encode_queries", fail)
    html = get_html(client, RESULTS, {"q": "mug of a broken model"})
    assert NOTICE in unescape(html)
    assert "RuntimeError: out of device memory" in caplog.text


def test_without_an_index_the_database_answers_with_a_notice(client, filled):
    store = setup.get_store()
    store.withdraw(*store.served())
    setup.forget_pipelines()
    html = get_html(client, RESULTS, {"q": "ceramic mug"})
    assert NOTICE in html
    assert "Ceramic mug number" in html
    html = get_html(client, product_url(Product.objects.get(sku="MUG/3 %")))
    assert "Similar products" in html


def test_staff_see_where_hits_come_from(admin_client, client, filled):
    assert "words #1" in get_html(admin_client, RESULTS, {"q": "ceramic mug number 7", "explain": "1"})
    assert "words #1" not in get_html(client, RESULTS, {"q": "ceramic mug number 7", "explain": "1"})


def test_pictures_of_the_sample_shop_are_drawn(client, db):
    response = client.get("/sample-images/mug/red.svg")
    assert (response.status_code, response["Content-Type"]) == (200, "image/svg+xml")
    assert client.get("/sample-images/mug/plaid.svg").status_code == 404


def test_small_files(client, db):
    assert "Disallow: /search/" in get_html(client, "/robots.txt")
    assert client.get("/favicon.ico")["Location"].endswith("icon.svg")
    assert client.post(RESULTS).status_code == 405
    assert reverse("search:results") == RESULTS
