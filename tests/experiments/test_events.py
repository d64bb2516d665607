"""What is recorded of searches and clicks, what is ignored and counted, and what one search is."""

from __future__ import annotations

import re
import time
import uuid
from html import unescape
from typing import Any

import pytest
from django.test import Client

from experiments import events
from experiments.events import Action, find_query_id, flush_recorded, record_event, record_impressions
from experiments.keystrokes import TypedSearch, collapse_keystrokes
from experiments.models import Event, Reason, Refusal, SearchLog
from experiments.references import Reference, read, sign
from experiments.visitors import ShopVisitor
from retrieval.engine.types import Filters, Query, Results, Sort
from tests.factories import make_product

ADA, BOB = ShopVisitor("ada"), ShopVisitor("bob")
QUERY_ID = str(uuid.UUID(int=7))
LINK = re.compile(r'href="(/product/[^"]+)"')


def refused() -> dict[str, int]:
    return dict(Refusal.objects.values_list("reason", "count"))


def refer(visitor: ShopVisitor = ADA, sku: str = "A1", position: int = 1, *, is_narrowed: bool = False) -> str:
    return sign(Reference(QUERY_ID, sku, position, is_narrowed), visitor)


@pytest.fixture
def mugs(log):
    for number in range(30):
        make_product(f"Red mug {number}", sku=f"M{number}", price_cents=1000 + number, category="Kitchen > Mugs")


def find_links(client: Client, address: str = "/search/", **parameters: Any) -> list[str]:
    """Return the links of a results page to its products."""
    answer = client.get(address, parameters)
    assert answer.status_code == 200
    return list(map(unescape, LINK.findall(answer.content.decode())))


def test_a_config_of_a_long_name_is_logged_by_its_first_hundred_characters(log):
    events.record_search(ADA, Query("mug"), Results((), 0, config_name="x" * 300), [])
    flush_recorded()
    assert SearchLog.objects.get().config_name == "x" * 100


# --- events -------------------------------------------------------------------------------------------


def test_an_event_is_written_with_all_that_was_told(log):
    reference = read(refer(position=3, is_narrowed=True))
    record_event(
        ADA,
        Action.PURCHASE,
        sku="A1",
        reference=reference,
        quantity=2,
        value_cents=1998,
        currency="EUR",
        event_id="o-1",
    )
    assert flush_recorded() == 1
    event = Event.objects.get()
    assert (event.action_name, event.object_id, event.client_id, event.event_id) == ("purchase", "A1", "ada", "o-1")
    assert (event.query_id, event.position, event.application) == (QUERY_ID, 3, "shop")
    assert (event.quantity, event.value_cents, event.currency) == (2, 1998, "EUR")
    assert event.event_attributes == {"is_narrowed": True}
    assert abs((event.received_at - event.timestamp).total_seconds()) < 60


def test_an_event_told_twice_counts_once(log):
    for _ in range(3):
        record_event(ADA, Action.PURCHASE, sku="A1", event_id="o-1")
    assert flush_recorded() == 1
    assert refused() == {Reason.DUPLICATE: 2}


def test_events_without_an_id_are_different_ones(log):
    for _ in range(3):
        record_event(ADA, Action.ADD_TO_CART, sku="A1")
    assert flush_recorded() == 3


def test_a_purchase_counts_without_its_search_when_that_was_another_visitors_or_too_long_ago(log):
    old = Reference(QUERY_ID, "A1", 1, signed_at=1.0)
    for reference in (read(refer(BOB)), old):
        record_event(ADA, Action.PURCHASE, sku="A1", reference=reference)
    flush_recorded()
    assert list(Event.objects.values_list("query_id", "position")) == [(None, None)] * 2
    assert refused() == {Reason.FOREIGN: 1, Reason.EXPIRED: 1}


def test_recording_never_raises(log, caplog):
    record_event(ADA, "stare", sku="A1")
    assert "was not recorded" in caplog.text
    assert flush_recorded() == 0


def test_nothing_is_recorded_of_who_is_not_logged(log, settings):
    record_event(ShopVisitor("ada", is_logged=False), Action.CLICK, sku="A1")
    settings.SEARCHSITE = settings.SEARCHSITE | {"EVENTS": False}
    record_event(ADA, Action.CLICK, sku="A1")
    events.record_click(ADA, refer(), "A1")
    assert flush_recorded() == 0


