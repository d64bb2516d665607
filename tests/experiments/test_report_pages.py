"""What report pages and exports show of a report."""

from __future__ import annotations

import csv
from io import StringIO
from typing import Any

import pytest
from django.test import Client

from experiments.models import Experiment, OfflineEvaluation, StoredReport
from experiments.report_pages import ReportPage
from experiments.reports import refresh
from retrieval.models import JudgementSet
from tests.experiments.log_factories import log_event, log_search, make_experiment
from tests.factories import make_product

pytestmark = pytest.mark.django_db


def make_page(*, variants: tuple[str, ...] = ("a", "b"), **content: Any) -> ReportPage:
    """Return the page of a report with this content."""
    experiment = make_experiment("ranking", *variants)
    facts = {"state": "not yet", "sentence": "Not yet.", "variants": list(variants)} | content
    report = StoredReport.objects.create(experiment=experiment, content=facts)
    return ReportPage(experiment, facts, report.made_at)


def compare(metric: str, p_value: float, adjusted: float, low: float = 0.01) -> dict[str, Any]:
    """Return a comparison as reports keep it, of a lift of 10 %."""
    interval = {"low": low, "high": 0.09, "p_value": p_value, "alpha": 0.05}
    return {
        "variant": "b", "metric": metric, "champion_value": 0.5, "variant_value": 0.55, "lift": 0.1, "note": "",
        "difference": {"estimate": 0.05}, "interval": interval, "lift_interval": interval, "adjusted_p_value": adjusted,
        "variance_cut": 0.0,
    }  # fmt: skip


def test_a_line_is_called_better_only_where_its_own_p_value_says_so():
    lines = [compare("conversion", 0.02, 0.16), compare("ctr", 0.02, 0.16), compare("add_rate", 0.001, 0.008)]
    rows = {row.label: (row.p_value, row.verdict) for row in make_page(comparisons=lines).rows}
    assert rows == {
        "visitors who buy": ("0.020", "better"),  # it decides
        "searches with a click": ("0.160", ""),
        "visitors who add to the cart": ("0.008", "better"),
    }


def test_the_p_value_of_what_decides_allows_for_the_variants_as_its_interval_does():
    [row] = make_page(variants=("a", "b", "c"), comparisons=[compare("conversion", 0.03, 0.04, low=-0.01)]).rows
    assert (row.p_value, row.verdict) == ("0.060", "")


def test_no_line_is_called_better_while_its_interval_holds_zero():
    [row] = make_page(variants=("a", "b", "c"), comparisons=[compare("ctr", 0.03, 0.04, low=-0.01)]).rows
    assert (row.p_value, row.verdict) == ("0.040", "")


def read_csv(client: Client) -> dict[tuple[str, str, str], dict[str, str]]:
    """Return the last row of each table, variant and name of an export."""
    text = client.get("/reports/ranking.csv").content.decode()
    return {(row["table"], row["variant"], row["name"]): row for row in csv.DictReader(StringIO(text))}


def interleave(chosen: dict[str, str]) -> None:
    """Have visitors choose, each from a page with a product of both teams."""
    experiment = make_experiment(kind=Experiment.Kind.INTERLEAVING)
    teams = {"P1": "a", "P2": "b"}
    for client_id, sku in chosen.items():
        search = log_search(client_id, "ranking:interleaved", query_attributes={"teams": teams})
        log_event(search, "click", sku)
    greedy = log_search("program", "ranking:interleaved", query_attributes={"teams": teams})
    for number in range(30):
        log_event(greedy, "click", f"P{number}")
    refresh(experiment)


