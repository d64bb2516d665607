"""Events over the API: what is taken, what is refused and why, and that sending again changes nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from django.core.cache import caches
from django.db import OperationalError, connection
from django.test import Client

from experiments.models import Event, Reason, Refusal, SearchLog
from experiments.references import Reference, sign
from experiments.visitors import ShopVisitor
from searchsite.models import ApiKey
from tests.factories import make_product
from tests.searchsite.test_api import find_shape
from tests.searchsite.test_orders import file_database, run_at_once  # noqa: F401 - a fixture

ADDRESS = "/api/v1/events/"
QUERY_ID = "00000000-0000-0000-0000-000000000007"


@pytest.fixture(autouse=True)
def _no_counts_left():
    caches["throttles"].clear()


@pytest.fixture
def writer(log) -> Client:
    """A client with a key that may write, and a shop with the product A1."""
    make_product(sku="A1")
    _, secret = ApiKey.objects.create_key("front end")
    return Client(headers={"authorization": f"Bearer {secret}"})


def make_event(**facts: Any) -> dict[str, Any]:
    return {
        "action_name": "click",
        "timestamp": datetime.now(UTC).isoformat(),
        "client_id": "ada",
        "query_id": "q1",
        "event_attributes": {"object": {"object_id": "A1"}, "position": {"ordinal": 3}},
    } | facts


def send(client: Client, body: object) -> Any:
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    return client.post(ADDRESS, content, "application/json")


def send_events(client: Client, *events: object) -> dict[str, Any]:
    answer = send(client, {"events": events})
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    jsonschema.validate(found, find_shape("Receipt"))
    return found


def refused() -> dict[str, int]:
    return dict(Refusal.objects.values_list("reason", "count"))


# --- what is taken ------------------------------------------------------------------------------------


def test_an_event_is_kept_with_all_it_says(writer):
    own = {"quantity": 2, "value_cents": 1998, "currency": "EUR", "colour": "red"}
    attributes = make_event()["event_attributes"] | own
    answer = send_events(
        writer, make_event(event_id="e1", event_attributes=attributes, application="app", session_id="s1", message="hi")
    )
    counts = {"accepted": 1, "unattributed": 0, "duplicates": 0, "refused": 0, "opted_out": 0}
    assert answer == counts | {"errors": []}
    event = Event.objects.get()
    assert (event.event_id, event.application, event.action_name, event.client_id) == ("e1", "app", "click", "ada")
    assert (event.query_id, event.object_id, event.position) == ("q1", "A1", 3)
    assert (event.quantity, event.value_cents, event.currency) == (2, 1998, "EUR")
    assert event.event_attributes == {"colour": "red"}
    assert event.extras == {"session_id": "s1", "message": "hi"}


def test_queries_come_in_beside_events(writer):
    query = {"query_id": "q1", "user_query": "Red  MUG", "client_id": "ada", "timestamp": make_event()["timestamp"],
             "query_response_hit_ids": ["A1", "B2"], "query_attributes": {"total": 2, "brand": "x"}}  # fmt: skip
    answer = send(writer, {"queries": [query, query], "events": [make_event()]}).json()
    assert (answer["accepted"], answer["duplicates"]) == (2, 1)
    search = SearchLog.objects.get()
    assert (search.user_query, search.text, search.total, search.hit_skus) == ("Red  MUG", "red mug", 2, ["A1", "B2"])
    assert search.query_attributes == {"brand": "x"}
    assert refused() == {}


def test_a_list_alone_is_one_of_events(writer):
    assert send(writer, [make_event()]).json()["accepted"] == 1


def test_events_go_by_their_id_and_else_by_all_they_say(writer):
    named, unnamed = make_event(event_id="e1"), make_event()
    assert send_events(writer, named, unnamed, named)["duplicates"] == 1
    again = send_events(writer, named, dict(reversed(unnamed.items())))
    assert (again["accepted"], again["duplicates"]) == (0, 2)
    assert send_events(writer, unnamed | {"action_name": "purchase"})["accepted"] == 1
    assert (Event.objects.count(), refused()) == (3, {Reason.DUPLICATE: 3})


def test_an_id_may_stand_among_the_attributes(writer):
    attributes = make_event()["event_attributes"] | {"event_id": "e1"}
    send_events(writer, make_event(event_attributes=attributes))
    assert Event.objects.get().event_id == "e1"


def test_a_time_without_an_offset_is_utc(writer):
    told = datetime.now(UTC).replace(microsecond=0)
    send_events(writer, make_event(timestamp=told.replace(tzinfo=None).isoformat()))
    assert Event.objects.get().timestamp == told


def test_a_reference_stands_for_query_product_and_position(writer):
    text = sign(Reference(QUERY_ID, "A1", 7, is_narrowed=True), ShopVisitor("ada"))
    told = {"action_name": "click", "timestamp": make_event()["timestamp"], "client_id": "ada", "ref": text}
    assert send_events(writer, told)["accepted"] == 1
    event = Event.objects.get()
    assert (event.query_id, event.object_id, event.position) == (QUERY_ID, "A1", 7)
    assert event.event_attributes == {"is_narrowed": True}


def refer(*, hours_ago: float = 0) -> str:
    """Return ada's reference to A1, signed so many hours ago."""
    with time_machine(hours_ago):
        return sign(Reference(QUERY_ID, "A1", 7), ShopVisitor("ada"))