# --- clicks and impressions ---------------------------------------------------------------------------


def test_a_click_on_a_result_is_recorded_without_javascript(client, mugs):
    links = find_links(client, q="red mug", page=2)
    assert client.get(links[2]).status_code == 200
    flush_recorded()
    event, search = Event.objects.get(), SearchLog.objects.get()
    assert (event.action_name, event.position, event.event_attributes) == ("click", 27, {})
    assert (event.query_id, event.client_id) == (search.query_id, search.client_id)
    assert f"/product/{event.object_id}/" in links[2]


def test_a_page_loaded_again_is_no_second_click(client, mugs):
    link = find_links(client, q="red mug")[0]
    for _ in range(3):
        client.get(link)
    client.get(find_links(client, q="red mug")[0])  # signed anew, but the same result of the same search
    flush_recorded()
    assert Event.objects.count() == 1
    assert refused() == {Reason.DUPLICATE: 3}


def test_a_click_in_a_narrowed_list_is_told_apart(client, mugs):
    client.get(find_links(client, q="red mug")[0])
    client.get(find_links(client, q="red mug", sort="price_asc")[0])
    client.get(find_links(client, q="red mug", price_min=10)[0])
    flush_recorded()
    assert SearchLog.objects.count() == 1
    marks = Event.objects.order_by("pk").values_list("event_attributes", flat=True)
    assert sorted(marks, key=len)[0] == {}
    assert all(mark == {"is_narrowed": True} for mark in sorted(marks, key=len)[1:])


def test_a_link_passed_on_to_others_is_their_visit_and_not_their_click(client, mugs):
    link = find_links(client, q="red mug")[0]
    assert Client().get(link).status_code == 200
    flush_recorded()
    assert not Event.objects.exists()
    assert refused() == {Reason.FOREIGN: 1}


def test_forged_links_show_the_product_and_count_as_forged(client, mugs):
    link = find_links(client, q="red mug")[0]
    path, _, reference = link.partition("?ref=")
    other = next(found for found in find_links(client, q="red mug") if not found.startswith(path))
    forged = (f"{path}?ref=A", f"{path}?ref={reference[:-6]}AAAAAA", f"{other.partition('?')[0]}?ref={reference}")
    for address in forged:
        assert client.get(address).status_code == 200
    flush_recorded()
    assert not Event.objects.exists()
    assert refused() == {Reason.FORGED: 3}


def test_a_click_long_after_the_search_is_not_put_down_to_it(client, mugs, settings, monkeypatch):
    link = find_links(client, q="red mug")[0]
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 25 * 3600)
    client.get(link)
    flush_recorded()
    assert not Event.objects.exists()
    assert refused() == {Reason.EXPIRED: 1}


def test_who_is_not_logged_may_follow_any_link(client, mugs):
    link = find_links(client, q="red mug")[0]
    for address in (link, f"{link}A"):
        assert Client().get(address, headers={"Sec-GPC": "1"}).status_code == 200
    flush_recorded()
    assert (Event.objects.count(), refused()) == (0, {})


def test_the_product_page_keeps_its_own_address(client, mugs):
    link = find_links(client, q="red mug")[0]
    canonical = f'<link rel="canonical" href="{link.partition("?")[0]}">'
    assert canonical in client.get(link).content.decode()


def test_a_product_that_is_gone_is_no_click(client, mugs):
    link = find_links(client, q="red mug")[0]
    assert client.get(link.replace("/product/M", "/product/X")).status_code == 404
    client.head(link)
    flush_recorded()
    assert not Event.objects.exists()


def test_what_was_seen_is_an_impression_once(client, mugs):
    links = find_links(client, q="red mug")
    seen = " ".join(link.partition("ref=")[2] for link in links[:3])
    for body in (seen, seen, ""):
        answer = client.post("/seen/", body, content_type="text/plain")
        assert (answer.status_code, answer.content) == (204, b"")
    flush_recorded()
    assert list(Event.objects.order_by("position").values_list("action_name", "position")) == [
        ("impression", 1), ("impression", 2), ("impression", 3)
    ]  # fmt: skip
    assert refused() == {}  # every page loaded again repeats them