def test_an_interleaving_is_told_alike_on_its_page_and_in_exports(admin_client):
    interleave({f"v{number}": "P2" if number % 4 else "P1" for number in range(12)})
    page = admin_client.get("/reports/ranking/").content.decode()
    assert "Whose results visitors chose more often." in page
    assert '<th scope="row">b</th><td>9</td>' in page
    assert "left out" in page
    found, table = admin_client.get("/reports/ranking.json").json(), read_csv(admin_client)
    assert (found["preference"]["wins"], found["preference"]["losses"]) == (9, 3)
    assert [table["preference", "b", name]["value"] for name in ("wins", "losses", "ties")] == ["9", "3", "0"]
    assert float(table["preference", "b", "share"]["low"]) == found["preference"]["low"]
    assert float(table["days", "b", "preference"]["value"]) == found["days"][-1]["share"] == 0.5
    assert table["visitors", "interleaved", "visitors"]["value"] == str(found["visitors"]["interleaved"]) == "12"
    assert table["visitors", "interleaved", "programs"]["value"] == str(found["programs"]["interleaved"]) == "1"
    assert f"<td>{found['programs']['interleaved']}</td>" in page


def test_an_export_has_all_that_the_page_shows(admin_client):
    experiment = make_experiment(metric="ctr")
    for variant, clicked in (("a", 2), ("b", 9)):
        for number in range(10):
            search = log_search(f"{variant}{number}", f"ranking:{variant}", text="=kettle", hit_skus=["P1"])
            if number < clicked:
                log_event(search, "click")
    content = {
        "metrics": ["nDCG@10"], "configs": {name: {"nDCG@10": {"mean": 0.5, "low": 0.4, "high": 0.6}} for name in "ab"},
        "pairs": [{"config": "b", "metric": "nDCG@10", "mean": 0.02, "low": 0.01, "high": 0.03, "wins": 3, "losses": 1,
                   "ties": 0, "detectable": None}],
        "changed": {"b": {"won": [], "lost": []}}, "queries": 4, "judgements": 9, "relevant_from": 1, "notes": [],
        "left_out": 0,
    }  # fmt: skip
    judged = JudgementSet.objects.create(name="spring")
    configs = [{"name": name} for name in "ab"]
    OfflineEvaluation.objects.create(experiment=experiment, judgement_set=judged, content=content, configs=configs)
    refresh(experiment)
    found, table = admin_client.get("/reports/ranking.json").json(), read_csv(admin_client)
    assert {name for name, _, _ in table} == {
        "verdict", "metrics", "days", "guardrails", "funnel", "queries", "visitors", "ratio", "offline",
    }  # fmt: skip
    assert (found["offline"]["judgement_set"], found["offline"]["pairs"]) == ("spring", content["pairs"])
    assert table["offline", "b", "nDCG@10"]["difference_low"] == "0.01"
    assert float(table["metrics", "b", "ctr"]["lift"]) == pytest.approx(3.5)
    assert table["days", "b", "visitors"]["lift_low"] == table["metrics", "b", "ctr"]["lift_low"]
    assert table["guardrails", "b", "revenue"]["note"].startswith("undecided: ")
    assert table["queries", "b", "'=kettle"]["champion"] == "0.2"  # a spreadsheet takes it for no formula
    assert table["verdict", "", found["state"]]["note"] == found["sentence"]


def test_queries_are_shown_with_what_both_rankings_show(admin_client):
    make_product("A plain kettle", sku="P-a")
    lists = {"champion_list": ["P-a", "gone"], "variant_list": ["P-b"]}
    kettle = {"text": "kettle", "champion_searches": 10, "variant_searches": 20, "champion_rate": 0.2,
              "variant_rate": 0.9, "gain": 0.5} | lists  # fmt: skip
    make_page(queries={"b": {"gained": [kettle], "lost": []}}, comparisons=[])
    page = admin_client.get("/reports/ranking/").content.decode()
    assert "Queries on which b gained clicks" in page
    assert "20 % of 10 searches clicked with a, 90 % of 20 with b" in page
    champions, variants = page.split("<summary><strong>kettle")[1].split("<section>")[1:3]
    assert '<a href="/product/P-a/">A plain kettle</a>' in champions
    assert "P-b" in variants
    assert "A plain kettle" not in variants
    assert "Queries on which b lost clicks" not in page
