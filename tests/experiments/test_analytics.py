"""What shoppers search for: sums by day, summaries, and the page that shows them."""

from __future__ import annotations

import csv
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from django.core.management import call_command
from django.utils import timezone

from experiments import analytics
from experiments.latencies import find_percentile, find_step
from experiments.models import Event, QueryDay, Reason, Refusal, SearchDay, SearcherDay, SearchLog, SearchSummary
from experiments.summaries import LEAST_RISE, find_rise
from tests.experiments.log_factories import log_event
from tests.experiments.log_factories import log_search as log_on_monday

pytestmark = pytest.mark.django_db


def log_search(text: str = "mug", client_id: str = "ada", *, days_ago: float = 0, after_s: float = 0, **facts: Any):
    """Return a search of a page with three products, since midnight so many days ago."""
    midnight = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days_ago)
    search = log_on_monday(client_id, "", **{"text": text, "user_query": text, "hit_skus": ["P1", "P2", "P3"]} | facts)
    search.timestamp = midnight + timedelta(seconds=after_s)
    search.save()
    return search


def summary(days: int = 28, *, with_simulated: bool = True) -> dict[str, Any]:
    analytics.refresh()
    content: dict[str, Any] = SearchSummary.objects.get(days=days, with_simulated=with_simulated).content
    return content


def texts(rows: list[dict[str, Any]]) -> list[str]:
    return [row["text"] for row in rows]


def test_searches_are_summed_over_the_period():
    search = log_search()
    log_event(search, "click", "P2", 2)
    log_event(search, "purchase", "P2", 2, value_cents=1250)
    log_search("mug", "bob", days_ago=1)
    log_search("unicorn", "ada", days_ago=2, total=0, hit_skus=[])
    log_search("", "ada", days_ago=3)
    log_search("old", "cleo", days_ago=7)
    assert summary(7)["totals"] == {
        "searches": 4, "browsed": 1, "visitors": 2, "clicked": 1, "zero": 1, "revenue_cents": 1250,
    }  # fmt: skip
    assert summary(28)["totals"]["visitors"] == 3


def test_queries_are_listed_by_what_became_of_them():
    for number in range(3):
        log_event(log_search("mug", f"v{number}"), "click")
    log_search("mugg", "v1", total=0, hit_skus=[])
    log_search("lamp", "v1", after_s=60)
    log_search("lamp", "v2", after_s=60)
    found = summary()
    assert texts(found["top"]) == ["mug", "lamp", "mugg"]
    assert texts(found["zero"]) == ["mugg"]
    assert texts(found["no_click"]) == ["lamp"]
    assert found["top"][0]["clicked"] == 3


def test_what_was_paid_in_another_currency_is_no_revenue_here():
    search = log_search("mug")
    log_event(search, "purchase", value_cents=500, currency="USD")
    log_event(search, "purchase", "P2", value_cents=500_000, currency="JPY")
    analytics.refresh()
    assert sum(SearchDay.objects.values_list("revenue_cents", flat=True)) == 500


def test_a_search_whose_product_was_added_is_no_typing():
    log_event(log_search("mug"), "add_to_cart")
    log_search("mug blue", after_s=2)
    analytics.refresh()
    assert sum(SearchDay.objects.values_list("searches", flat=True)) == 2


def test_a_query_rises_when_more_visitors_search_for_it_than_before():
    for number in range(20):
        log_search("mug", f"v{number}", days_ago=9)
        log_search("mug", f"v{number}", days_ago=2)
    for number in range(6):
        log_search("parasol", f"v{number}", days_ago=1)
    for number in range(50):
        log_search("lucky", "v1", days_ago=1, after_s=100 * number)
    assert texts(summary(7)["rising"]) == ["parasol"]


def test_nothing_rises_where_nothing_is_known_of_before():
    for number in range(10):
        log_search("mug", f"v{number}")
    found = summary(7)
    assert (found["rising"], found["before"]["searches"]) == ([], 0)


@pytest.mark.parametrize(("now", "before", "growth", "is_rising"), [
    (1, 0, 1.0, False), (3, 0, 1.0, False), (4, 0, 1.0, True), (200, 100, 1.0, True), (200, 100, 2.0, False),
    (110, 100, 1.0, False),
])  # fmt: skip
def test_a_rise_is_more_than_chance_and_than_that_of_all_queries(now, before, growth, is_rising):
    assert (find_rise(now, before, growth) >= LEAST_RISE) == is_rising


