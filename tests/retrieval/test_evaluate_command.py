"""The command, over a real index of a small shop."""

import json

import pytest
from django.core.management import CommandError, call_command

from catalog.models import Product
from retrieval import indexing, past_queries
from retrieval.models import PastQuery
from tests.factories import make_product

QUERIES = [("q1", "blue mug"), ("q2", "steel kettle"), ("q3", "unicorn saddle")]
RATINGS = [("q1", "BLUE", 3), ("q1", "RED", 2), ("q1", "KETTLE", 0), ("q2", "KETTLE", 3), ("q3", "RED", 1)]


@pytest.fixture
def small_shop(shop):
    products = [("RED", "Red ceramic mug"), ("BLUE", "Blue ceramic mug"), ("KETTLE", "Steel kettle with whistle")]
    for sku, title in [*products, ("DESK", "Oak desk"), ("LAMP", "Brass lamp")]:
        make_product(title, sku=sku)
    indexing.rebuild()
    return shop


@pytest.fixture
def evaluate(small_shop, capsys):
    """Run the command over these ratings; returns what it prints, as an object with --json."""

    def run(*options: object, ratings: list[tuple[str, str, int]] = RATINGS):
        (small_shop / "q.tsv").write_text(to_tsv(("query_id", "query"), *QUERIES))
        (small_shop / "r.tsv").write_text(to_tsv(("query_id", "doc_id", "relevance"), *ratings))
        files = ["--queries", small_shop / "q.tsv", "--qrels", small_shop / "r.tsv"]
        call_command("evaluate", *map(str, [*files, *options]))
        printed = capsys.readouterr().out
        return json.loads(printed) if "--json" in options else printed

    return run


def to_tsv(*rows: tuple[object, ...]) -> str:
    return "".join("\t".join(map(str, row)) + "\n" for row in rows)


