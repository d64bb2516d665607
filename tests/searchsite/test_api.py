"""The API: searching and suggesting, its errors, its limits, and that it keeps to its own description."""

from __future__ import annotations

from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from django.core.cache import caches
from django.core.management import call_command
from django.db import OperationalError
from django.test import Client
from drf_spectacular.generators import SchemaGenerator

from retrieval import indexing
from retrieval.models import PastQuery
from searchsite import api_search
from searchsite.models import ApiKey
from tests.factories import make_product

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_counts_left():
    caches["throttles"].clear()


@pytest.fixture
def mugs(shop):
    """Three products of a shop that has no index: searches are answered from the database."""
    make_product("Red ceramic mug", sku="A/1", brand="Potta", price_cents=900, rating=4.5, rating_count=12,
                 category="Kitchen > Mugs", attributes={"colour": "Red"}, image_url="/pictures/a.svg")  # fmt: skip
    make_product("Blue ceramic mug", sku="A 2%", brand="Potta", price_cents=1100, currency="EUR", stock=0,
                 category="Kitchen > Mugs", attributes={"colour": "Blue"}, popularity=5)  # fmt: skip
    make_product("Mug rack", sku="B1", brand="Wander", category="Kitchen > Racks")
    make_product("Old mug", sku="C1", active=False)


@pytest.fixture
def indexed_mugs(mugs):
    indexing.rebuild()


def get(client: Client, address: str, **parameters: Any) -> Any:
    answer = client.get(f"/api/v1/{address}", parameters)
    assert answer.status_code == 200, answer.content
    return answer.json()


def find_shape(name: str) -> dict[str, Any]:
    """Return the JSON schema of a component, strict: nothing undescribed may be in an answer."""
    schema = SchemaGenerator().get_schema(request=None, public=True)
    return {"$ref": f"#/components/schemas/{name}", "components": _to_strict(schema["components"])}


