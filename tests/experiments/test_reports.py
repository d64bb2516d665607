"""Reports of experiments."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from experiments import control
from experiments.analysis import compare_all, draw_sample
from experiments.cumulative import BEFORE, SUMS, collect
from experiments.models import Experiment, StoredReport, VisitorDay
from experiments.preference import prefer
from experiments.reports import make_report, refresh, refresh_running
from experiments.verdicts import GAINS, Facts, say
from tests.experiments.log_factories import MONDAY, log_event, log_search, make_experiment

pytestmark = pytest.mark.django_db


def fill(experiment: Experiment, rates: dict[str, float], visitors: int = 2000, days: int = 4, **facts: float) -> None:
    """Add visitors of one day each; `rates`: how many of a variant's buy, everything else alike."""
    rng = np.random.default_rng(1)
    rows = [
        VisitorDay(
            experiment=experiment, variant=variant, client_id=f"{variant}-{number}", searches=2, clicked_searches=1,
            clicks=1, purchases=int(rng.random() < rate), day=MONDAY.date().replace(day=2 + number % days), **facts,
        )
        for variant, rate in rates.items()
        for number in range(visitors)
    ]  # fmt: skip
    VisitorDay.objects.bulk_create(rows)


def report(experiment: Experiment) -> dict[str, Any]:
    return make_report(experiment)[0]


def test_a_better_variant_is_said_to_sell_more():
    experiment = make_experiment()
    fill(experiment, {"a": 0.10, "b": 0.20})
    found = report(experiment)
    assert found["state"] == "winner"
    assert found["sentence"].startswith("b sells more: +")
    assert found["sentence"].endswith("safe to stop.")
    assert found["visitors"] == {"a": 2000, "b": 2000}


def test_a_worse_variant_is_said_to_be_worse():
    experiment = make_experiment()
    fill(experiment, {"a": 0.20, "b": 0.10})
    assert report(experiment)["sentence"].startswith("b is worse in visitors who buy: -")


def test_alike_variants_tell_how_long_to_go():
    experiment = make_experiment()
    fill(experiment, {"a": 0.10, "b": 0.10}, visitors=500)
    found = report(experiment)
    assert found["state"] == "not yet"
    assert "days to go" in found["sentence"]


def test_the_time_left_is_that_of_the_interval_that_decides():
    days = []
    for name, variants in [("two", "ab"), ("four", "abcd")]:
        experiment = make_experiment(name, *variants)
        fill(experiment, dict.fromkeys(variants, 0.10), visitors=500)
        days.append(int(report(experiment)["sentence"].split(" days to go")[0].split()[-1].replace(",", "")))
    assert days[1] > 1.1 * days[0]


def test_an_interval_within_what_is_worth_finding_is_an_answer():
    experiment = make_experiment(metric="ctr", worthwhile_lift=0.5)
    fill(experiment, {"a": 0.1, "b": 0.1})
    VisitorDay.objects.filter(client_id__endswith="7").update(clicked_searches=0)
    found = report(experiment)
    assert found["state"] == "equal"
    assert "b is as good as the champion" in found["sentence"]


def test_a_wrong_split_blanks_the_result():
    experiment = make_experiment()
    fill(experiment, {"a": 0.10}, visitors=2000)
    fill(experiment, {"b": 0.30}, visitors=1000)
    found = report(experiment)
    assert (found["state"], found["ratio"]["is_broken"]) == ("broken", True)
    assert found["sentence"].startswith("Broken: sample ratio mismatch.")
    assert (found["comparisons"], found["funnel"], found["days"][0]["lifts"]) == ([], {}, {})
    assert found["guardrails"] == {}


def test_a_split_that_is_off_at_one_look_only_is_warned_of():
    experiment = make_experiment()
    fill(experiment, {"a": 0.10}, visitors=1000)
    fill(experiment, {"b": 0.10}, visitors=1170)
    found = report(experiment)
    assert (found["ratio"]["is_alarm"], found["ratio"]["is_broken"]) == (True, False)
    assert "the split of visitors looks wrong" in found["sentence"]
    assert found["comparisons"]


def test_without_visitors_the_report_says_so():
    found = report(make_experiment())
    assert found["state"] == "no visitors"
    assert found["sentence"].startswith("Not yet: ")
    assert found["days"] == []


def test_the_days_add_up_visitors_and_narrow_the_interval():
    experiment = make_experiment()
    fill(experiment, {"a": 0.2, "b": 0.2}, days=3)
    days = report(experiment)["days"]
    assert [sum(day["visitors"].values()) for day in days] == [1334, 2668, 4000]
    widths = [day["lifts"]["b"][2] - day["lifts"]["b"][1] for day in days]
    assert widths == sorted(widths, reverse=True)


