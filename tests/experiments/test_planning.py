"""How long an experiment will take: whether what is promised comes true, and what is told of too little."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from django.core.cache import cache
from django.urls import reverse
from django.utils import timezone

from experiments import analytics, forecasts
from experiments.analysis import METRICS
from experiments.cumulative import SUMS
from experiments.forecasts import look_ahead
from experiments.models import Event, Experiment, SearchLog
from experiments.planning import (
    Period,
    Question,
    count_visitors,
    count_visitors_to_prefer,
    find_lift,
    forecast,
    measure_visitors,
)
from experiments.stats.sequential import widen
from experiments.stats.sums import Arm, NotMeasurable
from tests.experiments.log_factories import make_experiment

PLANS = {metric.key: metric for metric in METRICS}
RUNS = 1_000  # of a simulated experiment: 0.8 is met within 0.04, three standard errors


@pytest.fixture(autouse=True)
def _nothing_kept():
    cache.clear()


def draw_sums(rng: np.random.Generator, shape: int | tuple[int, int], lift: float = 0.0) -> dict[str, np.ndarray]:
    """Return visitors' sums, shape (*shape,): searches, clicks that one visitor likes more than another, and sales."""
    searches = rng.geometric(0.5, shape)
    clicked = rng.binomial(searches, 0.6 * rng.beta(2, 4, shape) * (1 + lift))
    purchases = rng.binomial(1, 0.08 * (1 + lift), shape)
    return {"searches": searches, "clicked_searches": clicked, "purchases": purchases}


def look_at(rng: np.random.Generator, visitors: int) -> dict[str, np.ndarray]:
    """Return the sums of visitors as the log has them."""
    drawn = draw_sums(rng, visitors)
    return {name: np.asarray(drawn.get(name, np.zeros(visitors)), np.float64) for name in SUMS}