def _to_strict(part: Any) -> Any:
    """OpenAPI 3.0 says `nullable` where JSON Schema has the type null."""
    if isinstance(part, list):
        return [_to_strict(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    strict = {name: _to_strict(inner) for name, inner in part.items() if name != "nullable"}
    if strict.get("type") == "object" and "properties" in strict:
        strict["additionalProperties"] = False
    return {"anyOf": [strict, {"type": "null"}]} if part.get("nullable") is True else strict


# --- searching ----------------------------------------------------------------------------------------


def test_a_hit_has_all_that_a_result_list_shows(client, indexed_mugs):
    answer = get(client, "search/", q="red ceramic mug")
    hit = answer["hits"][0]
    assert hit.pop("score") > 0
    page = hit.pop("url")
    assert page.startswith("http://testserver/")
    assert page.endswith("/A%2F1/")
    assert hit == {
        "sku": "A/1",
        "title": "Red ceramic mug",
        "brand": "Potta",
        "price": {"amount": "9.00", "minor": 900, "currency": "USD"},
        "image_url": "http://testserver/pictures/a.svg",
        "rating": 4.5,
        "rating_count": 12,
        "in_stock": True,
        "category": {"name": "Mugs", "path": "kitchen/mugs"},
    }
    assert answer["query"]["searched_text"] == "red ceramic mug"
    assert (answer["notice"], answer["config"], answer["page"], answer["page_size"]) == (None, "hybrid-rerank", 1, 24)


def test_a_search_answers_as_described_and_says_where_its_time_went(client, indexed_mugs):
    answer = client.get("/api/v1/search/", {"q": "ceramc mug", "explain": "1", "sort": "price_asc"})
    jsonschema.validate(answer.json(), find_shape("SearchResponse"))
    assert answer.json()["query"] == {
        "text": "ceramc mug",
        "searched_text": "ceramic mug",
        "corrected_from": "ceramc mug",
        "suggestion": None,
    }
    assert answer.json()["hits"][0]["explanation"]["lexical_rank"] == 1
    assert "total;dur=" in answer["Server-Timing"]
    assert answer.json()["timings_ms"]["total"] > 0


def test_choosing_a_facet_value_shows_what_it_promised(client, indexed_mugs):
    facets = get(client, "search/", q="mug")["facets"]
    assert {facet["field"] for facet in facets} >= {"category", "brand", "price"}
    for facet in facets:
        for value in facet["values"]:
            chosen = {name: value[name] for name in ("price_min", "price_max") if value.get(name)}
            if facet["parameter"]:
                chosen = {facet["parameter"]: value["value"]}
            assert get(client, "search/", q="mug", **chosen)["total"] == value["count"], value
    assert "facets" not in get(client, "search/", q="mug", facets="0")


@pytest.mark.parametrize(
    ("parameters", "skus"),
    [
        ({"category": "kitchen/mugs"}, ["A 2%", "A/1"]),
        ({"brand": ["Wander", "Other"]}, ["B1"]),
        ({"price_min": "10"}, ["A 2%"]),
        ({"price_max": "9.00"}, ["A/1"]),
        ({"rating": "4"}, ["A/1"]),
        ({"in_stock": "1"}, ["A/1", "B1"]),
        ({"in_stock": "0"}, ["A 2%", "A/1", "B1"]),
        ({"attr.colour": ["Red", "Green"]}, ["A/1"]),
        ({"sort": "price_desc"}, ["A 2%", "A/1", "B1"]),
        ({"page_size": "1", "page": "3", "sort": "price_asc"}, ["B1"]),
        ({"page": "9999"}, []),
    ],
)
@pytest.mark.parametrize("is_indexed", [True, False])
def test_filters_sorts_and_pages_are_the_same_with_and_without_an_index(client, mugs, parameters, skus, is_indexed):
    if is_indexed:
        indexing.rebuild()
    answer = get(client, "search/", **parameters)
    assert bool(answer["notice"]) != is_indexed
    found = [hit["sku"] for hit in answer["hits"]]
    assert found == skus if "sort" in parameters else sorted(found) == skus


def test_without_an_index_the_answer_says_so_and_keeps_its_shape(client, mugs):
    answer = get(client, "search/", q="mug", explain="1")
    jsonschema.validate(answer, find_shape("SearchResponse"))
    assert (answer["config"], answer["total"], answer["page_count"]) == ("database", 3, 1)
    assert "reduced mode" in answer["notice"]


@pytest.mark.parametrize("config", ["lexical", "dense", "hybrid-rrf"])
def test_a_config_can_be_named(client, indexed_mugs, config):
    assert get(client, "search/", q="mug", config=config)["config"] == config


def test_a_search_asks_the_database_once_for_its_products(client, indexed_mugs, django_assert_num_queries):
    get(client, "search/", q="mug")
    with django_assert_num_queries(1):
        get(client, "search/", q="ceramic mug")


# --- what is asked wrongly ----------------------------------------------------------------------------

WRONG = [
    ("page", "0", "greater than or equal to 1"),
    ("page", "-1", "greater"),
    ("page", "x", "whole number"),
    ("page", "9" * 5000, ""),
    ("page_size", "101", "less than or equal to 100"),
    ("page_size", "1.5", "whole number"),
    ("price_min", "cheap", "number"),
    ("price_min", "-1", "greater"),
    ("price_max", "NaN", "number"),
    ("price_max", "1e999999999", "less"),
    ("rating", "6", "less than or equal to 5"),
    ("rating", "inf", "number"),
    ("sort", "best", "'best' is unknown, expected one of: relevance, price_asc"),
    ("config", "rff", "'rff' is unknown, expected one of: hybrid, lexical"),
    ("config", "../../etc", "unknown"),
    ("in_stock", "perhaps", "'perhaps' is no flag, expected 1 or 0"),
    ("explain", "<b>", "no flag"),
    ("facets", "2", "no flag"),
    ("verbatim", "😀", "no flag"),
    ("q", "a\x00b", "Null characters"),
    ("category", "x" * 701, "at most 700"),
    ("category", "\x00", "Null characters"),
    ("brand", "x" * 501, "at most 500"),
    ("brand", ["a\x00"], "no text"),
    ("brand", [str(number) for number in range(51)], "at most 50"),
]


@pytest.mark.parametrize(("name", "value", "words"), WRONG)
def test_a_wrong_parameter_is_named_with_the_cure(client, mugs, name, value, words):
    answer = client.get("/api/v1/search/", {name: value})
    assert answer.status_code == 400
    error = answer.json()["error"]
    jsonschema.validate(answer.json(), find_shape("Error"))
    assert (error["code"], list(error["fields"])) == ("invalid", [name])
    assert words in error["fields"][name][0]
    assert error["message"].startswith(f"{name}: ")


def test_the_lowest_price_must_not_be_above_the_highest(client, mugs):
    answer = client.get("/api/v1/search/", {"price_min": "10", "price_max": "5"})
    assert answer.json()["error"]["fields"] == {"price_max": ["The highest price, 5, is below the lowest, 10."]}


HOSTILE = ["", " ", "???", "😀", "'", '"', '"half', "'; DROP TABLE x; --", "<script>", "%", "_", "\\", "\ufffd",
           "\u202e", "a" * 10_000, "mug " * 2000, "1e400", "null", "[]", "{{7*7}}", "../..", "a\nb", "**"]  # fmt: skip


@pytest.mark.parametrize("is_indexed", [True, False])
def test_hostile_texts_get_an_answer(client, mugs, is_indexed):
    if is_indexed:
        indexing.rebuild()
    for text in HOSTILE:
        assert client.get("/api/v1/search/", {"q": text}).status_code == 200, text
        assert client.get("/api/v1/suggest/", {"q": text}).status_code == 200, text
        for name in ("category", "brand", "sort", "page", "page_size", "price_min", "rating", "in_stock", "config",
                     "attr.colour", f"attr.{text}", "attr.", "format", "limit", text):  # fmt: skip
            for address in ("search", "suggest"):
                answer = client.get(f"/api/v1/{address}/", {"q": "mug", name: text[:600]})
                assert answer.status_code in (200, 400, 404), (address, name, text)
                assert "error" in answer.json() or answer.status_code == 200


# --- suggesting ---------------------------------------------------------------------------------------


def test_suggestions_are_products_categories_and_past_queries(client, indexed_mugs):
    PastQuery.objects.record("mug tree", 3, {"ada", "bob", "cleo"})
    answer = get(client, "suggest/", q="mug", limit=2)
    jsonschema.validate(answer, find_shape("SuggestResponse"))
    assert len(answer["products"]) == 2
    assert answer["categories"] == [{"name": "Mugs", "path": "kitchen/mugs"}]
    assert answer["queries"] == ["mug tree"]


def test_nothing_typed_suggests_nothing(client, mugs):
    assert get(client, "suggest/") == {"products": [], "categories": [], "queries": []}


@pytest.mark.parametrize(("name", "value"), [("limit", "0"), ("limit", "21"), ("limit", "x"), ("q", "\x00")])
def test_a_wrong_parameter_of_suggest_is_named(client, mugs, name, value):
    answer = client.get("/api/v1/suggest/", {"q": "mug", name: value})
    assert (answer.status_code, list(answer.json()["error"]["fields"])) == (400, [name])


# --- errors, limits, description ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "address", "status", "code"),
    [
        ("get", "nothing/", 404, "not_found"),
        ("post", "nothing/at/all/", 404, "not_found"),
        ("post", "search/", 405, "method_not_allowed"),
        ("get", "search/?format=xml", 404, "not_found"),
        ("get", "products/X/", 404, "not_found"),
        ("patch", "products/X/", 401, "not_authenticated"),
    ],
)
def test_every_error_is_json(client, method, address, status, code):
    answer = getattr(client, method)(f"/api/v1/{address}")
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    jsonschema.validate(answer.json(), find_shape("Error"))


def test_what_nobody_expected_is_logged_and_told_as_json(client, mugs, monkeypatch, caplog):
    def fail(*args: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(api_search, "search_products", fail)
    answer = client.get("/api/v1/search/", {"q": "mug"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "server_error")
    assert b"secret detail" not in answer.content
    assert "secret detail" in caplog.text


def test_a_database_that_is_down_is_told_with_a_time_to_wait(client, mugs, monkeypatch):
    def fail(*args: object) -> None:
        raise OperationalError("database is locked")

    monkeypatch.setattr(api_search, "search_products", fail)
    answer = client.get("/api/v1/search/", {"q": "mug"})
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert answer.json()["error"]["code"] == "database_unavailable"


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_missing_slash_is_added_keeping_method_and_parameters(client, method):
    answer = getattr(client, method)("/api/v1/search?q=a%26b")
    assert (answer.status_code, answer["Location"]) == (308, "/api/v1/search/?q=a%26b")


@pytest.mark.parametrize(
    ("scope", "address"),
    [("search", "search/"), ("suggest", "suggest/"), ("search", "products/"), ("write", "products/X/")],
)
def test_who_asks_too_often_is_told_when_to_come_back(client, settings, mugs, scope, address):
    rates = settings.REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"] | {scope: "2/day"}
    settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {"DEFAULT_THROTTLE_RATES": rates}
    _, one = ApiKey.objects.create_key("one")
    _, other = ApiKey.objects.create_key("other")

    def ask(**sender: Any) -> Any:
        return (client.delete if scope == "write" else client.get)(f"/api/v1/{address}", **sender)

    mine = {"headers": {"authorization": f"Bearer {one}"}}
    assert 429 not in (ask(**mine).status_code, ask(**mine).status_code)
    answer = ask(**mine)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "throttled")
    assert 1 <= int(answer["Retry-After"]) <= 86_400
    assert ask(headers={"authorization": f"Bearer {other}"}).status_code != 429
    if scope != "write":
        assert [ask(REMOTE_ADDR="10.0.0.1").status_code for _ in range(3)] == [200, 200, 429]
        forged = {"REMOTE_ADDR": "10.0.0.1", "headers": {"x-forwarded-for": "10.9.9.9"}}
        assert ask(**forged).status_code == 429
        assert ask(REMOTE_ADDR="10.0.0.2").status_code == 200


def test_a_cache_that_is_down_limits_nobody(client, settings, mugs):
    down = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}
    settings.CACHES = settings.CACHES | {"throttles": down}
    assert get(client, "search/", q="mug")["total"] == 3


def test_the_description_is_valid_and_complete(capsys):
    call_command("spectacular", "--validate", "--fail-on-warn")
    described = capsys.readouterr().out
    for address in ("search/", "suggest/", "products/", "products/{sku}/", "products/bulk/", "products/bulk-delete/"):
        assert f"/api/v1/{address}:" in described
    assert "scheme: bearer" in described


def test_the_documentation_needs_nothing_from_elsewhere(client):
    page = client.get("/api/v1/", follow=True)
    assert page.status_code == 200
    text = page.content.decode()
    assert "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js" in text
    assert "https://" not in text
    assert client.get("/api/v1/schema/?format=json").json()["info"]["title"] == "Searchsite API"