@contextmanager
def time_machine(hours_ago: float) -> Iterator[None]:
    now = time.time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: now - hours_ago * 3600)
        yield


def make_time(hours_ago: float) -> str:
    return (datetime.now(UTC) - timedelta(hours=hours_ago)).isoformat()


def test_an_event_told_of_long_after_it_happened_keeps_the_search_it_came_of(writer):
    told = make_event(ref=refer(hours_ago=30), timestamp=make_time(29))
    assert send_events(writer, told)["unattributed"] == 0
    assert (Event.objects.get().query_id, refused()) == (QUERY_ID, {})


def test_an_event_long_after_its_search_counts_without_it(writer):
    SearchLog.objects.create(query_id="q1", client_id="ada", timestamp=make_time(600))
    late = [make_event(ref=refer(hours_ago=30), timestamp=make_time(5), event_id="e1"), make_event(event_id="e2")]
    found = send_events(writer, *late, make_event(timestamp=make_time(580), event_id="e3"))
    assert (found["accepted"], found["unattributed"], found["refused"]) == (3, 2, 0)
    assert list(Event.objects.order_by("event_id").values_list("query_id", "position")) == [
        (None, None), (None, None), ("q1", 3)
    ]  # fmt: skip
    assert refused() == {Reason.EXPIRED: 2}


def test_what_one_visitor_does_is_not_put_down_to_anothers_search(writer):
    SearchLog.objects.create(query_id="q1", client_id="ada", timestamp=make_time(1))
    SearchLog.objects.create(query_id="q2", timestamp=make_time(1))
    query = {"query_id": "q3", "user_query": "mug", "client_id": "ada", "timestamp": make_time(1)}
    events = [make_event(client_id="bob", query_id=f"q{number}") for number in (1, 2, 3, 4)]
    found = send(writer, {"queries": [query], "events": events}).json()
    assert (found["accepted"], found["unattributed"], refused()) == (5, 2, {Reason.FOREIGN: 2})
    assert set(Event.objects.values_list("query_id", flat=True)) == {None, "q2", "q4"}


def test_a_bad_reference_is_refused_and_counted(writer):
    text = sign(Reference(QUERY_ID, "A1", 7), ShopVisitor("bob"))
    found = send_events(writer, make_event(ref=text), make_event(ref="x"), make_event(ref=None, client_id=None))
    assert [error["field"] for error in found["errors"]] == ["ref"] * 3
    assert refused() == {Reason.FOREIGN: 1, Reason.FORGED: 2}


# --- what is refused ----------------------------------------------------------------------------------

WRONG = [
    ({"action_name": ""}, "action_name", "is missing"),
    ({"action_name": "x" * 101}, "action_name", "at most 100"),
    ({"action_name": {}}, "action_name", "expected a text"),
    ({"timestamp": None}, "timestamp", "ISO 8601"),
    ({"timestamp": "yesterday"}, "timestamp", "ISO 8601"),
    ({"timestamp": "2026-02-30T00:00:00Z"}, "timestamp", "ISO 8601"),
    ({"timestamp": 1767225600}, "timestamp", "ISO 8601"),
    ({"client_id": ""}, "client_id", "is missing"),
    ({"client_id": "x" * 101}, "client_id", "at most 100"),
    ({"query_id": ["q"]}, "query_id", "expected a text"),
    ({"event_id": "x" * 101}, "event_id", "at most 100"),
    ({"message": "x" * 1025}, "message", "at most 1024"),
    ({"event_attributes": []}, "event_attributes", "expected an object"),
    ({"event_attributes": {"object": {"object_id": "A1"}, "x": "y" * 10_000}}, "event_attributes", "at most 10,000"),
    ({"event_attributes": {}}, "event_attributes.object.object_id", "is missing"),
    ({"event_attributes": {"object": {"object_id": "A1"}, "position": {"ordinal": -1}}},
     "event_attributes.position.ordinal", "whole number from 0"),
    ({"event_attributes": {"object": {"object_id": "A1"}, "position": {"ordinal": 2**31}}},
     "event_attributes.position.ordinal", "whole number from 0"),
    ({"event_attributes": {"object": {"object_id": "A1"}, "quantity": True}}, "event_attributes.quantity", "whole"),
    ({"event_attributes": {"object": {"object_id": "A1"}, "value_cents": 1.5}}, "event_attributes.value_cents", "from"),
    ({"event_attributes": {"object": {"object_id": "A1"}, "value_cents": 10**12 + 1}}, "event_attributes.value_cents",
     "whole number from 0 to 1000000000000"),
    ({"event_attributes": {"object": {"object_id": "A1"}, "currency": "eur"}}, "event_attributes.currency", "capital"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "field", "words"), WRONG)
