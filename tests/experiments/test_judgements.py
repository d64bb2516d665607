"""Judgements from the event log: what clicks say once the places they fell on are taken out."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from experiments.click_counts import count_clicks
from experiments.judgements import judge_clicks
from experiments.models import Event, SearchLog
from retrieval.evaluation.judgements import JudgementsError
from retrieval.judgement_files import write_ratings
from retrieval.models import Judgement, JudgementSet
from retrieval.training_sources import gather_judgements
from tests.experiments.log_factories import MONDAY, log_event, log_search
from tests.factories import make_product

pytestmark = pytest.mark.django_db

EXAMINATION = np.array([1.0, 0.5, 0.25, 0.15, 0.1])
PLANTED = {"best": 0.8, "good": 0.55, "fair": 0.35, "poor": 0.2, "worst": 0.15}
SKUS = list(PLANTED)


def plant(searches: int = 2400, *, texts: tuple[str, ...] = ("mug", "red mug"), seed: int = 1, **facts) -> None:
    """Log searches whose ranking mostly puts the worst first, and clicks that favour the first places."""
    rng = np.random.default_rng(seed)
    rows, events = [], []
    for number in range(searches):
        order = np.argsort(-np.arange(len(SKUS)) + rng.normal(0, 1.0, len(SKUS)))
        shown = [SKUS[place] for place in order]
        query_id = f"{seed}-{number}"
        who = {"query_id": query_id, "client_id": f"{seed}-{number // 2}", "timestamp": MONDAY + timedelta(hours=1)}
        rows.append(SearchLog(**{"text": texts[number % len(texts)], "hit_skus": shown} | who | facts))
        attraction = np.array([PLANTED[sku] for sku in shown])
        for place in np.flatnonzero(rng.random(len(shown)) < attraction * EXAMINATION):
            what = {"event_id": f"{query_id}-{place}", "object_id": shown[place], "position": place + 1}
            events.append(Event(action_name="click", **who, **what))
    SearchLog.objects.bulk_create(rows)
    Event.objects.bulk_create(events)


def read_grades(name: str = "clicks", query: str = "mug") -> dict[str, float]:
    return dict(Judgement.objects.filter(judgement_set__name=name, query=query).values_list("sku", "grade"))


def read_counts() -> dict[tuple[str, int], tuple[int, int]]:
    """Return clicks and impressions by SKU and position."""
    counts = count_clicks(SearchLog.objects.all(), 1)
    skus, log = list(counts.skus), counts.to_log()
    columns = zip(log.product, log.position, log.clicks, log.impressions, strict=True)
    return {(skus[code], int(place)): (int(clicks), int(shown)) for code, place, clicks, shown in columns}


def test_products_are_judged_as_planted_though_the_worst_were_shown_first(log):
    plant()
    done = judge_clicks("clicks")
    assert (done.searches, done.queries, done.judgements) == (2400, 2, 10)
    for query in ("mug", "red mug"):
        grades = read_grades(query=query)
        assert [grades[sku] for sku in SKUS] == sorted(grades.values(), reverse=True)
        assert grades["best"] == 3
        assert grades["good"] >= 2
        assert max(grades["poor"], grades["worst"]) <= 1
    rows: dict[str, Any] = {row.sku: row for row in Judgement.objects.filter(query="mug")}
    ctr = {sku: row.clicks / row.impressions for sku, row in rows.items()}
    assert ctr["worst"] > ctr["best"]
    assert all(row.impressions == 1200 for row in rows.values())
    assert all(0 <= row.low < row.high for row in rows.values())
    assert rows["best"].low < 1 < rows["best"].high
    assert rows["poor"].high < rows["good"].low


def test_clicks_over_expected_clicks_confuse_place_and_product_where_the_model_does_not(log):
    plant()
    for model in ("pbm", "coec", "ipw"):
        judge_clicks(model, model=model)
    pbm, coec, ipw = (read_grades(model) for model in ("pbm", "coec", "ipw"))
    assert ipw == pbm
    assert coec["worst"] > pbm["worst"]
    assert coec["worst"] >= 2
    assert JudgementSet.objects.get(name="coec").note.startswith("Clicks over expected clicks: 10 judgements of 2")


def test_what_is_judged_trains_models_and_goes_to_files(log):
    plant()
    judge_clicks("clicks")
    for sku in SKUS:
        make_product(sku=sku)
    gathered = gather_judgements("clicks")
    assert {query.text for query in gathered.queries} == {"mug", "red mug"}
    assert not gathered.unknown_skus
    lines = "".join(write_ratings(JudgementSet.objects.get())).splitlines()
    assert lines[:2] == ["query\tsku\tgrade", "mug\tbest\t3.0"]


def test_judged_again_the_set_holds_what_is_true_now(log):
    plant()
    judge_clicks("clicks")
    made_at = JudgementSet.objects.get().created_at
    SearchLog.objects.filter(text="red mug").delete()
    judge_clicks("clicks")
    judgement_set = JudgementSet.objects.get()
    assert set(judgement_set.judgements.values_list("query", flat=True)) == {"mug"}
    assert judgement_set.created_at > made_at
    assert judgement_set.source == "clicks"
    assert "From 1,200 searches, with" in judgement_set.note


def test_bots_programs_narrowed_lists_and_other_days_do_not_judge(log):
    plant()
    plant(60, seed=2, is_bot=True)
    plant(60, seed=3, query_attributes={"brands": ["Potta"]})
    plant(60, seed=4, text="")
    for number in range(101):
        log_search("program", text="mug", hit_skus=["worst"], day=number % 1)
    plant(60, seed=5)
    SearchLog.objects.filter(query_id__startswith="5-").update(timestamp=MONDAY + timedelta(days=3))
    done = judge_clicks("clicks", since=MONDAY, until=MONDAY + timedelta(days=2))
    assert (done.searches, done.programs) == (2400, 1)
    assert "1 visitors with over 100 searches a day" in JudgementSet.objects.get().note
    assert judge_clicks("clicks", since=MONDAY).searches == 2460


def test_who_clicks_more_than_shoppers_do_does_not_judge(log):
    plant()
    skus = [f"p{number}" for number in range(6)]
    for visitor, clicked in (("greedy", 6), ("keen", 5)):
        for _ in range(5):
            search = log_search(visitor, text="mug", hit_skus=skus)
            for position, sku in enumerate(skus[:clicked], 1):
                log_event(search, "click", sku, position)
    done = judge_clicks("clicks", minimum_examined=1)
    assert done.programs == 1
    assert done.searches == 2405


def test_a_click_counts_once_and_only_in_the_list_that_was_shown(log):
    for number in range(30):
        search = log_search(f"v{number}", "", text="mug", hit_skus=["A", "B", "C"])
        log_event(search, "click", "A", 1)
        log_event(search, "click_through", "A", 1)
        log_event(search, "click", "B", 9, event_attributes={"is_narrowed": True})
        log_event(search, "click", "elsewhere", 30)
        log_event(search, "add_to_cart", "B", 2)
    assert read_counts() == {("A", 1): (30, 30), ("B", 2): (0, 30), ("C", 3): (0, 30)}
    log_event(search, "impression", "B", 2)
    assert read_counts() == {("A", 1): (30, 30), ("B", 2): (0, 30), ("C", 3): (0, 29)}
    done = judge_clicks("clicks")
    assert done.clicks == 30
    assert "cannot be told apart" in done.warnings[0]
    assert "Warning: position" in JudgementSet.objects.get().note


def test_what_cannot_be_judged_is_told_with_the_cure_and_changes_nothing(log):
    with pytest.raises(JudgementsError, match="no searches in this period"):
        judge_clicks("clicks")
    for number in range(30):
        log_search(f"v{number}", "", text=f"mug {number}", hit_skus=["A"])
    with pytest.raises(JudgementsError, match="no text was searched 20 times with results among 30 searches"):
        judge_clicks("clicks")
    SearchLog.objects.update(text="mug")
    with pytest.raises(JudgementsError, match=r"no product was looked at 20 times for a query with 3 clicks.*0 clicks"):
        judge_clicks("clicks")
    with pytest.raises(JudgementsError, match="no clicks at any position"):
        judge_clicks("clicks", model="coec")
    with pytest.raises(JudgementsError, match="unknown click model 'dbn', expected one of: pbm"):
        judge_clicks("clicks", model="dbn")
    with pytest.raises(JudgementsError, match="expected 1 to 100 characters"):
        judge_clicks(" clicks")
    assert not JudgementSet.objects.exists()
    JudgementSet.objects.create(name="ratings")
    with pytest.raises(JudgementsError, match="'ratings' is made of ratings; give what clicks say another name"):
        judge_clicks("ratings")


def test_the_command_makes_the_set_and_says_how(log):
    plant(is_simulated=True)
    output = StringIO()
    call_command("judge_clicks", "clicks", "--json", "--minimum-examined", "10", stdout=output)
    told = json.loads(output.getvalue())
    assert (told["judgements"], told["simulated"], told["first"]) == (10, 2400, "2026-03-02T13:00:00Z")
    call_command("judge_clicks", "clicks", "--model", "ipw", "--since", "2026-03-01", stdout=output)
    assert "2,400 of them simulated" in output.getvalue()
    for wrong in (("--minimum-examined", "0"), ("--minimum-clicks", "0"), ("--until", "2026-01-01")):
        with pytest.raises(CommandError, match=r"expected 1 or more|no searches in this period"):
            call_command("judge_clicks", "clicks", *wrong)