def test_clicks_by_position_are_of_searches_that_showed_it():
    first, second = log_search(), log_search("lamp", "bob")
    log_event(first, "impression", "P1", 1)
    log_event(second, "impression", "P1", 1)
    log_event(first, "click", "P1", 1)
    log_event(second, "click", "P3", 3)
    log_event(second, "click", "P9", 9)  # on a later page
    log_event(second, "click", "P2", 2, event_attributes={"is_narrowed": True})
    log_search("lamp", "cleo", query_attributes={"sort": "price"})
    assert summary()["positions"] == [
        {"position": 1, "shown": 2, "clicked": 1, "seen": 2, "seen_clicked": 1},
        {"position": 2, "shown": 2, "clicked": 0, "seen": 0, "seen_clicked": 0},
        {"position": 3, "shown": 2, "clicked": 1, "seen": 0, "seen_clicked": 0},
    ]


def test_latencies_are_told_by_day_within_five_percent():
    for number in range(100):
        log_search(f"q{number}", f"v{number}", latency_ms=10.0 if number < 90 else 200.0)
    [day] = summary()["days"]
    assert day["p50_ms"] == pytest.approx(10, rel=0.05)
    assert day["p95_ms"] == pytest.approx(200, rel=0.05)


def test_a_percentile_of_nothing_is_unknown():
    assert find_percentile({}, 0.5) is None
    assert find_percentile({find_step(0.0): 1}, 0.5) == pytest.approx(0.1, rel=0.1)


def test_typing_is_one_search_and_bots_are_none():
    for number, text in enumerate(("m", "mu", "mug")):
        log_search(text, after_s=number)
    log_search("scraped", "crawler", is_bot=True)
    assert texts(summary()["top"]) == ["mug"]


def test_searches_of_nobody_known_are_searches_all_the_same():
    log_search("m", "")
    log_search("mug", "", after_s=1)
    assert summary()["totals"]["searches"] == 2


def test_simulated_searches_can_be_left_out():
    log_search("mug", "ada")
    log_search("gizmo", "sim", is_simulated=True)
    assert texts(summary()["top"]) == ["gizmo", "mug"]
    assert texts(summary(with_simulated=False)["top"]) == ["mug"]
    assert summary(with_simulated=False)["simulated"]


def test_only_days_for_which_something_came_are_summed_again():
    search = log_search(days_ago=3)
    log_search(days_ago=1)
    assert analytics.refresh() == 2
    for table in (SearchLog, Event):
        table.objects.update(received_at=timezone.now() - timedelta(hours=1))
    assert analytics.refresh() == 0
    log_event(search, "purchase", value_cents=500)
    assert analytics.refresh() == 1
    assert sum(SearchDay.objects.values_list("revenue_cents", flat=True)) == 500
    assert SearchDay.objects.count() == 2


def test_days_older_than_events_are_kept_go(settings):
    log_search(days_ago=10)
    assert analytics.refresh() == 1
    settings.SEARCHSITE = settings.SEARCHSITE | {"EVENT_RETENTION_DAYS": 7}
    analytics.refresh()
    assert not SearchDay.objects.exists()
    assert not SearcherDay.objects.exists()


def test_an_erased_visitor_leaves_no_trace(log):
    log_search("mug", "bob")
    log_search("my very own name", "ada")
    analytics.refresh()
    call_command("erase_visitor", "ada", stdout=StringIO())
    assert set(SearcherDay.objects.values_list("client_id", flat=True)) == {"bob"}
    assert set(QueryDay.objects.values_list("text", flat=True)) == {"mug"}
    assert texts(SearchSummary.objects.get(days=28, with_simulated=True).content["top"]) == ["mug"]


def test_what_was_simulated_and_is_removed_counts_no_more(log):
    call_command("remove_simulated", stdout=StringIO())
    assert not SearchSummary.objects.exists()
    log_search("mug")
    log_search("kettle", "simulated-1", is_simulated=True)
    before = summary()
    call_command("remove_simulated", stdout=StringIO())
    after = SearchSummary.objects.get(days=28, with_simulated=True).content
    assert [(each["totals"]["searches"], each["simulated"]) for each in (before, after)] == [(2, True), (1, False)]
    assert texts(after["top"]) == ["mug"]


@pytest.fixture
def analyst(client):
    """A browser of somebody who may read reports and nothing else."""
    reader = User.objects.create_user("reader")
    reader.user_permissions.add(Permission.objects.get(codename="view_report"))
    client.force_login(reader)
    return client