def test_a_wrong_field_is_named_and_the_others_are_taken(writer, change, field, words):
    found = send_events(writer, make_event(event_id="e1"), make_event(**change), make_event(event_id="e2"))
    assert (found["accepted"], found["refused"]) == (2, 1)
    error = next(error for error in found["errors"] if error["field"] == field)
    assert (error["list"], error["index"]) == ("events", 1)
    assert words in error["reason"]
    assert len(error["value"]) <= 100
    assert refused() == {Reason.MALFORMED: 1}


@pytest.mark.parametrize("value", [None, 1, "click", [], [[]], True])
def test_what_is_no_object_is_no_event(writer, value):
    found = send_events(writer, value, make_event())
    assert (found["accepted"], found["refused"], found["errors"][0]["index"]) == (1, 1, 0)
    assert "expected a JSON object" in found["errors"][0]["reason"]


def test_all_that_is_wrong_is_told_at_once(writer):
    found = send_events(writer, {})
    assert [error["field"] for error in found["errors"]] == ["action_name", "timestamp", "client_id"]
    assert (found["refused"], refused()) == (1, {Reason.MALFORMED: 1})


@pytest.mark.parametrize(("passed", "words"), [(timedelta(minutes=-6), "future"), (timedelta(days=31), "30 days")])
def test_a_clock_that_is_far_off_is_told(writer, passed, words):
    now = datetime.now(UTC)
    found = send_events(writer, make_event(timestamp=(now - passed).isoformat()), make_event())
    assert (found["accepted"], found["refused"]) == (1, 1)
    assert words in found["errors"][0]["reason"]
    assert refused() == {Reason.CLOCK_SKEW: 1}


@pytest.mark.parametrize(
    "value", ["1e400", "-1e400", "[1, [1e999]]", "[" * 900 + "]" * 900, '{"a":' * 900 + "1" + "}" * 900]
)
def test_what_no_database_keeps_is_refused_by_itself(writer, value):
    bad = json.dumps(make_event(event_attributes={"object": {"object_id": "A1"}, "x": "?"})).replace('"?"', value)
    good = [json.dumps(make_event(event_id=event_id)) for event_id in ("e1", "e2")]
    answer = send(writer, f'{{"events": [{good[0]}, {bad}, {good[1]}]}}')
    assert answer.status_code == 200, answer.content
    assert (answer.json()["accepted"], answer.json()["refused"]) == (2, 1)
    assert answer.json()["errors"][0]["index"] == 1
    assert refused() == {Reason.MALFORMED: 1}


@pytest.mark.parametrize("latency", ["1e400", "1" + "0" * 400, "-1", "true", '"3"'])
def test_a_latency_that_is_no_number_is_refused_by_itself(writer, latency):
    query = {"user_query": "mug", "client_id": "ada", "timestamp": make_event()["timestamp"]}
    bad = json.dumps(query | {"query_attributes": {"latency_ms": "?"}}).replace('"?"', latency)
    answer = send(writer, f'{{"queries": [{json.dumps(query)}, {bad}]}}').json()
    assert (answer["accepted"], answer["refused"], refused()) == (1, 1, {Reason.MALFORMED: 1})


def test_a_clock_that_is_a_little_off_does_not_matter(writer):
    now = datetime.now(UTC)
    ahead, behind = now + timedelta(minutes=4), now - timedelta(days=29)
    assert send_events(writer, *(make_event(timestamp=one.isoformat()) for one in (ahead, behind)))["accepted"] == 2


def test_unknown_products_are_refused_with_one_question_to_the_database(writer, django_assert_max_num_queries):
    unknown = [make_event(event_attributes={"object": {"object_id": f"X{number}"}}) for number in range(20)]
    with django_assert_max_num_queries(13):
        found = send_events(writer, *unknown, make_event())
    assert (found["accepted"], found["refused"]) == (1, 20)
    assert "no product has this SKU" in found["errors"][0]["reason"]
    assert refused() == {Reason.UNKNOWN_PRODUCT: 20}