def test_forged_and_borrowed_sights_are_counted(client, mugs):
    seen = find_links(client, q="red mug")[0].partition("ref=")[2]
    Client().post("/seen/", seen, content_type="text/plain")
    client.post("/seen/", "nonsense \x00 é", content_type="text/plain")
    flush_recorded()
    assert not Event.objects.exists()
    assert refused() == {Reason.FOREIGN: 1, Reason.FORGED: 3}


def test_a_beacon_is_bounded_and_posted(client, mugs):
    assert client.get("/seen/").status_code == 405
    assert client.post("/seen/", "x" * 70_000, content_type="text/plain").status_code == 413
    assert Client(enforce_csrf_checks=True).post("/seen/", "", content_type="text/plain").status_code == 204


def test_a_beacon_of_ten_megabytes_is_refused_with_the_reason_and_the_next_one_taken(client, mugs):
    seen = find_links(client, q="red mug")[0].partition("ref=")[2]
    answer = client.post("/seen/", seen + " " * 10_000_000, content_type="text/plain")
    assert (answer.status_code, answer.content) == (413, b"More than 64,000 bytes.")
    assert client.post("/seen/", seen, content_type="text/plain").status_code == 204
    assert flush_recorded() == 2
    assert (Event.objects.get().action_name, refused()) == ("impression", {})


@pytest.mark.parametrize("headers", [{"DNT": "1"}, {"Sec-GPC": "1"}])
def test_a_beacon_of_who_opted_out_is_not_read(client, mugs, headers):
    seen = find_links(client, q="red mug")[0].partition("ref=")[2]
    client.post("/seen/", seen, content_type="text/plain", headers=headers)
    flush_recorded()
    assert (Event.objects.count(), refused()) == (0, {})


def test_impressions_are_counted_as_they_are_sound(log):
    assert record_impressions(ADA, [refer(), refer(sku="B2"), refer(BOB), "x"]) == 2


# --- searches -----------------------------------------------------------------------------------------


def test_a_search_is_recorded_with_what_it_showed(client, mugs):
    client.get("/search/", {"q": "  Red MUG "}, headers={"User-Agent": "Firefox"})
    flush_recorded()
    search = SearchLog.objects.get()
    assert (search.user_query, search.text, search.total, search.page_size) == ("Red MUG", "red mug", 30, 24)
    assert (search.config_name, search.application, search.variant) == ("database", "shop", "")
    assert search.hit_skus[:2] == ["M0", "M1"]
    assert len(search.hit_skus) == 24
    assert search.latency_ms is not None
    assert "reduced mode" in search.notice
    assert search.query_attributes == {}


def test_a_search_is_recorded_once_however_often_its_page_changes(client, mugs):
    swaps: list[dict[str, Any]] = [
        {},
        {"sort": "price_asc"},
        {"page": 2},
        {"price_min": 10},
        {"brand": "x"},
        {"in_stock": 1},
        {"page": 1},
    ]
    for swap in swaps * 3:
        for headers in ({}, {"HX-Request": "true"}):
            client.get("/search/", {"q": "red mug", **swap}, headers=headers)
    flush_recorded()
    assert list(SearchLog.objects.values_list("text", flat=True)) == ["red mug"]
    assert refused() == {}


def test_another_question_or_visitor_is_another_search(client, mugs):
    client.get("/search/", {"q": "red mug"})
    client.get("/search/", {"q": "RED  mug"})
    client.get("/search/", {"q": "red mug", "verbatim": 1})
    client.get("/search/", {"q": "mug"})
    client.get("/search/", {"category": "kitchen/mugs"})
    client.get("/search/", {"category": "kitchen/mugs", "page": 2})
    client.get("/search/", {"category": "kitchen"})
    Client().get("/search/", {"q": "red mug"})
    flush_recorded()
    texts = sorted(SearchLog.objects.values_list("text", flat=True))
    assert texts == ["", "", "mug", "red mug", "red mug", "red mug"]