def see(analyst, address: str = "/reports/searches/") -> str:
    response = analyst.get(address)
    assert response.status_code == 200
    return str(response.content.decode())


def read_csv(analyst, table: str, asked: str = "") -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(see(analyst, f"/reports/searches/{table}.csv{asked}"))))


def test_the_page_is_for_who_may_read_reports(client):
    assert client.get("/reports/searches/").url.startswith("/reports/login/")
    client.force_login(User.objects.create_user("clerk"))
    assert client.get("/reports/searches/").status_code == 403
    assert client.get("/reports/searches/top.csv").status_code == 403


def test_the_page_says_that_nothing_was_summed_up_or_searched(analyst):
    assert "have not been summed up yet" in see(analyst)
    analytics.refresh()
    assert "Nobody has searched in this period." in see(analyst)


def test_the_page_shows_what_was_searched_and_links_each_query(analyst):
    search = log_search("mugs & cups")
    log_event(search, "impression", "P1", 1)
    log_event(search, "click", "P1", 1)
    log_event(search, "purchase", "P1", 1, value_cents=123_450)
    log_search("unicorn", total=0, hit_skus=[], after_s=60)
    Refusal.objects.add({Reason.FORGED: 3})
    analytics.refresh()
    page = see(analyst)
    assert '<a href="/search/?q=mugs%20%26%20cups">mugs &amp; cups</a>' in page
    assert "$1,234.50" in page
    assert "a reference not signed here, or of another product" in page
    assert page.count("<svg viewBox") == 2
    assert "Nothing was refused" not in page
    assert "Simulated" not in page


def test_the_period_is_chosen_in_the_address(analyst):
    log_search("mug")
    log_search("lamp", days_ago=20)
    analytics.refresh()
    assert "lamp" not in see(analyst, "/reports/searches/?days=7")
    assert "lamp" in see(analyst, "/reports/searches/?days=28")
    wrong = see(analyst, "/reports/searches/?days=<b>")
    assert "There is no period of &#x27;&lt;b&gt;&#x27; days, choose one below." in wrong
    assert "lamp" in wrong


def test_simulated_searches_are_told_of_and_left_out_on_request(analyst):
    log_search("mug")
    log_search("gizmo", "sim", is_simulated=True)
    analytics.refresh()
    assert "Simulated visitors are among those counted." in see(analyst)
    without = see(analyst, "/reports/searches/?simulated=0")
    assert "Simulated visitors are left out." in without
    assert "gizmo" not in without
    assert 'href="/reports/searches/top.csv?days=28&amp;simulated=0"' in without


def test_each_table_is_a_csv_of_plain_values(analyst):
    search = log_search("mug")
    log_event(search, "click", "P2", 2)
    Refusal.objects.add({Reason.DUPLICATE: 2})
    analytics.refresh()
    [top] = read_csv(analyst, "top", "?days=7")
    assert (top["text"], top["searches"], top["click_share"]) == ("mug", "1", "1.0")
    assert [row["click_share"] for row in read_csv(analyst, "positions")] == ["0.0", "1.0", "0.0"]
    assert read_csv(analyst, "refused")[0]["reason"] == "duplicate"
    assert len(read_csv(analyst, "days")) == 1
    for table in ("rising", "zero", "no_click"):
        assert read_csv(analyst, table) == []
    assert analyst.get("/reports/searches/passwords.csv").status_code == 404


def test_a_spreadsheet_runs_nothing_that_was_typed(analyst):
    log_search('=HYPERLINK("https://example.com")')
    analytics.refresh()
    assert read_csv(analyst, "top")[0]["text"] == """'=HYPERLINK("https://example.com")"""


def test_the_page_needs_few_queries_of_the_database(analyst, django_assert_max_num_queries):
    for number in range(40):
        log_search(f"query {number}", f"v{number}", days_ago=number)
    analytics.refresh()
    with django_assert_max_num_queries(7):
        see(analyst, "/reports/searches/?days=90")


def test_one_process_sums_up_at_a_time():
    log_search()
    cache.add(analytics.LOCK, 1, 60)
    try:
        assert analytics.refresh() == 0
    finally:
        cache.delete(analytics.LOCK)
    assert analytics.refresh() == 1


def test_the_newest_day_stands_first(analyst):
    log_search(days_ago=3)
    log_search()
    analytics.refresh()
    days = [row["day"] for row in read_csv(analyst, "days")]
    assert days == sorted(days, reverse=True)
    assert len(days) == 2