def test_an_action_of_ones_own_needs_no_product(writer):
    assert send_events(writer, make_event(action_name="share", event_attributes={}))["accepted"] == 1


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("", 400, "no list"),
        ("{", 400, "not JSON"),
        ('{"events": [{"x": NaN}]}', 400, "NaN"),
        (b'{"events": "\xff"}', 400, "UTF-8"),
        ('["\\u0000"]', 400, "NUL"),
        ("[" * 100_000, 400, "nested"),
        ("{}", 400, "no list"),
        ('{"events": {}}', 400, "no list"),
        ('{"queries": 1}', 400, "no list"),
        ("1", 400, "no list"),
        ("null", 400, "no list"),
    ],
)
def test_a_body_that_is_none_is_told(writer, body, status, words):
    answer = send(writer, body)
    assert (answer.status_code, refused()) == (status, {})
    assert words in answer.json()["error"]["message"]


def test_a_body_of_ten_megabytes_is_refused(writer):
    answer = send(writer, json.dumps({"events": [make_event(message="x" * 10_000_000)]}))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    assert not Event.objects.exists()


def test_more_than_a_thousand_are_refused(writer):
    answer = send(writer, {"events": [{}] * 600, "queries": [{}] * 401})
    assert answer.status_code == 413
    assert "1,001 events and queries were sent" in answer.json()["error"]["message"]


# --- who may, how often, and when something is down ---------------------------------------------------


def test_only_who_may_write_may_send(log, client):
    _, secret = ApiKey.objects.create_key("reader", can_write=False)
    assert send(client, {"events": []}).status_code == 401
    assert send(Client(headers={"authorization": f"Bearer {secret}"}), {"events": []}).status_code == 403
    assert client.get(ADDRESS).status_code == 405


def test_a_shop_that_keeps_no_events_says_so(writer, settings):
    settings.SEARCHSITE = settings.SEARCHSITE | {"EVENTS": False}
    answer = send(writer, {"events": [make_event()]})
    assert answer.status_code == 403
    assert "SEARCHSITE_EVENTS is off" in answer.json()["error"]["message"]


@pytest.mark.parametrize("headers", [{"DNT": "1"}, {"Sec-GPC": "1"}])
def test_nothing_is_kept_of_who_asks_not_to_be_tracked_but_how_much_it_was(writer, headers):
    query = {"user_query": "mug", "client_id": "ada", "timestamp": make_time(0)}
    body = json.dumps({"events": [make_event(), {}], "queries": [query]})
    answer = writer.post(ADDRESS, body, "application/json", headers=headers)
    assert (answer.status_code, answer.json()["accepted"], answer.json()["opted_out"]) == (200, 0, 3)
    assert (Event.objects.count(), SearchLog.objects.count(), refused()) == (0, 0, {Reason.OPTED_OUT: 3})
    assert send_events(writer, make_event())["opted_out"] == 0


def test_events_have_a_rate_of_their_own(writer, settings):
    rates = settings.REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"]
    settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {"DEFAULT_THROTTLE_RATES": rates | {"events": "2/min"}}
    statuses = [send(writer, {"events": []}).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]


def test_a_database_that_is_down_is_told_and_nothing_counts_when_it_is_sent_again(writer):
    body = {"events": [make_event(), make_event(action_name="")]}

    def refuse(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "experiments_refusal" in sql:
            raise OperationalError("connection lost")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(refuse):
        answer = send(writer, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_unavailable")
    assert (Event.objects.count(), refused()) == (0, {})
    assert send(writer, body).json()["accepted"] == 1
    assert refused() == {Reason.MALFORMED: 1}


def test_senders_of_the_same_batch_count_each_event_once(file_database, tmp_path, settings):  # noqa: F811
    settings.DATA_DIR = tmp_path
    make_product(sku="A1")
    _, secret = ApiKey.objects.create_key("front end")
    events = [make_event(event_id=f"e{number}") for number in range(100)]
    answers: list[dict[str, Any]] = []

    def send_all() -> None:
        answers.append(send(Client(headers={"authorization": f"Bearer {secret}"}), {"events": events}).json())

    run_at_once(*[send_all] * 4)
    assert sum(answer["accepted"] for answer in answers) == Event.objects.count() == 100
    assert sum(answer["duplicates"] for answer in answers) == 300
    assert refused() == {Reason.DUPLICATE: 300}
