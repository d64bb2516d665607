"""Simulated shoppers in the real shop: what they leave in the log, in experiments, and after they are removed."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from catalog.models import Product
from experiments.control import start
from experiments.events import flush_recorded, record_search
from experiments.models import Event, Experiment, SearchLog, Variant, VisitorDay
from experiments.reports import refresh
from experiments.serving import forget_running
from experiments.shoppers import Population, ShopperModel
from experiments.visitors import ShopVisitor
from retrieval.engine.types import EngineError, Query
from retrieval.evaluation.judgements import JudgementsError
from retrieval.models import JudgementSet
from searchsite.search import search_products
from searchsite.simulated_truth import Truth, read_truth
from searchsite.simulation import Plan, SimulationError, backdate, remove_simulated, simulate_shoppers

UNTIL = datetime(2026, 3, 8, 12, tzinfo=UTC)
REDS = Truth(
    ("ceramic mug", "red mug"),
    ({f"MUG/{n} %": 1.0 for n in range(0, 30, 3)}, {f"MUG/{n} %": 0.5 for n in range(1, 30, 2)}),
)
EAGER = ShopperModel(eta=0.3, click=(0.05, 0.4, 0.6, 0.9), add=(0.5, 0.6, 0.7, 0.9), purchase=(0.5, 0.6, 0.7, 0.9))
SHORT = Population(searches_sigma=0.3, bot_share=0.05, bot_searches=10)


def make_plan(visitors: int = 20, seed: int = 1, **facts) -> Plan:
    usual: dict[str, Any] = {"days": 4.0, "until": UNTIL, "model": EAGER, "population": SHORT}
    return Plan(visitors, seed, **usual | facts)


def make_experiment(**facts) -> Experiment:
    experiment = Experiment.objects.create(name="words", **facts)
    Variant.objects.create(experiment=experiment, name="own", is_champion=True)
    Variant.objects.create(experiment=experiment, name="words", changes={"fusion": "lexical"})
    start(experiment)
    forget_running()
    return Experiment.objects.get(pk=experiment.pk)


def read_log() -> list[tuple[Any, ...]]:
    searches = SearchLog.objects.order_by("query_id").values_list("query_id", "timestamp", "text", "hit_skus")
    events = Event.objects.order_by("event_id").values_list("event_id", "timestamp", "object_id", "value_cents")
    return [*searches, *events]


def test_all_that_is_simulated_is_marked_and_happens_on_the_simulated_days(filled):
    done = simulate_shoppers(REDS, make_plan())
    assert done.total.visitors == 20
    assert done.total.searches == SearchLog.objects.filter(is_simulated=True).count() > 30
    assert not SearchLog.objects.filter(is_simulated=False).exists()
    assert not Event.objects.filter(is_simulated=False).exists()
    times = [row.timestamp for row in [*SearchLog.objects.all(), *Event.objects.all()]]
    assert UNTIL - timedelta(days=4) <= min(times) < max(times) < UNTIL
    assert {time.date().day for time in times} == {4, 5, 6, 7, 8}
    assert min(SearchLog.objects.values_list("received_at", flat=True)) > timezone.now() - timedelta(hours=1)


def test_what_is_bought_was_added_and_clicked_in_a_search_that_showed_it(filled):
    stock = list(Product.objects.values_list("stock", flat=True))
    done = simulate_shoppers(REDS, make_plan())
    shown = {search.query_id: search for search in SearchLog.objects.all()}
    found = {
        action: {(one.query_id, one.object_id) for one in Event.objects.filter(action_name=action)}
        for action in ("click", "add_to_cart", "purchase")
    }
    assert found["purchase"] < found["add_to_cart"] < found["click"]
    for event in Event.objects.all():
        assert event.query_id is not None
        assert event.position is not None
        search = shown[event.query_id]
        assert search.hit_skus[event.position - 1] == event.object_id
        assert search.client_id == event.client_id
        assert search.timestamp < event.timestamp
    prices = dict(Product.objects.values_list("sku", "price_cents"))
    assert done.total.revenue_cents == sum(prices[sku] or 0 for _, sku in found["purchase"]) > 0
    assert (done.total.clicks, done.total.adds) == (len(found["click"]), len(found["add_to_cart"]))
    assert list(Product.objects.values_list("stock", flat=True)) == stock


def test_the_same_plan_makes_the_same_log_and_once_only(filled):
    simulate_shoppers(REDS, make_plan())
    first = read_log()
    simulate_shoppers(REDS, make_plan())
    assert read_log() == first
    remove_simulated()
    assert read_log() == []
    simulate_shoppers(REDS, make_plan())
    assert read_log() == first
    remove_simulated()
    simulate_shoppers(REDS, make_plan(seed=2))
    assert read_log() != first


def test_visitors_see_the_variants_of_what_runs_and_its_report_says_they_were_simulated(filled):
    experiment = make_experiment()
    plan = make_plan(40)
    assert backdate(plan.since) == 1
    done = simulate_shoppers(REDS, plan)
    assert not done.notes
    assert set(done.variants["words"]) == {"own", "words"}
    assert sum(one.visitors for one in done.variants["words"].values()) == done.total.visitors
    assert sum(one.clicks for one in done.variants["words"].values()) == done.total.clicks
    experiment.refresh_from_db()
    content = refresh(experiment).content
    assert content["simulated"]
    kinds = ("visitors", "outliers", "programs")
    counted = {name: sum(content[kind][name] for kind in kinds) for name in ("own", "words")}
    assert counted == {name: one.visitors for name, one in done.variants["words"].items()}
    assert remove_simulated()["searches"] == done.total.searches
    assert not VisitorDay.objects.exists()
    experiment.report.refresh_from_db()
    assert sum(experiment.report.content["visitors"].values()) == 0


def test_interleaved_searches_are_credited(filled):
    make_experiment(kind=Experiment.Kind.INTERLEAVING)
    done = simulate_shoppers(REDS, make_plan(10))
    assert set(done.variants["words"]) == {"interleaved"}
    assert all(search.query_attributes["teams"] for search in SearchLog.objects.all())
    assert "with --backdate" in done.notes[0]


def test_removing_leaves_what_real_visitors_did_and_tells_the_rest(filled):
    visitor = ShopVisitor("somebody-real")
    page = search_products(Query("mug"), visitor)
    done = simulate_shoppers(REDS, make_plan(5))
    JudgementSet.objects.create(name="simulated clicks", source=JudgementSet.Source.CLICKS)
    JudgementSet.objects.create(name="ratings")
    with pytest.raises(JudgementsError, match="'ratings' is made of clicks, expected one of: simulated clicks"):
        remove_simulated(["ratings"])
    removed = remove_simulated(["simulated clicks"])
    assert removed["searches"] == done.total.searches
    assert removed["events"] == done.total.clicks + done.total.adds + done.total.purchases
    assert list(SearchLog.objects.values_list("query_id", "is_simulated")) == [(page.query_id, False)]
    assert list(JudgementSet.objects.values_list("name", flat=True)) == ["ratings"]


def test_what_is_recorded_after_a_simulation_is_real(filled):
    simulate_shoppers(REDS, make_plan(2))
    page = search_products(Query("mug"))
    query_id = record_search(ShopVisitor("real"), page.query, page.results, [])
    flush_recorded()
    search = SearchLog.objects.get(query_id=query_id)
    assert not search.is_simulated
    assert search.timestamp > timezone.now() - timedelta(hours=1)


def test_better_products_are_bought_more_and_programs_buy_nothing(filled):
    simulate_shoppers(REDS, make_plan(60))
    good = {sku for each in REDS.relevance for sku in each}
    bought = list(Event.objects.filter(action_name="purchase").values_list("object_id", flat=True))
    assert sum(sku in good for sku in bought) > 0.7 * len(bought)
    remove_simulated()
    only_bots = Population(bot_share=1.0, bot_searches=3)
    done = simulate_shoppers(REDS, make_plan(5, population=only_bots))
    assert done.total.clicks > 0
    assert done.total.adds == 0


def test_the_truth_is_the_sample_shops_own_or_that_of_files(filled, tmp_path):
    truth = read_truth("sample:1")
    assert len(truth.queries) == len(truth.relevance) > 20
    assert {1.0, 1 / 3} <= {value for each in truth.relevance for value in each.values()} <= {1.0, 2 / 3, 1 / 3}
    queries, qrels = tmp_path / "q.tsv", tmp_path / "r.tsv"
    queries.write_text("query_id\tquery\n1\tred mug\n2\tunicorn\n")
    qrels.write_text("query_id\tdoc_id\trelevance\n1\tMUG/1 %\t2\n1\tMUG/3 %\t1\n")
    assert read_truth(f"{queries},{qrels}") == Truth(("red mug", "unicorn"), ({"MUG/1 %": 1.0, "MUG/3 %": 0.5}, {}))
    with pytest.raises(JudgementsError, match="not the sample shop of seed 7"):
        read_truth("sample")
    for wrong in ("sample:x", "nothing", f"{queries},"):
        with pytest.raises(JudgementsError, match="expected sample, sample:SEED, or"):
            read_truth(wrong)


def test_nothing_is_simulated_where_nothing_would_come_of_it(shop, settings):
    with pytest.raises(EngineError, match=r"manage\.py reindex"):
        simulate_shoppers(REDS, make_plan())
    settings.SEARCHSITE = settings.SEARCHSITE | {"EVENTS": False}
    with pytest.raises(SimulationError, match="SEARCHSITE_EVENTS=1"):
        simulate_shoppers(REDS, make_plan())


def test_the_commands_tell_what_they_did(filled, capsys):
    make_experiment()
    arguments = ("--visitors", "3", "--seed", "1", "--truth", "sample:1", "--click-model", "cascade")
    call_command("simulate_shoppers", *arguments, "--backdate", "--days", "2")
    assert "words: " in capsys.readouterr().out  # whichever variant the three came into
    output = StringIO()
    call_command("simulate_shoppers", *arguments, "--json", stdout=output)
    told = json.loads(output.getvalue())
    assert told["visitors"] == 3
    assert sum(counts["searches"] for counts in told["variants"]["words"].values()) == told["searches"] > 0
    output = StringIO()
    call_command("remove_simulated", "--json", stdout=output)
    assert json.loads(output.getvalue())["searches"] >= told["searches"]
    call_command("remove_simulated")
    assert "0 searches" in capsys.readouterr().out
    for wrong in (
        ("--visitors", "0"),
        ("--seed", "-1"),
        ("--days", "0"),
        ("--days", "nan"),
        ("--bots", "1.1"),
        ("--truth", "x"),
    ):
        with pytest.raises(CommandError, match="expected"):
            call_command("simulate_shoppers", *arguments, *wrong)
    with pytest.raises(CommandError, match="no judgement set 'x'"):
        call_command("remove_simulated", "--judgements", "x")