def test_a_visitor_of_two_days_is_one_visitor():
    days = collect([("a", "v1", 1, *[1] * len(SUMS)), ("a", "v1", 2, *[2] * len(SUMS))], ["a"])
    assert days.find_last()["a"]["searches"].tolist() == [3.0]
    assert [len(seen["a"]["searches"]) for _, seen in days.up_to_each_day()] == [1, 1]


def test_who_searches_as_no_shopper_does_is_left_out_and_counted():
    experiment = make_experiment()
    fill(experiment, {"a": 0.1, "b": 0.1}, visitors=300)
    VisitorDay.objects.filter(client_id="b-7").update(searches=5000, purchases=5000)
    VisitorDay.objects.filter(client_id="a-3").update(searches=10, clicks=110)
    found = report(experiment)
    assert (found["outliers"], found["programs"]) == ({"a": 0, "b": 1}, {"a": 1, "b": 0})
    assert found["visitors"] == {"a": 299, "b": 299}


def test_revenue_of_one_visitor_does_not_decide():
    arms = {
        name: {column: np.ones(400) for column in SUMS} | {"revenue_cents": np.full(400, 100.0)} for name in ("a", "b")
    }
    arms["b"]["revenue_cents"][0] = 1e9
    sample = draw_sample(arms)
    [revenue] = [one for one in compare_all(sample, "a", ["b"]) if one.metric == "revenue"]
    assert revenue.variant_value == pytest.approx(100.0, rel=0.01)


def test_what_visitors_brought_along_from_before_is_taken_out_of_the_noise():
    experiment = make_experiment(metric="purchases")
    rng = np.random.default_rng(2)
    rows = []
    for variant in ("a", "b"):
        for number in range(1000):
            habit = float(rng.poisson(3))
            facts = {"experiment": experiment, "client_id": f"{variant}-{number}", "searches": 1}
            rows.append(VisitorDay(variant=variant, day=MONDAY.date(), purchases=int(habit + rng.poisson(1)), **facts))
            day_before = MONDAY.date().replace(day=1)
            rows.append(VisitorDay(variant=BEFORE, day=day_before, purchases=int(habit), **facts))
    VisitorDay.objects.bulk_create(rows)
    [with_past] = [one for one in report(experiment)["comparisons"] if one["metric"] == "purchases"]
    assert with_past["variance_cut"] == pytest.approx(0.75, abs=0.05)  # 3 of a variance of 4 is habit
    VisitorDay.objects.filter(variant=BEFORE).delete()
    [without] = [one for one in report(experiment)["comparisons"] if one["metric"] == "purchases"]
    assert without["variance_cut"] == 0
    narrow, wide = (one["interval"]["high"] - one["interval"]["low"] for one in (with_past, without))
    assert narrow == pytest.approx(wide / 2, rel=0.1)
    assert len(report(experiment)["days"]) == 1


def test_the_funnel_counts_visitors():
    experiment = make_experiment()
    search = log_search("v1", "ranking:b")
    log_event(search, "click")
    log_event(search, "click", "P2", 2)
    log_search("v2", "ranking:b")
    found = refresh(experiment).content
    assert found["funnel"]["b"] == {"searched": 2, "clicked": 1, "added": 0, "bought": 0}


def test_a_variant_that_does_harm_stops_itself_and_says_why():
    experiment = make_experiment()
    for number in range(300):
        log_search(f"a{number}", "ranking:a")
        log_search(f"b{number}", "ranking:b", total=0)
    refresh(experiment)
    stopped = Experiment.objects.get()
    assert stopped.status == Experiment.Status.STOPPED
    assert "guardrail zero_results: worse than the champion by more than 0.05" in stopped.stop_reason
    again = refresh(stopped).content
    assert "b was stopped: guardrail zero_results" in again["sentence"]


@pytest.mark.parametrize(("latency_ms", "is_stopped"), [(450.0, True), (105.0, False)])
def test_a_variant_that_keeps_shoppers_waiting_is_stopped_and_a_few_ms_are_no_harm(latency_ms, is_stopped):
    experiment = make_experiment()
    times = {"a": [20.0] * 19 + [30.0], "b": [20.0] * 17 + [latency_ms - 5.0] * 2 + [latency_ms]}
    for variant, latencies in times.items():
        for number in range(1200):
            took = latencies[number % 20]
            log_search(f"{variant}{number // 2}", f"ranking:{variant}", latency_ms=took)
    found = refresh(experiment).content
    assert found["slow_ms"] == 100.0
    assert (Experiment.objects.get().status == Experiment.Status.STOPPED) == is_stopped
    assert ("guardrail slow" in Experiment.objects.get().stop_reason) == is_stopped


def test_a_broken_split_stops_nothing_by_itself():
    experiment = make_experiment()
    for number in range(600):
        log_search(f"a{number}", "ranking:a")
    for number in range(60):
        log_search(f"b{number}", "ranking:b", total=0)
    refresh(experiment)
    assert Experiment.objects.get().is_running