def test_a_narrowed_search_says_how(client, mugs):
    client.get("/search/", {"q": "mug", "brand": "x", "attr.Colour": "Red", "sort": "rating", "page": 2, "in_stock": 1})
    flush_recorded()
    search = SearchLog.objects.get()
    assert search.query_attributes == {
        "brands": ["x"], "attributes": {"Colour": ["Red"]}, "sort": "rating", "page": 2, "in_stock": True
    }  # fmt: skip
    assert search.hit_skus == []  # the first page was not shown


def test_a_search_goes_on_over_the_half_hour_while_its_page_shows_it(log):
    query, narrowed = Query("mug"), Query("mug", Filters(brands=("x",)), sort=Sort.RATING, page=3)
    first = find_query_id(ADA, query, "champion", 1800 * 100 - 1)
    assert find_query_id(ADA, narrowed, "champion", 1800 * 99) == first
    assert find_query_id(ADA, query, "champion", 1800 * 100) != first
    on_its_page = ShopVisitor("ada", shown=first)
    assert find_query_id(on_its_page, narrowed, "champion", 1800 * 100) == first
    assert find_query_id(on_its_page, Query("pot"), "champion", 1800 * 100) != first
    assert find_query_id(on_its_page, query, "challenger", 1800 * 100) != first
    assert find_query_id(ShopVisitor("bob", shown=first), query, "champion", 1800 * 100) != first
    assert find_query_id(on_its_page, query, "champion", 1800 * 101) != first


def test_the_results_tell_htmx_which_search_they_show(client, mugs):
    html = client.get("/search/", {"q": "red mug"}).content.decode()
    flush_recorded()
    query_id = SearchLog.objects.get().query_id
    assert f'hx-headers=\'{{"X-Query-Id": "{query_id}"}}\'' in html


def test_the_api_records_a_search_of_a_visitor_it_is_told_of(client, mugs):
    answer = client.get("/api/v1/search/", {"q": "red mug", "client_id": "app-1"}).json()
    assert client.get("/api/v1/search/", {"q": "pot"}).json()["query_id"] is None
    flush_recorded()
    search = SearchLog.objects.get()
    assert (search.query_id, search.client_id, search.application) == (answer["query_id"], "app-1", "api")
    reference = read(answer["hits"][4]["ref"])
    assert (reference.query_id, reference.position) == (answer["query_id"], 5)
    assert reference.is_of(ShopVisitor("app-1"))


def test_hits_without_a_recorded_search_have_no_reference(client, mugs):
    answer = client.get("/api/v1/search/", {"q": "red mug", "client_id": "app-1"}, headers={"DNT": "1"}).json()
    assert answer["query_id"] is None
    assert "ref" not in answer["hits"][0]
    assert client.get("/api/v1/search/", {"q": "a", "client_id": "x" * 101}).status_code == 400


def test_suggestions_are_no_searches(client, mugs):
    for text in ("r", "re", "red"):
        client.get("/suggest/", {"q": text})
        client.get("/api/v1/suggest/", {"q": text})
    assert flush_recorded() == 0


# --- keystrokes ---------------------------------------------------------------------------------------


def typed(*texts: str, gap_s: float = 0.3, clicked: tuple[int, ...] = ()) -> dict[str, str]:
    """Return what becomes of searches for these texts, by the texts' places."""
    searches = [TypedSearch(str(n), text, n * gap_s, n in clicked) for n, text in enumerate(texts)]
    return collapse_keystrokes(searches)


def test_a_word_typed_key_by_key_is_one_search():
    assert typed("m", "mu", "mug") == {"0": "2", "1": "2"}


def test_taking_a_letter_back_is_still_typing():
    assert typed("red mug", "red mu", "red mugs") == {"0": "2", "1": "2"}


def test_words_that_do_not_go_on_from_each_other_are_searches():
    assert typed("red mug", "pot", "pots") == {"1": "2"}


def test_a_pause_or_a_click_makes_a_search():
    assert typed("mug", "mugs", gap_s=5.1) == {}
    assert typed("mug", "mugs", gap_s=5.0) == {"0": "1"}
    assert typed("mug", "mugs", clicked=(0,)) == {}
    assert typed("mug", "mugs", clicked=(1,)) == {"0": "1"}


def test_browsing_is_no_typing():
    assert typed("", "mug", "") == {}
    assert typed() == {}
