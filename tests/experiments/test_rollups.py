"""From the event log to visitors' days."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.db.models import Sum
from django.utils import timezone

from experiments import analytics, control, rollups
from experiments.cumulative import BEFORE
from experiments.latencies import FIRST_SEARCHES
from experiments.models import Event, Experiment, SearchDay, SearcherDay, SearchLog, StoredReport, VisitorDay
from experiments.models.reports import VisitorDayQuerySet
from experiments.retention import erase, prune
from experiments.revenue import MOST_CENTS
from experiments.rollups import credit_teams, find_variant, roll_up
from experiments.signals import visitor_erased
from tests.experiments.log_factories import MONDAY, log_event, log_search, make_experiment
from tests.searchsite.test_orders import file_database  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db


def day_of(client_id: str, **facts: object) -> VisitorDay:
    return VisitorDay.objects.get(client_id=client_id, **facts)


def test_what_a_visitor_did_is_summed():
    experiment = make_experiment()
    first = log_search("v1")
    for position, action in [(3, "click"), (2, "click"), (2, "add_to_cart"), (None, "impression")]:
        log_event(first, action, f"P{position}", position)
    log_event(first, "purchase", "P2", 2, value_cents=1250)
    log_search("v1", total=0)
    log_search("v1", latency_ms=800.0, notice="The index is being rebuilt.")
    assert roll_up(experiment) == 1
    row = day_of("v1")
    assert (row.variant, row.searches, row.clicked_searches, row.clicks) == ("a", 3, 1, 2)
    assert (row.zero_searches, row.abandoned_searches, row.degraded_searches) == (1, 1, 1)
    assert (row.impressions, row.adds, row.purchases, row.revenue_cents) == (1, 1, 1, 1250)
    assert row.click_rr == pytest.approx(1 / 2)


def log_latencies(experiment: Experiment, variant: str, latencies_ms: list[float], first: datetime = MONDAY) -> None:
    """Log a search a minute, of visitors with 10 each."""
    SearchLog.objects.bulk_create(
        SearchLog(
            query_id=f"{variant}{first:%d}-{number}", client_id=f"{variant}{number // 10}", text=f"{number}", total=3,
            variant=f"{experiment.name}:{variant}", timestamp=first + timedelta(minutes=number), latency_ms=latency_ms,
        )
        for number, latency_ms in enumerate(latencies_ms)
    )  # fmt: skip


def count_slow() -> dict[str, int]:
    rows = VisitorDay.objects.values("variant").annotate(slow=Sum("slow_searches"))
    return {row["variant"]: row["slow"] for row in rows}


def test_slow_is_what_the_champions_first_searches_hardly_are():
    experiment = make_experiment()
    log_latencies(experiment, "a", [200.0] * 460 + [300.0] * 15 + [900.0] * 24)
    log_latencies(experiment, "b", [301.0] * 50)
    roll_up(experiment)
    assert count_slow() == {"a": 0, "b": 0}  # nobody knows yet
    log_latencies(experiment, "a", [900.0] + [10.0] * 50, first=MONDAY + timedelta(days=1))
    roll_up(experiment)
    assert StoredReport.objects.get().slow_ms == 300.0
    assert count_slow() == {"a": 25, "b": 50}  # the day before is counted anew
    roll_up(experiment)
    assert StoredReport.objects.get().slow_ms == 300.0


def test_what_feels_instantaneous_is_never_slow():
    experiment = make_experiment()
    log_latencies(experiment, "a", [8.0] * FIRST_SEARCHES)
    log_latencies(experiment, "b", [60.0, 99.0, 101.0])
    roll_up(experiment)
    assert StoredReport.objects.get().slow_ms == 100.0
    assert count_slow() == {"a": 0, "b": 1}


def test_each_visitor_has_one_row_a_day():
    experiment = make_experiment()
    for day in (0, 0, 1):
        log_search("v1", day=day)
    log_search("v2", "other:x ranking:b")
    assert roll_up(experiment) == 2
    assert sorted(VisitorDay.objects.values_list("client_id", "variant", "searches")) == [
        ("v1", "a", 1), ("v1", "a", 2), ("v2", "b", 1),
    ]  # fmt: skip


def test_only_days_for_which_something_came_are_summed_again():
    experiment = make_experiment()
    old = log_search("v1", day=0)
    log_search("v2", day=1)
    roll_up(experiment)
    for table in (SearchLog, Event):
        table.objects.update(received_at=timezone.now() - timedelta(hours=1))
    assert roll_up(experiment) == 0
    log_event(old, "purchase", value_cents=500)
    assert roll_up(experiment) == 1
    assert day_of("v1").revenue_cents == 500
    assert VisitorDay.objects.count() == 2


def test_summing_twice_counts_nothing_twice():
    experiment = make_experiment()
    log_event(log_search("v1"), "click")
    roll_up(experiment)
    StoredReport.objects.update(rolled_up_to=None)
    roll_up(experiment)
    assert (day_of("v1").searches, day_of("v1").clicks) == (1, 1)


def test_bots_other_experiments_and_searches_before_the_start_are_left_out():
    experiment = make_experiment()
    log_search("bot", is_bot=True)
    log_search("v1", "ranking-two:a")
    log_search("v2", day=-1)
    log_search("v3", "")
    roll_up(experiment)
    assert not VisitorDay.objects.exclude(variant=BEFORE).exists()


def test_what_visitors_did_in_the_weeks_before_is_kept_once():
    experiment = make_experiment()
    log_event(log_search("v1", "", day=-3), "click")
    log_search("v1", "", day=-40)
    log_search("v1", "ranking:b")
    roll_up(experiment)
    past = day_of("v1", variant=BEFORE)
    assert (past.searches, past.clicked_searches, past.day) == (1, 1, MONDAY.date() - timedelta(days=1))
    log_search("v2", "", day=-2)
    roll_up(experiment)
    assert VisitorDay.objects.filter(variant=BEFORE).count() == 1


def test_an_experiment_made_to_begin_earlier_keeps_what_visitors_did_before():
    experiment = make_experiment()
    log_event(log_search("v1", "", day=-3), "click")
    log_search("v1", "ranking:b")
    roll_up(experiment)
    experiment.started_at = MONDAY - timedelta(days=2)
    experiment.save()
    log_search("v1", "ranking:b", day=-1)  # on the day that keeps the past
    roll_up(experiment)
    rows = VisitorDay.objects.order_by("variant", "day").values_list("variant", "day", "searches", "clicks")
    day = MONDAY.date()
    before = day - timedelta(days=1)
    assert list(rows) == [(BEFORE, before, 1, 1), ("b", before, 1, 0), ("b", day, 1, 0)]


def test_revenue_that_somebody_makes_up_stops_no_roll_up():
    experiment = make_experiment()
    search = log_search("v1")
    for _ in range(1200):
        log_event(search, "purchase", value_cents=2**53)
    roll_up(experiment)
    assert day_of("v1").revenue_cents == MOST_CENTS
    assert analytics.refresh() == 1
    assert SearchDay.objects.get().revenue_cents == MOST_CENTS


def test_stopping_waits_for_no_roll_up(shared_log, monkeypatch):
    experiment, threads = make_experiment(), []
    log_search("v1")
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    bulk_create = VisitorDayQuerySet.bulk_create

    def stop_meanwhile(self, rows, **options):
        bulk_create(self, rows, **options)
        threads.append(run_beside(lambda: control.stop(experiment, "a bad day")))
        threads[0].join(5)
        assert not threads[0].is_alive()

    monkeypatch.setattr(VisitorDayQuerySet, "bulk_create", stop_meanwhile)
    roll_up(experiment)
    assert Experiment.objects.get().stop_reason == "a bad day"


def test_an_experiment_that_never_ran_has_no_days():
    log_search("v1")
    assert roll_up(make_experiment(running=False)) == 0


@pytest.mark.parametrize(
    ("label", "variant"), [("ranking:b", "b"), ("x:y ranking:b", "b"), ("ranking-two:b", ""), ("", "")]
)
def test_a_label_names_the_variant_of_each_experiment(label, variant):
    assert find_variant(label, "ranking") == variant


def test_an_interleaved_search_is_won_by_what_was_chosen():
    teams = {"P1": "a", "P2": "b", "P3": "b", "P4": "neither"}
    assert credit_teams(teams, [("P2", "click")]) == 1
    assert credit_teams(teams, [("P1", "click"), ("P2", "click")]) == 0
    assert credit_teams(teams, [("P1", "purchase"), ("P2", "click"), ("P3", "click")]) == -1
    assert credit_teams(teams, [("P4", "purchase"), ("gone", "click"), ("P2", "seen")]) == 0


def test_interleaved_searches_are_summed_as_wins_less_losses():
    experiment = make_experiment(kind=Experiment.Kind.INTERLEAVING)
    shown = {"teams": {"P1": "a", "P2": "b"}}
    for sku in ("P2", "P2", "P1"):
        log_event(log_search("v1", "ranking:interleaved", query_attributes=shown), "click", sku)
    roll_up(experiment)
    assert day_of("v1").net_wins == 1


def test_what_is_done_after_a_variants_stop_is_not_its_own():
    experiment = make_experiment()
    early = log_search("v1", "ranking:b")
    for client_id in ("v1", "v2"):
        log_event(log_search(client_id, "ranking:b", day=1, is_simulated=True), "click")
    log_event(log_search("v3", "ranking:a", day=1), "click")
    experiment.variants.filter(name="b").update(stopped_at=MONDAY + timedelta(hours=1))
    log_event(early, "purchase", value_cents=900)  # of what the variant showed
    roll_up(experiment)
    sums = {
        (row.client_id, row.day.day): (row.searches, row.clicks, row.revenue_cents, row.is_simulated)
        for row in VisitorDay.objects.all()
    }
    late = (0, 0, 0, True)
    assert sums == {("v1", 2): (1, 0, 900, False), ("v1", 3): late, ("v2", 3): late, ("v3", 3): (1, 1, 0, False)}


def test_a_search_at_every_key_is_one_search():
    experiment = make_experiment()
    for second, text in enumerate(["m", "mu", "mug", "mug"]):
        search = log_search("v1", text=text)
        SearchLog.objects.filter(pk=search.pk).update(timestamp=MONDAY + timedelta(seconds=second))
    later = log_search("v1", text="kettle")
    SearchLog.objects.filter(pk=later.pk).update(timestamp=MONDAY + timedelta(minutes=1))
    roll_up(experiment)
    assert day_of("v1").searches == 2


def test_what_was_paid_in_another_currency_is_no_revenue_here():
    experiment = make_experiment()
    search = log_search("v1")
    log_event(search, "purchase", value_cents=500, currency="USD")
    log_event(search, "purchase", "P2", value_cents=500_000, currency="JPY")
    roll_up(experiment)
    assert (day_of("v1").purchases, day_of("v1").revenue_cents) == (2, 500)


def test_a_search_whose_product_was_added_is_no_typing():
    experiment = make_experiment()
    log_event(log_search("v1", text="mug"), "add_to_cart")
    log_search("v1", text="mug blue")
    roll_up(experiment)
    assert (day_of("v1").searches, day_of("v1").adds) == (2, 1)


def test_what_was_done_after_the_start_is_no_past():
    experiment = make_experiment()
    before = log_search("v1", "", day=-1)
    log_event(before, "click")
    log_event(before, "purchase", value_cents=500)
    Event.objects.filter(action_name="purchase").update(timestamp=MONDAY)
    roll_up(experiment)
    assert (day_of("v1").clicks, day_of("v1").purchases) == (1, 0)


@pytest.fixture
def shared_log(file_database, tmp_path, settings):  # noqa: F811
    """An event log that threads may read and write."""
    settings.DATA_DIR = tmp_path


def run_beside(job: Callable[[], object]) -> threading.Thread:
    """Run a job in a thread, and return that when the job is done, or waits for the transaction that is open here."""

    def run() -> None:
        try:
            job()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(0.5)
    return thread


@pytest.mark.parametrize(("module", "of_visitors"), [(rollups, VisitorDay), (analytics, SearcherDay)])
@pytest.mark.parametrize("is_erased_first", [True, False])
def test_who_is_erased_while_a_day_is_summed_up_does_not_come_back(
    module, of_visitors, is_erased_first, monkeypatch, shared_log
):
    experiment, threads = make_experiment(), []
    for client_id in ("ada", "bob"):
        log_search(client_id)
    SearchLog.objects.update(timestamp=timezone.now())
    Experiment.objects.update(started_at=timezone.now() - timedelta(hours=12))
    experiment.refresh_from_db()
    sum_day = module.sum_day

    def sum_up() -> object:
        return roll_up(experiment) if module is rollups else analytics.refresh()

    def sum_slowly(*asked: object) -> object:
        sums = sum_day(*asked)
        sums = sums if isinstance(sums, dict) else list(sums)
        if not is_erased_first:
            threads.append(run_beside(lambda: erase("ada")))
        return sums

    def erase_slowly(**facts: object) -> dict[str, int]:
        if is_erased_first:
            threads.append(run_beside(sum_up))
        return {}

    monkeypatch.setattr(module, "sum_day", sum_slowly)
    visitor_erased.connect(erase_slowly)
    try:
        erase("ada") if is_erased_first else sum_up()
    finally:
        visitor_erased.disconnect(erase_slowly)
    for thread in threads:
        thread.join()
    assert set(of_visitors.objects.values_list("client_id", flat=True)) == {"bob"}


def test_days_are_those_of_utc():
    experiment = make_experiment()
    search = log_search("v1")
    SearchLog.objects.filter(pk=search.pk).update(timestamp=MONDAY.replace(hour=23, minute=59))
    roll_up(experiment)
    assert day_of("v1").day == MONDAY.date()


def test_days_of_what_has_ended_are_kept_no_longer_than_events():
    running, ended = make_experiment(), make_experiment("ended")
    Experiment.objects.filter(pk=ended.pk).update(status=Experiment.Status.STOPPED)
    for experiment in (running, ended):
        VisitorDay.objects.create(experiment=experiment, variant="a", client_id="v1", day=MONDAY.date())
    prune(timedelta(days=1))
    assert [row.experiment for row in VisitorDay.objects.all()] == [running]