def test_the_report_is_kept_and_made_anew():
    experiment = make_experiment()
    log_search("v1")
    refresh(experiment)
    log_search("v2", "ranking:b")
    refresh(experiment)
    assert StoredReport.objects.get().content["visitors"] == {"a": 1, "b": 1}


def test_interleaving_says_which_ranking_visitors_prefer():
    found = prefer(np.array([1.0] * 120 + [-2.0] * 40 + [0.0] * 500), "a", "b")
    assert (found.state, found.wins, found.losses, found.ties) == ("winner", 120, 40, 500)
    assert found.sentence.startswith("Visitors prefer b: +12.1 % of visitors")


def test_interleaving_of_visitors_who_all_chose_alike_is_not_yet():
    found = prefer(np.array([1.0, 1.0, 3.0]), "a", "b")
    assert (found.state, found.wins, found.low) == ("not yet", 3, None)


def test_a_report_that_cannot_be_made_keeps_no_other_from_its_guardrails(caplog):
    make_experiment("hopeless", "a").variants.all().delete()
    experiment = make_experiment()
    for number in range(300):
        log_search(f"a{number}", "ranking:a")
        log_search(f"b{number}", "ranking:b", total=0)
    assert refresh_running() == 1
    assert "the report of experiment hopeless was not made" in caplog.text
    experiment.refresh_from_db()
    assert experiment.status == Experiment.Status.STOPPED


def test_a_stopped_variant_is_not_the_answer():
    experiment = make_experiment("ranking", "a", "b", "c")
    fill(experiment, {"a": 0.10, "b": 0.30, "c": 0.10}, visitors=500)
    experiment.variants.filter(name="b").update(stopped_at=MONDAY, stop_reason="guardrail revenue")
    sentence = report(experiment)["sentence"]
    assert "c" in sentence.split(":")[1]
    assert sentence.startswith("Not yet: ")
    assert sentence.endswith("b was stopped: guardrail revenue.")


def test_who_came_after_a_stop_is_assigned_and_dilutes_nothing():
    experiment = make_experiment("ranking", "a", "b", "c")
    for number in range(60):
        for variant in "abc":
            log_event(log_search(f"{variant}{number}", f"ranking:{variant}"), "purchase")
            log_search(f"late-{variant}{number}", f"ranking:{variant}", day=1)
    experiment.variants.filter(name="b").update(stopped_at=MONDAY + timedelta(hours=12), stop_reason="guardrail slow")
    found = refresh(experiment).content
    bought = {one["variant"]: one["variant_value"] for one in found["comparisons"] if one["metric"] == "conversion"}
    assert bought == {"b": 1.0, "c": 0.5}
    assert (found["visitors"]["b"], found["late"]) == (60, {"a": 0, "b": 60, "c": 0})
    assert found["ratio"]["observed"] == [120, 120, 120]
    assert found["stopped"] == {"b": "guardrail slow"}


def test_a_new_start_forgets_the_run_before(monkeypatch):
    monkeypatch.setattr(control, "make_plan", lambda config: None)
    experiment = make_experiment()
    fill(experiment, {"a": 0.1, "b": 0.1}, visitors=10)
    refresh(experiment)
    control.stop(experiment, "to mend it")
    control.start(experiment)
    assert not VisitorDay.objects.exists()
    assert not StoredReport.objects.exists()


def test_interleaving_without_choices_is_not_yet():
    assert prefer(np.zeros(10), "a", "b").state == "no visitors"


def test_a_report_without_variants_to_compare_says_so():
    assert say(Facts("conversion", 0.05, False, [], 0, {})).state == "no visitors"


@pytest.mark.parametrize(
    ("metric", "column", "value"),
    [
        ("ctr", "clicked_searches", 1), ("add_rate", "adds", 1), ("conversion", "purchases", 1),
        ("purchases", "purchases", 2), ("revenue", "revenue_cents", 900), ("click_rr", "click_rr", 0.5),
        ("zero_results", "zero_searches", 1), ("abandoned", "abandoned_searches", 1),
    ],
)  # fmt: skip
def test_every_metric_can_decide(metric, column, value):
    experiment = make_experiment(metric=metric)
    better, worse = ("b", "a") if metric not in ("zero_results", "abandoned") else ("a", "b")
    fill(experiment, {"a": 0.0, "b": 0.0}, visitors=200)
    VisitorDay.objects.update(clicked_searches=0)
    often, seldom = VisitorDay.objects.filter(variant=better), VisitorDay.objects.filter(variant=worse)
    often.exclude(client_id__endswith="7").update(**{column: value})
    seldom.filter(client_id__endswith="7").update(**{column: value})
    found = report(experiment)
    assert found["state"] == "winner"
    assert found["sentence"].startswith(f"b {GAINS[metric]}: ")