def test_the_sites_config_is_measured_over_the_queries_with_a_relevant_product(evaluate):
    report = evaluate("--json")
    assert {name: report[name] for name in ("queries", "queries_left_out", "judgements", "relevant_from", "depth")} == {
        "queries": 2,
        "queries_left_out": 1,
        "judgements": 4,
        "relevant_from": 3,
        "depth": 100,
    }
    assert list(report["configs"]) == ["hybrid-rerank"]
    assert list(report["configs"]["hybrid-rerank"]) == [
        "nDCG@10",
        "condensed nDCG@10",
        "Judged@10",
        "R(rel=3)@100",
        "RR(rel=3)@10",
    ]
    assert report["configs"]["hybrid-rerank"]["R(rel=3)@100"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert (report["missing_skus"], report["pairs"]) == (0, [])


def test_several_configs_are_compared_pairwise(evaluate):
    report = evaluate("--json", "--config", "lexical", "--config", "dense", "--config", "hybrid", "--config", "dense")
    assert list(report["configs"]) == ["lexical", "dense", "hybrid"]
    pairs = [(pair["config"], pair["baseline"]) for pair in report["pairs"] if pair["metric"] == "nDCG@10"]
    assert pairs == [("dense", "lexical"), ("hybrid", "lexical"), ("hybrid", "dense")]
    assert all(pair["wins"] + pair["losses"] + pair["ties"] == 2 for pair in report["pairs"])
    assert set(report["pairs"][0]) == {
        *("config", "baseline", "metric", "mean", "low", "high", "wins", "losses", "ties", "detectable")
    }


def test_the_tables_show_means_pairs_and_notes(evaluate):
    printed = evaluate("--config", "lexical", "--config", "hybrid")
    assert "2 of 3 queries have a product graded 3 or higher and count, with 4 ratings." in " ".join(printed.split())
    assert "condensed" in printed
    assert "hybrid − lexical: mean differences and 95 % intervals" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_the_per_query_file_has_a_line_for_each_query_and_config(evaluate, tmp_path):
    evaluate("--per-query", tmp_path / "per-query.tsv", "--config", "lexical", "--config", "dense")
    rows = [line.split("\t") for line in (tmp_path / "per-query.tsv").read_text().splitlines()]
    assert rows[0][:4] == ["query_id", "query", "config", "nDCG@10"]
    assert rows[0][-1] == "results"
    assert [row[:3] for row in rows[1:]] == [
        ["q1", "blue mug", "lexical"],
        ["q2", "steel kettle", "lexical"],
        ["q1", "blue mug", "dense"],
        ["q2", "steel kettle", "dense"],
    ]
    assert rows[2][3:] == ["1.000000", "1.000000", "1.000000", "1.000000", "1.000000", "1"]


def test_a_lower_grade_makes_more_queries_count(evaluate):
    report = evaluate("--json", "--relevant-from", 1)
    assert (report["queries"], report["relevant_from"]) == (3, 1)
    assert "R(rel=1)@100" in report["configs"]["hybrid-rerank"]


def test_rated_products_that_are_not_on_sale_stay_in_the_ideal_and_are_reported(evaluate):
    Product.objects.filter(sku="LAMP").update(active=False)
    report = evaluate("--json", ratings=[("q2", "KETTLE", 3), ("q2", "GONE", 3), ("q2", "LAMP", 0)])
    assert report["missing_skus"] == 2
    assert "2 of 3 rated SKUs are not on sale in this shop, for example GONE" in report["notes"][0]
    assert report["configs"]["hybrid-rerank"]["R(rel=3)@100"]["mean"] == 0.5


def test_where_too_few_are_rated_the_condensed_figure_is_recommended(evaluate):
    report = evaluate("--json", ratings=[("q1", "RED", 3)])
    assert report["configs"]["hybrid-rerank"]["condensed nDCG@10"]["mean"] == 1
    assert "below 0.95: trust its condensed nDCG@10" in report["notes"][0]


def test_a_config_that_finds_nothing_scores_zero_and_is_named(evaluate):
    report = evaluate("--json", "--config", "lexical", ratings=[("q3", "RED", 3)])
    assert report["configs"]["lexical"]["nDCG@10"]["mean"] == 0
    assert "lexical finds nothing for 1 of 1 queries." in report["notes"]


def test_products_deleted_since_they_were_indexed_are_left_out_as_on_the_site(evaluate):
    Product.objects.filter(sku="BLUE").delete()
    report = evaluate("--json", ratings=[("q1", "RED", 3), ("q1", "BLUE", 0)])
    assert report["configs"]["hybrid-rerank"]["RR(rel=3)@10"]["mean"] == 1


def test_evaluating_is_not_counted_as_shoppers_searching(evaluate):
    evaluate("--json")
    past_queries.flush_recorded()
    assert not PastQuery.objects.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--config", "magic"], r"unknown config 'magic', expected one of: hybrid, lexical"),
        (["--config", ""], r"unknown config ''"),
        (["--config", "hybrid-rerank"], r"'hybrid-rerank' reranks, but no reranker is set: .*SEARCHSITE_RERANKER"),
        (["--depth", 10], r"--depth 10: expected 100 to 1000"),
        (["--relevant-from", 4], r"no query has a product graded 4 or higher: the highest grade is 3"),
        (["--relevant-from", 0], r"grade 0 cannot count as relevant"),
        (["--per-query", "/nowhere/at/all.tsv"], r"--per-query /nowhere/at/all\.tsv: there is no folder /nowhere/at"),
        (["--per-query", "/"], r"--per-query /: cannot be written: Is a directory"),
    ],
)
def test_bad_options_are_refused_with_the_choices(evaluate, options, message):
    with pytest.raises(CommandError, match=message):
        evaluate(*options)


def test_the_ratings_of_another_shop_are_refused(evaluate):
    with pytest.raises(CommandError, match=r"none of the 1 rated SKUs is on sale in this shop, for example 'ALIEN'"):
        evaluate(ratings=[("q1", "ALIEN", 3)])


def test_a_missing_index_and_a_missing_file_are_refused_with_the_cure(shop):
    make_product(sku="RED")
    (shop / "q.tsv").write_text(to_tsv(("query_id", "query"), *QUERIES))
    (shop / "r.tsv").write_text(to_tsv(("query_id", "doc_id", "relevance"), *RATINGS))
    with pytest.raises(CommandError, match=r"no index has been built yet; run: manage\.py reindex"):
        call_command("evaluate", "--queries", shop / "q.tsv", "--qrels", shop / "r.tsv")
    with pytest.raises(CommandError, match=r"none\.tsv: cannot be read: No such file"):
        call_command("evaluate", "--queries", shop / "none.tsv", "--qrels", shop / "r.tsv")
