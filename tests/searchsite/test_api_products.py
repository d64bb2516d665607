"""The catalogue through the API: reading, writing one and many, deleting; and that the search follows."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import jsonschema  # type: ignore[import-untyped]
import pytest
from django.core.cache import caches
from django.test import Client

from catalog.models import Product
from retrieval import indexing
from retrieval.models import PendingChange
from searchsite.models import ApiKey
from tests.factories import make_product
from tests.searchsite.test_api import find_shape

pytestmark = pytest.mark.django_db
ROOT = "/api/v1/products/"


@pytest.fixture(autouse=True)
def _no_counts_left():
    caches["throttles"].clear()


@pytest.fixture
def writer(db) -> Client:
    """A client with a key that may write."""
    _, secret = ApiKey.objects.create_key("importer")
    return Client(headers={"authorization": f"Bearer {secret}"})


def put(client: Client, sku: str, body: object) -> Any:
    return client.put(f"{ROOT}{quote(sku, safe='')}/", json.dumps(body), "application/json")


def post(client: Client, address: str, body: object) -> Any:
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    return client.post(f"{ROOT}{address}", content, "application/json")


WHOLE = {
    "sku": "A1",
    "title": "Red ceramic mug",
    "description": "Holds 300 ml.",
    "brand": "Potta",
    "category": ["Kitchen", "Cups / Mugs"],
    "price": "9.00",
    "currency": "USD",
    "image_url": "/pictures/a.svg",
    "gtin": "4006381333931",
    "attributes": {"colour": "Red"},
    "rating": 4.5,
    "rating_count": 12,
    "stock": 3,
    "popularity": 7.0,
    "released": "2025-01-31",
    "active": True,
}


# --- one product --------------------------------------------------------------------------------------


def test_what_is_put_is_read_and_what_is_read_can_be_put_back(client, writer):
    made = put(writer, "A1", WHOLE)
    assert made.status_code == 201
    jsonschema.validate(made.json(), find_shape("Product"))
    read = client.get(f"{ROOT}A1/").json()
    assert read == made.json()
    assert {name: read[name] for name in WHOLE} == WHOLE
    assert read["url"].endswith("/A1/")
    again = put(writer, "A1", read)
    assert (again.status_code, again.json()) == (200, read)


def test_what_a_put_does_not_mention_stays(writer):
    put(writer, "A1", WHOLE)
    changed = put(writer, "A1", {"price": 12.5, "stock": None}).json()
    assert (changed["price"], changed["stock"], changed["title"]) == ("12.50", None, "Red ceramic mug")


@pytest.mark.parametrize(
    "sku", ["a/b", "a/", "/a", "a//b", "100%", "a%2Fb", "a b", "a?b#c", "a&b=c", "ä😀", "..a", "'", "+"]
)
def test_a_sku_may_have_any_characters(client, writer, sku):
    assert put(writer, sku, {"title": "Mug"}).status_code == 201
    address = f"{ROOT}{quote(sku, safe='')}/"
    assert client.get(address).json()["sku"] == sku
    assert [one["sku"] for one in client.get(ROOT, {"sku": sku}).json()["products"]] == [sku]
    assert writer.delete(address).status_code == 204
    assert client.get(address).status_code == 404


@pytest.mark.parametrize("sku", ["bulk", "bulk-delete", ".", ".."])
def test_skus_that_no_address_can_hold_are_reached_in_lists(client, writer, sku):
    assert post(writer, "bulk/", [{"sku": sku, "title": "Mug"}]).json()["created"] == 1
    assert client.get(ROOT, {"sku": sku}).json()["products"][0]["sku"] == sku
    assert post(writer, "bulk-delete/", {"skus": [sku]}).json() == {"deleted": 1, "not_found": []}


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"brand": "Potta"}, "title", "a new product needs a title"),
        ({"title": ""}, "title", "every product needs a title"),
        ({"title": ["Mug"]}, "title", "expected a text"),
        ({"title": "x" * 1001}, "title", "at most 1,000"),
        ({"title": "Mug", "price": "cheap"}, "price", "expected a price such as 12.99"),
        ({"title": "Mug", "price": -1}, "price", "from 0"),
        ({"title": "Mug", "price": 10**400}, "price", "expected"),
        ({"title": "Mug", "price": {"amount": 1}}, "price", "expected"),
        ({"title": "Mug", "stock": 10**30}, "stock", "expected a number"),
        ({"title": "Mug", "stock": True}, "stock", "expected a number"),
        ({"title": "Mug", "rating": 6}, "rating", "from 0 to 5"),
        ({"title": "Mug", "rating": "NaN"}, "rating", "from 0 to 5"),
        ({"title": "Mug", "popularity": []}, "popularity", "expected a number"),
        ({"title": "Mug", "released": "soon"}, "released", "such as 2025-01-31"),
        ({"title": "Mug", "active": "perhaps"}, "active", "yes or no"),
        ({"title": "Mug", "price": 5, "currency": "dollars"}, "currency", "three letters"),
        ({"title": "Mug", "image_url": "javascript:alert(1)"}, "image_url", "https://"),
        ({"title": "Mug", "category": 5}, "category", "Home > Kitchen"),
        ({"title": "Mug", "category": [["a"]]}, "category", "expected a text"),
        ({"title": "Mug", "attributes": [1]}, "attributes", "object of names and values"),
        ({"title": "Mug", "attributes": {"a": {"b": 1}}}, "attributes.a", "single value"),
        ({"title": "Mug", "prcie": 5}, "prcie", "unknown column 'prcie', expected one of: sku, title"),
        ({"title": "Mug", "sku": "B"}, "sku", "the address 'A': send the same"),
    ],
)
def test_a_wrong_product_is_refused_naming_its_column(writer, body, field, words):
    answer = put(writer, "A", body)
    assert answer.status_code == 400, answer.content
    assert list(answer.json()["error"]["fields"]) == [field]
    assert words in answer.json()["error"]["fields"][field][0]
    assert not Product.objects.exists()


BROKEN = [
    (b"{", "not JSON"),
    (b"", "no product"),
    (b"{}", "no product"),
    (b'{"title": NaN}', "NaN is no number of JSON"),
    (b'{"title": "\xff"}', "not UTF-8: byte 11"),
    (b'{"price": ' + b"9" * 5000 + b"}", "not JSON"),
    (b'{"title": "a\\u0000"}', "$.title has a NUL character"),
    (b'{"attributes": {"a": ["\\ud800"]}}', "$.attributes.a[0] has a NUL character or half"),
    (b'{"a\\u0000": 1}', "$, in a name"),
    (b"[" * 200_000, "nested too deeply"),
    (b'{"a":' * 900 + b'"\\u00e4"' + b"}" * 900, ""),
    (b"[]", "no product"),
    (b'"mug"', "no product"),
    (b"null", "no product"),
]


@pytest.mark.parametrize(("body", "words"), BROKEN, ids=range(len(BROKEN)))
def test_a_broken_body_is_refused(writer, body, words):
    answer = writer.put(f"{ROOT}A/", body, "application/json")
    assert answer.status_code == 400, answer.content
    assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x"]
)
def test_a_body_of_another_kind_is_refused(writer, kind):
    answer = writer.put(f"{ROOT}A/", b"title=Mug", kind)
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("sku", ["A%00", "%00", "x" * 3000, "%FF", "%ED%A0%80"])
def test_a_sku_that_no_product_can_have_is_not_found(client, writer, sku):
    assert client.get(f"{ROOT}{sku}/").status_code == 404
    assert writer.delete(f"{ROOT}{sku}/").status_code == 404


def test_a_sku_too_long_or_with_spaces_around_it_is_refused(writer):
    assert put(writer, " A", {"title": "Mug"}).json()["error"]["fields"]["sku"] == [
        "' A' begins or ends with a space: leave it out."
    ]
    assert "at most 100" in put(writer, "x" * 101, {"title": "Mug"}).json()["error"]["message"]


# --- lists --------------------------------------------------------------------------------------------


def test_a_list_is_followed_page_by_page(client):
    for number in range(5):
        make_product(sku=f"P{number}")
    address, skus = f"{ROOT}?page_size=2", []
    while address:
        page = client.get(address).json()
        jsonschema.validate(page, find_shape("ProductPage"))
        skus += [product["sku"] for product in page["products"]]
        address = page["next"]
    assert skus == ["P0", "P1", "P2", "P3", "P4"]


def test_what_is_not_on_sale_is_shown_to_keys_only(client, writer):
    make_product(sku="on")
    make_product(sku="off", active=False)

    def skus(reader: Client, **parameters: str) -> list[str]:
        return [product["sku"] for product in reader.get(ROOT, parameters).json()["products"]]

    assert skus(client) == skus(client, active="1") == skus(writer, active="1") == ["on"]
    assert (skus(writer), skus(writer, active="0")) == (["on", "off"], ["off"])
    assert client.get(ROOT, {"active": "0"}).status_code == 401
    assert (client.get(f"{ROOT}off/").status_code, writer.get(f"{ROOT}off/").status_code) == (404, 200)


def test_a_list_of_what_changed_since(client):
    make_product(sku="old")
    now = datetime.now(UTC)
    Product.objects.update(updated_at=now - timedelta(days=2))
    make_product(sku="new")
    moment = (now - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert [one["sku"] for one in client.get(ROOT, {"updated_since": moment}).json()["products"]] == ["new"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("page_size", "0"),
        ("page_size", "501"),
        ("after", "x"),
        ("after", "-1"),
        ("after", str(2**63)),
        ("active", "maybe"),
        ("updated_since", "yesterday"),
        ("updated_since", "0001-01-01T00:00:00+14:00"),
        ("updated_since", "9999-99-99"),
        ("updated_since", "\x00"),
        ("sku", "a\x00"),
        ("sku", ["x"] * 5 + [str(number) for number in range(60)]),
    ],
)
def test_a_wrong_parameter_of_a_list_is_named(client, name, value):
    answer = client.get(ROOT, {name: value})
    assert (answer.status_code, list(answer.json()["error"]["fields"])) == (400, [name])


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59-14:00", "9999-12-31", "1970-01-02T00:00:00Z"])
def test_the_ends_of_time_are_no_server_error(client, moment):
    assert client.get(ROOT, {"updated_since": moment}).status_code == (400 if moment > "9999" else 200)


def test_a_list_asks_the_database_the_same_however_long_it_is(client, django_assert_num_queries):
    for number in range(3):
        make_product(category=f"Kitchen > Kind {number}")
    with django_assert_num_queries(2):
        assert len(client.get(ROOT).json()["products"]) == 3


# --- many products ------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"products": rows}])
def test_many_are_saved_and_the_wrong_ones_named(writer, wrap):
    make_product("Blue mug", sku="A")
    rows = [{"sku": "A", "title": "Green mug"}, 5, {"sku": "B", "title": "Rack"}, {"sku": "C", "price": "free"},
            {"title": "No SKU"}, {"sku": "D", "titel": "Misspelt"}]  # fmt: skip
    answer = post(writer, "bulk/", wrap(rows))
    assert answer.status_code == 200
    found = answer.json()
    jsonschema.validate(found, find_shape("BulkResponse"))
    assert [found[name] for name in ("created", "updated", "unchanged", "rejected")] == [1, 1, 0, 4]
    assert [(error["row"], error["sku"], error["column"]) for error in found["errors"]] == [
        (2, "", ""),
        (4, "C", "price"),
        (5, "", "sku"),
        (6, "D", "titel"),
    ]
    assert Product.objects.get(sku="A").title == "Green mug"
    assert post(writer, "bulk/", [{"sku": "A", "title": "Green mug"}]).json()["unchanged"] == 1


def test_no_products_are_no_error(writer):
    assert post(writer, "bulk/", []).json()["errors"] == []
    assert post(writer, "bulk-delete/", {"skus": []}).json() == {"deleted": 0, "not_found": []}


def test_a_thousand_products_fit_and_more_are_sent_in_parts(writer):
    rows = [{"sku": f"P{number}", "title": f"Mug number {number}"} for number in range(1001)]
    answer = post(writer, "bulk/", rows)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    assert "1,001 products were sent, expected at most 1,000: send them in parts" in answer.json()["error"]["message"]
    assert post(writer, "bulk/", rows[:1000]).json()["created"] == 1000
    answer = post(writer, "bulk/", [{"sku": "A", "title": "Mug", "description": "x" * 5_000_000}])
    assert (answer.status_code, "5,000,000 bytes" in answer.json()["error"]["message"]) == (413, True)
    assert post(writer, "bulk-delete/", [row["sku"] for row in rows[:1000]]).json()["deleted"] == 1000
    assert not Product.objects.exists()


@pytest.mark.parametrize("address", ["bulk/", "bulk-delete/"])
@pytest.mark.parametrize("body", ["", "{", "{}", "null", "5", '"A"', '{"products": {}, "skus": "A"}'])
def test_a_body_without_a_list_is_refused(writer, address, body):
    answer = post(writer, address, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "parse_error")


def test_deleting_names_what_was_not_there(writer):
    make_product(sku="A")
    answer = post(writer, "bulk-delete/", {"skus": ["A", "B", "A", "B"]})
    jsonschema.validate(answer.json(), find_shape("BulkDeleteResponse"))
    assert answer.json() == {"deleted": 1, "not_found": ["B"]}
    wrong = post(writer, "bulk-delete/", {"skus": ["A", 5]})
    assert wrong.json()["error"]["fields"] == {"skus": ["Item 2 is 5, expected a text."]}


# --- the search follows -------------------------------------------------------------------------------


def test_every_write_is_queued_for_the_search(writer):
    product = make_product(sku="A")
    PendingChange.objects.all().delete()
    put(writer, "A", {"title": "Green mug"})
    post(writer, "bulk/", [{"sku": "A", "title": "Blue mug"}])
    writer.delete(f"{ROOT}A/")
    assert PendingChange.objects.all().product_ids() == {product.pk}


def test_the_search_finds_what_was_put_and_forgets_what_was_deleted(client, writer, shop):
    def find(text: str) -> list[str]:
        return [hit["sku"] for hit in client.get("/api/v1/search/", {"q": text}).json()["hits"]]

    put(writer, "A", {"title": "Red ceramic mug"})
    put(writer, "B", {"title": "Steel kettle"})
    indexing.rebuild()
    put(writer, "A", {"title": "Brass table lamp"})
    post(writer, "bulk-delete/", ["B"])
    indexing.index_pending()
    assert find("lamp") == ["A"]
    assert find("steel kettle") == []