def measure(sums: dict[str, np.ndarray], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the value of each run and its squared standard error: buyers, or clicked searches over searches."""
    if metric == "conversion":
        share = sums["purchases"].mean(axis=1)
        return share, share * (1 - share) / sums["purchases"].shape[1]
    ratio = sums["clicked_searches"].sum(axis=1) / sums["searches"].sum(axis=1)
    spread = sums["clicked_searches"] - ratio[:, None] * sums["searches"]
    return ratio, spread.var(axis=1) / sums["searches"].mean(axis=1) ** 2 / spread.shape[1]


@pytest.mark.parametrize(("metric", "weights", "lift"), [
    ("conversion", (1.0, 1.0), 0.5),
    ("ctr", (1.0, 1.0), 0.2),
    ("ctr", (2.0, 1.0, 1.0), 0.3),
])  # fmt: skip
def test_the_promised_visitors_find_the_lift_in_four_of_five_experiments(metric, weights, lift):
    rng = np.random.default_rng(7)
    question = Question(PLANS[metric], lift, weights)
    visitors = count_visitors(question, measure_visitors(look_at(rng, 100_000), PLANS[metric]))
    n_champion, n_variant = (round(visitors * weight / sum(weights)) for weight in weights[:2])
    before, before_error = measure(draw_sums(rng, (RUNS, n_champion)), metric)
    after, after_error = measure(draw_sums(rng, (RUNS, n_variant), lift), metric)
    half = widen(4 / (1 / n_champion + 1 / n_variant), question.alpha) * np.sqrt(before_error + after_error)
    assert np.mean(after - before > half) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (8.0, 1.0), (2.0, 1.0, 1.0)])
@pytest.mark.parametrize("lift", [0.01, 0.3, 4.0])
def test_the_lift_of_so_many_visitors_is_the_one_that_takes_so_many(weights, lift):
    arm, question = Arm(1000, 0.1, 0.09, math.inf), Question(PLANS["conversion"], lift, weights)
    assert find_lift(question, arm, count_visitors(question, arm)) == pytest.approx(lift, rel=0.01)


def test_more_variants_and_uneven_weights_take_more_visitors():
    arm = Arm(1000, 0.1, 0.09, math.inf)
    counts = [
        count_visitors(Question(PLANS["conversion"], 0.1, weights), arm)
        for weights in [(1.0, 1.0), (4.0, 1.0), (1.0, 1.0, 1.0)]
    ]
    assert counts == sorted(counts)


def test_days_follow_from_the_visitors_who_take_part():
    arm = Arm(2800, 0.1, 0.09, math.inf)
    periods = [Period(weeks, 7 * weeks, 7000 * weeks, arm) for weeks in (1, 2, 4)]
    whole = forecast(Question(PLANS["conversion"], 0.2), periods)
    part = forecast(Question(PLANS["conversion"], 0.2, share=0.1), periods)
    assert not isinstance(whole, NotMeasurable)
    assert not isinstance(part, NotMeasurable)
    assert whole.days == math.ceil(whole.visitors / 1000)
    assert part.days == math.ceil(whole.visitors / 100)
    assert [round(visitors) for visitors, _ in whole.lifts.values()] == [7000, 14000, 28000]
    lifts = [lift for _, lift in whole.lifts.values()]
    assert lifts == sorted(lifts, reverse=True)


def test_an_interleaving_needs_the_visitors_that_find_a_preference():
    visitors, choosing = count_visitors_to_prefer(0.4), 0.4
    rng = np.random.default_rng(3)
    chances = [choosing * 0.55, choosing * 0.45, 1 - choosing]
    wins, losses, _ = rng.multinomial(visitors, chances, 4000).T
    share, variance = (wins - losses) / visitors, (wins + losses) / visitors
    half = widen(visitors) * np.sqrt((variance - share**2) / visitors)
    assert np.mean(share > half) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(("question", "arm", "reason"), [
    ({"weights": (1.0, 0.0)}, (0.1, 0.09), "a variant without weight gets no visitors"),
    ({"weights": (1.0,)}, (0.1, 0.09), "there is only one variant: add one to compare it with"),
    ({"weights": ()}, (0.1, 0.09), "there are no variants: add two or more"),
    ({"lift": 1.0}, (0.6, 0.24), "+100 % conversion cannot happen, now it is 0.6 visitors who buy: ask for a smaller "
     "lift"),
    ({"metric": PLANS["zero_results"], "lift": 1.0}, (0.1, 0.09), "-100 % empty searches cannot happen, now it is 0.1 "
     "searches without results: ask for a smaller lift"),
    ({"share": 0.0}, (0.1, 0.09), "no visitors come into the experiment"),
    ({}, (0.0, 0.0), "all 500 visitors looked at have the same value of visitors who buy, 0"),
])  # fmt: skip
def test_what_no_time_finds_is_said(question, arm, reason):
    value, variance = arm
    periods = [Period(4, 28, 500.0, Arm(500, value, variance, math.inf))]
    found = forecast(Question(**{"metric": PLANS["conversion"], "lift": 0.1} | question), periods)
    assert isinstance(found, NotMeasurable)
    assert found.reason == reason


@pytest.mark.parametrize(("metric", "visitors", "is_found"), [
    ("conversion", 500, True),
    ("conversion", 50, False),  # more than everybody would have to buy
    ("revenue", 50, True),
    ("zero_results", 500, True),
    ("zero_results", 50, False),  # fewer than none
])  # fmt: skip
def test_no_change_is_promised_that_cannot_happen(metric, visitors, is_found):
    periods = [Period(1, 7, visitors, Arm(visitors, 0.4, 0.24, math.inf))]
    found = forecast(Question(PLANS[metric], 0.1), periods)
    assert not isinstance(found, NotMeasurable)
    assert math.isfinite(found.lifts[1][1]) == is_found


def test_only_weeks_that_there_were_are_promised():
    arm = Arm(2800, 0.1, 0.09, math.inf)
    periods = [Period(1, 7, 7000, arm), Period(2, 10, 9000, arm)]  # some of them came in both weeks
    found = forecast(Question(PLANS["conversion"], 0.01), periods)
    assert not isinstance(found, NotMeasurable)
    assert list(found.lifts) == [1]
    assert found.days == math.ceil(found.visitors / 900)


# --- from the log to the page --------------------------------------------------------------------------


def log_visitors(count: int = 60, days_ago: float = 3, text: str = "mug", *, is_simulated: bool = False) -> None:
    """Log visitors who search once, every third of whom clicks; and have the days summed up."""
    at, batch = timezone.now() - timedelta(days=days_ago), f"{days_ago}-{text}"
    facts = {"timestamp": at, "total": 3, "text": text, "is_simulated": is_simulated}
    names = [f"{batch}-{number}" for number in range(count)]
    clicked = {"action_name": "click", "object_id": "P", "position": 1, "timestamp": at}
    SearchLog.objects.bulk_create(SearchLog(query_id=name, client_id=name, **facts) for name in names)
    Event.objects.bulk_create(Event(event_id=one, query_id=one, client_id=one, **clicked) for one in names[::3])
    analytics.refresh()


def make_draft(name: str = "ranking", **facts: Any) -> Experiment:
    facts = {"metric": "ctr", "worthwhile_lift": 0.5} | facts
    return make_experiment(name, running=False, **facts)


@pytest.mark.django_db
def test_a_draft_tells_its_visitors_days_and_lifts(admin_client):
    log_visitors(days_ago=10)
    log_visitors(days_ago=3)
    draft = make_draft()
    page = reverse("admin:experiments_experiment_change", args=[draft.pk])
    told = admin_client.get(page).content.decode()
    outlook = look_ahead(draft)
    assert outlook.sentence in told
    assert "to find +50 % clicked searches with a chance of 80 %. Now: 33.33 % searches with a click." in told
    assert "In 1 week, with 60 visitors, it finds " in told
    assert "From what 120 of 120 visitors did in the last 10 days." in told


@pytest.mark.django_db
def test_all_that_divides_visitors_takes_longer():
    log_visitors(days_ago=28)
    whole = look_ahead(make_draft())
    half = look_ahead(make_draft(name="half", traffic_share=0.5))
    layered = look_ahead(make_draft(name="layered", layer="l", layer_to=500))
    visitors = [row[1] for row in whole.weeks]
    assert visitors == ["0", "0", "60"][-len(visitors) :]
    assert [row[1] for row in half.weeks] == [row[1] for row in layered.weeks] == ["30"]
    assert half.sentence == layered.sentence != whole.sentence


@pytest.mark.django_db
def test_only_searches_of_its_segments_are_looked_at():
    log_visitors(count=40, days_ago=7, text="mug")
    log_visitors(count=20, days_ago=7, text="a mug for my tea")
    assert "From what 60 of 60 visitors" in look_ahead(make_draft(segments=["long"])).remarks[0]
    assert [row[1] for row in look_ahead(Experiment.objects.get()).weeks] == ["20"]


@pytest.mark.django_db
def test_no_more_visitors_are_looked_at_than_a_page_has_time_for(monkeypatch):
    monkeypatch.setattr(forecasts, "MOST_VISITORS", 30)
    log_visitors(count=60, days_ago=7)
    found = look_ahead(make_draft())
    assert found.weeks[0][1] == "60"
    assert found.remarks[0].startswith("From what 30 of 60 visitors did in the last 7 days.")


@pytest.mark.django_db
def test_what_the_figures_leave_out_is_said():
    log_visitors(is_simulated=True, days_ago=1)
    found = look_ahead(make_draft(languages=["de"]))
    remarks = found.remarks
    assert not found.weeks
    assert "visitors did in the last day. Intervals" in remarks[0]
    assert "That is less than a week: who returns is not known yet, and it may take longer." in remarks
    assert "That it is for some devices or languages alone is not counted: it takes longer." in remarks
    assert "Simulated visitors are among those looked at." in remarks


@pytest.mark.django_db
def test_what_a_log_is_too_short_for_is_not_known():
    draft = make_draft()
    assert look_ahead(draft).sentence == "Not known: nobody has searched yet."
    log_visitors(days_ago=0)
    assert look_ahead(draft).sentence.startswith("Not known: no whole day of searches has been summed up yet")
    log_visitors(days_ago=2)
    draft.metric = "conversion"
    told = "Not known: all 60 visitors looked at have the same value of visitors who buy, 0."
    assert look_ahead(draft).sentence == told
    draft.segments = ["code"]
    for kind in Experiment.Kind.values:
        draft.kind = kind
        assert look_ahead(draft).sentence == "Not known: nobody looked at has searched in these segments."


@pytest.mark.django_db
def test_a_draft_without_variants_says_that_first():
    draft = make_draft(kind="interleaving")
    draft.variants.filter(is_champion=False).delete()
    assert look_ahead(draft).sentence == "Not known: there is only one variant: add one to compare it with."
    draft.variants.all().delete()
    assert look_ahead(draft).sentence == "Not known: there are no variants: add two or more."


@pytest.mark.django_db
@pytest.mark.parametrize("segments", ["5", "[1]", "null"])
def test_a_draft_that_a_form_refuses_is_forecast_as_it_is_stored(admin_client, segments):
    log_visitors()
    draft = make_draft()
    form = {
        "name": "ranking", "kind": "ab", "metric": "ctr", "traffic_share": "1", "layer_from": "0", "layer_to": "1000",
        "devices": "[]", "languages": "[]", "segments": segments, "worthwhile_lift": "0.5", "guardrail_margin": "0.05",
        "variants-TOTAL_FORMS": "0", "variants-INITIAL_FORMS": "0",
    }  # fmt: skip
    answer = admin_client.post(reverse("admin:experiments_experiment_change", args=[draft.pk]), form)
    told = answer.content.decode()
    assert look_ahead(draft).sentence in told
    assert "One variant has nothing to be compared with: give 2 or more, one of them the champion." in told
    assert Experiment.objects.get().segments == []


@pytest.mark.django_db
def test_an_interleaving_tells_the_visitors_of_a_preference():
    log_visitors()
    told = look_ahead(make_draft(kind="interleaving")).sentence
    assert told.endswith("that 55 of 100 visitors who choose a product prefer one ranking.")


@pytest.mark.django_db
def test_an_interleaving_counts_the_visitors_of_its_segments():
    log_visitors(count=60, days_ago=7)
    whole = look_ahead(make_draft(kind="interleaving"))
    log_visitors(count=60, days_ago=7, text="a mug for my tea")
    cache.clear()
    part = look_ahead(make_draft("long", kind="interleaving", segments=["long"]))
    assert part.sentence == whole.sentence
    assert part.remarks[0].startswith("From what 120 of 120 visitors")


@pytest.mark.django_db
def test_what_was_read_is_kept_for_an_hour(django_assert_max_num_queries):
    log_visitors()
    draft = make_draft()
    first = look_ahead(draft)
    with django_assert_max_num_queries(1):  # the variants
        assert look_ahead(draft) == first
