"""Rankings measured on judgement sets, over a real index of a small shop, and the pages that show them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command

from experiments import offline
from experiments.models import OfflineEvaluation
from experiments.offline_pages import OfflinePage
from retrieval import indexing
from retrieval.evaluation.judgements import JudgementsError
from retrieval.evaluation.judgements import JudgementSet as Graded
from retrieval.evaluation.metrics import build_report_measures, score_rankings
from retrieval.models import Judgement, JudgementSet, PastQuery
from tests.experiments.log_factories import make_experiment
from tests.factories import make_product

GRADES = [
    ("blue mug", "BLUE", 3.0), ("blue mug", "RED", 1.5), ("blue mug", "KETTLE", 0.0), ("something to boil water",
    "KETTLE", 3.0), ("something to boil water", "DESK", 0.0), ("unicorn saddle", "RED", 1.0),
]  # fmt: skip


@pytest.fixture
def small_shop(shop):
    products = [("RED", "Red ceramic mug"), ("BLUE", "Blue ceramic mug"), ("KETTLE", "Steel kettle with whistle")]
    for sku, title in [*products, ("DESK", "Oak desk"), ("LAMP", "Brass lamp")]:
        make_product(title, sku=sku)
    indexing.rebuild()
    return shop


def grade(name: str = "rated", grades: list[tuple[str, str, float]] = GRADES) -> JudgementSet:
    judgement_set = JudgementSet.objects.create(name=name)
    Judgement.objects.bulk_create(
        Judgement(judgement_set=judgement_set, query=query, sku=sku, grade=each) for query, sku, each in grades
    )
    return judgement_set


@pytest.fixture
def analyst(client):
    """A browser of somebody who may read reports and nothing else."""
    reader = User.objects.create_user("reader")
    reader.user_permissions.add(Permission.objects.get(codename="view_report"))
    client.force_login(reader)
    return client


def see(analyst: Any, address: str = "/reports/offline/") -> str:
    response = analyst.get(address)
    assert response.status_code == 200
    return str(response.content.decode())


def make_evaluation(judgement_set: JudgementSet, values: dict[str, list[float]], **facts: Any) -> OfflineEvaluation:
    """Return a stored evaluation with these nDCG@10 of three queries each."""
    estimate = {name: {"nDCG@10": {"mean": sum(each) / 3, "low": 0.0, "high": 1.0}} for name, each in values.items()}
    content = {
        "queries": 3, "judgements": 6, "relevant_from": 3.0, "left_out": 0, "configs": estimate, "pairs": [],
        "notes": [], "changed": {}, "metrics": ["nDCG@10"],
    }  # fmt: skip
    return OfflineEvaluation.objects.create(
        judgement_set=judgement_set, content=content, configs=[{"name": name} for name in values], **facts
    )


def test_configs_are_compared_with_the_first_query_by_query(small_shop):
    configs = offline.list_configs(["lexical", "hybrid"])
    content = offline.evaluate(grade(), configs).content
    assert (content["queries"], content["judgements"], content["relevant_from"], content["left_out"]) == (2, 5, 3.0, 1)
    assert list(content["configs"]["lexical"]) == [
        "nDCG@10", "condensed nDCG@10", "recall@10", "recall@100", "MRR@10", "MAP@100", "Judged@10",
    ]  # fmt: skip
    assert {(pair["config"], pair["baseline"]) for pair in content["pairs"]} == {("hybrid", "lexical")}
    [ndcg] = [pair for pair in content["pairs"] if pair["metric"] == "nDCG@10"]
    assert (ndcg["wins"], ndcg["losses"], ndcg["ties"]) == (2, 0, 0)
    assert ndcg["detectable"] > 0
    won, _ = content["changed"]["hybrid"]["won"]
    assert (won["query"], won["before"]) == ("something to boil water", 0.0)
    assert content["changed"]["hybrid"]["lost"] == []


def test_metrics_are_those_worked_by_hand(small_shop):
    lexical = offline.evaluate(grade(), offline.list_configs(["lexical"])).content["configs"]["lexical"]
    means = {metric: one["mean"] for metric, one in lexical.items()}
    # One query of two finds something, its exact product alone: 3 / (3 + 1.5 / log2(3)) of the best there is.
    assert means["nDCG@10"] == pytest.approx(0.760188 / 2, abs=1e-5)
    assert means["recall@10"] == means["MRR@10"] == means["MAP@100"] == pytest.approx(0.5)


def test_an_evaluation_keeps_the_settings_it_was_made_with(small_shop):
    [config] = offline.evaluate(grade(), offline.list_configs([])).configs
    assert config["name"] == "hybrid-rerank"
    assert config["model"]
    assert not PastQuery.objects.exists()


def test_the_variants_of_an_experiment_are_compared_with_its_champion(small_shop, capsys):
    grade()
    make_experiment()
    call_command("evaluate_offline", "rated", "--experiment", "ranking", "--json")
    found = json.loads(capsys.readouterr().out)
    assert list(found["configs"]) == ["a", "b"]
    assert found["settings"][1]["dense_weight"] == pytest.approx(0.1)
    assert OfflineEvaluation.objects.get(experiment__name="ranking")


def test_the_command_tells_the_figures(small_shop, capsys):
    grade()
    call_command("evaluate_offline", "rated", "--config", "lexical", "--config", "dense")
    printed = capsys.readouterr().out
    assert printed.startswith("2 queries with 5 ratings\nlexical: nDCG@10 0.380")
    assert "dense - lexical, nDCG@10: +" in printed


@pytest.mark.parametrize(("arguments", "complaint"), [
    (["ratings"], "unknown judgement set 'ratings', expected one of: empty, rated"),
    (["empty"], "judgement set 'empty' has no product graded above 0: import ratings, or grade some"),
    (["rated", "--experiment", "colour"], "unknown experiment 'colour', expected one of: none yet"),
    (["rated", "--config", "best"], "unknown config 'best', expected one of: hybrid"),
])  # fmt: skip
def test_what_cannot_be_measured_is_refused_with_the_cure(db, arguments, complaint):
    grade()
    grade("empty", [])
    with pytest.raises(CommandError, match=complaint):
        call_command("evaluate_offline", *arguments)
    assert not OfflineEvaluation.objects.exists()


def test_products_that_are_not_on_sale_are_told_of(small_shop):
    with pytest.raises(JudgementsError, match="none of the 1 rated SKUs is on sale"):
        offline.evaluate(grade("alien", [("mug", "ALIEN", 3.0)]), offline.list_configs(["lexical"]))


def test_without_a_grade_of_three_the_highest_is_relevant(db):
    graded, relevant_from = offline.read_graded(grade("partly", [("mug", "A", 1.25), ("mug", "B", 0.5)]))
    assert (graded.grades["mug"], relevant_from) == ({"A": 125, "B": 50}, 125)


def test_the_page_says_that_nothing_was_measured(db, analyst):
    assert "No ranking has been measured yet." in see(analyst)


def test_the_page_is_for_who_may_read_reports(db, client):
    client.force_login(User.objects.create_user("clerk"))
    assert client.get("/reports/offline/").status_code == 403


def test_the_page_shows_the_last_evaluation_and_the_history(db, analyst):
    rated, clicked = grade(), grade("clicked")
    first = make_evaluation(rated, {"hybrid": [0.4, 0.4, 0.4]})
    make_evaluation(clicked, {"hybrid": [0.9, 0.9, 0.9]})
    make_evaluation(rated, {"hybrid": [0.5, 0.5, 0.5], "dense": [0.3, 0.3, 0.3]})
    page = see(analyst)
    assert "On the judgement set rated: 3 queries with 6 ratings, relevant from grade 3;" in page
    assert "hybrid 0.500, dense 0.300" in page
    assert "<td>1</td><td>0.4</td><td></td>" in page  # the chart's figures
    assert '">clicked</a>' in page
    assert "<td>0.400<br>" in see(analyst, f"/reports/offline/?evaluation={first.pk}")
    assert "There is no evaluation &#x27;x&#x27;: this is the last one." in see(
        analyst, "/reports/offline/?evaluation=x"
    )


def test_variants_of_two_experiments_are_two_lines_of_the_history(db):
    rated = grade()
    for name in ("one", "two"):
        make_evaluation(rated, {"a": [0.4, 0.4, 0.4]}, experiment=make_experiment(name))
    chart = OfflinePage.of({}).chart
    assert '<th scope="col">one: a</th><th scope="col">two: a</th>' in chart


def test_an_experiments_report_shows_its_variants_offline(small_shop, analyst):
    experiment = make_experiment()
    assert "Offline</h2>" not in see(analyst, "/reports/ranking/")
    offline.evaluate(grade(), offline.list_variants(experiment), experiment)
    page = see(analyst, "/reports/ranking/")
    assert "<h2>Offline</h2>" in page
    assert "Against a, query by query" in page


def test_mean_average_precision_counts_every_relevant_product():
    graded = Graded({"q": "mug"}, {"q": {"A": 3, "B": 0, "C": 3}})
    scores = score_rankings({"q": ["A", "B", "C"]}, graded, 3, build_report_measures)
    assert scores.mean("MAP@100") == pytest.approx((1 + 2 / 3) / 2)
    assert (scores.mean("recall@10"), scores.mean("MRR@10"), scores.mean("Judged@10")) == (1, 1, 1)
