"""What the live index and its model are like, with the real model and a real Edge index."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import Permission, User
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.urls import reverse
from kombu.exceptions import OperationalError

from catalog.models import Product
from catalog.signals import products_changed
from retrieval import diagnostics, indexing, sampling, setup
from retrieval.admin.diagnostics import describe
from retrieval.engine.types import EngineError, IndexUnavailable
from retrieval.evaluation import geometry
from retrieval.evaluation.findings import BAD, GOOD, NOTE, find_all
from retrieval.models import Judgement, JudgementSet, ModelVersion, PastQuery, PendingChange
from retrieval.sampling import draw_sample, encoder_of, known_queries
from retrieval.tasks import diagnose_index
from tests.factories import make_product

COLOURS, THINGS = ("Red", "Blue", "Green", "White"), ("ceramic mug", "wool scarf", "steel kettle", "desk lamp")
PAGE, START = "admin:retrieval_diagnosis_changelist", "admin:retrieval_diagnosis_start"


@pytest.fixture(autouse=True)
def _small_and_nothing_under_way(monkeypatch):
    monkeypatch.setattr(sampling, "QUERIES", 25)
    yield
    cache.delete(diagnostics.PROGRESS_KEY)


@pytest.fixture
def indexed(shop):
    """A shop of 16 products of 4 kinds, indexed."""
    products = [make_product(f"{colour} {thing}", category=thing) for thing in THINGS for colour in COLOURS]
    indexing.rebuild()
    PendingChange.objects.all().delete()
    return products


def state_of(report: dict[str, Any], name: str) -> str:
    return next(finding.state for finding in find_all(report) if finding.name == name)


def test_a_report_measures_the_live_index_and_can_be_kept_as_json(indexed):
    told = []
    report = diagnostics.diagnose(lambda phase, share: told.append((phase, share)))
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert (report["products"], report["sampled_products"], report["dim"]) == (16, 16, 384)
    assert report["generation"] == setup.get_pipeline().generation.name
    assert report["graph"]["live"]["recall"] == 1.0
    assert [point["ef"] for point in report["graph"]["curve"]] == [8, 16, 32, 64, 128, 256, 512]
    assert report["sizes"][-1] == {"dims": 384, "recall": 1.0, "recall_rescored": 1.0, "memory_share": 1.0}
    assert sum(report["texts"]["histogram"]["counts"]) == 16
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < shares[-1] < 1


def test_the_model_understands_and_nothing_is_stale(indexed):
    report = diagnostics.diagnose()
    assert report["space"]["alignment"] < report["space"]["chance_alignment"]
    assert report["space"]["found_share"] > 0.9
    assert (report["stale"]["vectors"], report["stale"]["drifted"], report["stale"]["embedded_again"]) == (16, 0, 16)
    assert {state_of(report, name) for name in ("stale", "drifted", "cut", "recall", "alignment")} == {GOOD}


def test_products_changed_gone_and_new_since_are_stale(indexed):
    indexed[0].title = "Brass table lamp"
    indexed[0].save()
    Product.objects.filter(pk=indexed[1].pk).update(active=False)
    new = make_product("Black umbrella")
    PendingChange.objects.all().delete()
    products_changed.send(Product, product_ids=[new.pk])
    report = diagnostics.diagnose()
    stale = report["stale"]
    assert (stale["changed"], stale["gone"], stale["missing"], stale["pending"]) == (1, 1, 1, 1)
    assert stale["embedded_again"] == 14  # of the 15 that are both indexed and on sale, one has changed
    [finding] = [finding for finding in find_all(report) if finding.name == "stale"]
    assert (finding.value, finding.state) == ("3", BAD)
    assert "manage.py reindex --pending" in finding.cure


def test_vectors_another_model_made_are_noticed(indexed, monkeypatch):
    pipeline = setup.get_pipeline()
    sample = draw_sample(pipeline, encoder_of(pipeline))
    turned = sample.products.copy()
    turned[:3] = np.roll(turned[:3], 5, axis=1)
    monkeypatch.setattr(diagnostics, "draw_sample", lambda *args: replace_products(sample, turned))
    report = diagnostics.diagnose()
    assert (report["stale"]["drifted"], state_of(report, "drifted")) == (3, BAD)


def replace_products(sample: sampling.Sample, products: np.ndarray) -> sampling.Sample:
    facts = {**vars(sample), "products": products}
    return sampling.Sample(**facts)


def test_long_texts_and_doubles_are_noticed(shop):
    for number in range(4):
        make_product(f"Garden hose {number}", description="A sentence about water and gardens. " * 200)
    make_product("Garden hose 0", description="A sentence about water and gardens. " * 200)
    indexing.rebuild()
    report = diagnostics.diagnose()
    assert (report["texts"]["cut_share"], state_of(report, "cut")) == (1.0, BAD)
    assert report["twins"]["pairs"][0]["cosine"] == pytest.approx(1.0)
    assert (state_of(report, "twins"), state_of(report, "anisotropy")) == (BAD, BAD)


def test_doubles_of_a_sampled_product_are_looked_for_in_the_whole_index(shop, monkeypatch):
    for number in range(40):
        make_product(f"Hose {number % 20}", description="Green and long. " * (number % 20))
    indexing.rebuild()
    monkeypatch.setattr(sampling, "PRODUCTS", 8)
    report = diagnostics.diagnose()
    assert (report["sampled_products"], report["twins"]["share"]) == (8, 1.0)
    assert all(pair["first"] == pair["second"] for pair in report["twins"]["pairs"])


def test_smaller_vectors_are_measured_among_all_products_and_not_among_the_sampled(indexed, monkeypatch):
    monkeypatch.setattr(sampling, "PRODUCTS", 4)
    report = diagnostics.diagnose()
    assert (report["sampled_products"], report["compared_products"]) == (4, 16)
    meanings = {finding.name: finding.meaning for finding in find_all(report)}
    assert "of the true ten nearest of all 16 products" in meanings["sizes"]
    assert "of the true ten nearest of all 16 products" in meanings["quantization"]
    monkeypatch.setattr(sampling, "MOST_VECTORS", 7)
    found = next(finding for finding in find_all(diagnostics.diagnose()) if finding.name == "sizes")
    assert "of the true ten nearest of 7 products drawn by chance" in found.meaning


def test_whitening_is_offered_where_vectors_are_too_alike(indexed):
    report = diagnostics.diagnose()
    assert report["whitened"] is None, "16 products say nothing of 384 dimensions"
    narrow = report["space"] | {"mean_cosine": 0.5, "found_share": 0.8}
    report |= {"space": narrow, "whitened": narrow | {"mean_cosine": 0.0, "found_share": 0.85}}
    [finding] = [finding for finding in find_all(report) if finding.name == "anisotropy"]
    assert finding.state == BAD
    assert "Whitening would bring the mean cosine from 0.50 to 0.00 and queries with an answer" in finding.cure
    assert "from 80.0 % to 85.0 %; manage.py diagnose --whitening FILE.npz writes it." in finding.cure
    assert "whitened" in "".join(describe(report)["sections"][3][2])


def test_past_queries_are_taken_where_there_are_enough(indexed):
    pipeline = setup.get_pipeline()
    encoder = encoder_of(pipeline)
    PastQuery.objects.record("red mug", 3, ["ada"])
    assert draw_sample(pipeline, encoder).source == sampling.MADE
    for number in range(sampling.LEAST_PAST):
        PastQuery.objects.record(f"visa application form {number}", 0, ["ada"])
    sample = draw_sample(pipeline, encoder)
    assert (sample.source, len(sample.texts)) == (sampling.PAST, 21)


def test_queries_for_what_is_not_sold_are_far_from_all_products(indexed):
    assert state_of(diagnostics.diagnose(), "shift") == NOTE
    PastQuery.objects.record("red mug", 3, [f"v{number}" for number in range(9)])
    for number in range(sampling.LEAST_PAST):
        PastQuery.objects.record(f"visa application form {number}", 0, ["ada"])
    report = diagnostics.diagnose()
    assert report["shift"]["far_from_products"] == pytest.approx(20 / 21)
    assert (len(report["shift"]["farthest"]), "red mug" in report["shift"]["farthest"]) == (10, False)
    assert state_of(report, "shift") == BAD
    assert list(report["shift"]["shares"]) == [sampling.PAST, sampling.MADE]


def test_judged_queries_tell_what_answers_them(indexed, monkeypatch):
    monkeypatch.setattr(sampling, "LEAST_JUDGED", 2)
    ratings = JudgementSet.objects.create(name="ratings")
    grades = [("something to drink from", 0, 3), ("something to drink from", 1, 3), ("warm neck", 4, 3), ("tea", 8, 2)]
    for query, place, grade in grades:
        Judgement.objects.create(judgement_set=ratings, query=query, sku=indexed[place].sku, grade=grade)
    pipeline = setup.get_pipeline()
    encoder = encoder_of(pipeline)
    assert sorted(map(len, draw_sample(pipeline, encoder).answers)) == [1, 2]
    assert known_queries(encoder.model_version) == [], "the default model learned nothing here"
    learn_from(encoder.model_version, {"judgements:ratings": 1, "catalogue": 1})
    assert known_queries(encoder.model_version) == ["something to drink from", "tea", "warm neck"]
    assert diagnostics.diagnose()["shift"]["known"] == 3


def learn_from(exported: str, sources: dict[str, int], **facts: Any) -> ModelVersion:
    facts = {"name": "mine", "kind": "two-tower", "origin": "trained"} | facts
    return ModelVersion.objects.create(exported=exported, settings={"sources": sources}, **facts)


def test_only_queries_of_sets_that_the_model_and_its_parents_learned_from_are_known(db):
    for name in ("ratings", "clicks", "later"):
        judged = JudgementSet.objects.create(name=name)
        Judgement.objects.create(judgement_set=judged, query=f"tea of {name}", sku="T-1", grade=3)
    parent = learn_from("v1", {"judgements:clicks": 1}, name="older")
    learn_from("v2", {"judgements:ratings": 2, "sample": 1}, parent=parent)
    learn_from("v3", {"judgements:later": 1}, name="foreign", origin="imported")
    assert known_queries("v1") == ["tea of clicks"]
    assert known_queries("v2") == ["tea of clicks", "tea of ratings"]
    assert known_queries("v3") == []


def test_without_enough_products_the_cure_is_named(shop):
    with pytest.raises(IndexUnavailable, match=r"no index has been built yet; run: manage\.py reindex"):
        diagnostics.diagnose()
    make_product()
    indexing.rebuild()
    with pytest.raises(EngineError, match="holds 1 products that are on sale, expected at least 2"):
        diagnostics.diagnose()


def test_products_without_anything_to_ask_for_are_asked_for_by_title(shop):
    make_product("7"), make_product("8")
    indexing.rebuild()
    report = diagnostics.diagnose()
    assert report["sampled_queries"] > 0
    assert find_all(report)


def test_the_report_is_kept_until_the_next(indexed):
    assert diagnostics.read_report() is None
    report = diagnostics.diagnose_and_keep()
    assert diagnostics.read_report() == report
    assert diagnostics.read_progress() is None
    diagnostics.report_path().write_text('{"format": 0}')
    assert diagnostics.read_report() is None


def test_diagnose_command_prints_the_report(indexed, capsys):
    call_command("diagnose", "--json")
    assert json.loads(capsys.readouterr().out)["products"] == 16
    call_command("diagnose")
    assert "Stale vectors: 0." in capsys.readouterr().out


def test_diagnose_command_writes_whitening(indexed, tmp_path, capsys, monkeypatch):
    with pytest.raises(CommandError, match="there is no folder"):
        call_command("diagnose", "--whitening", "/nowhere/white.npz")
    with pytest.raises(CommandError, match=r"whitening cannot be made: .*\(16, 384\): expected at least 768"):
        call_command("diagnose", "--whitening", str(tmp_path / "white.npz"))
    monkeypatch.setattr(geometry, "LEAST_ROWS", 0)
    call_command("diagnose", "--whitening", str(tmp_path / "white.npz"))
    with np.load(tmp_path / "white.npz") as arrays:
        assert arrays["mean"].shape == (384,)


def test_diagnose_command_names_what_is_missing(shop):
    with pytest.raises(CommandError, match="no index has been built yet"):
        call_command("diagnose")


def test_the_page_measures_and_shows_plots_with_sentences(indexed, admin_client, monkeypatch):
    assert "Nothing was measured yet" in admin_client.get(reverse(PAGE)).content.decode()
    # In place of the queue: the worker's own code, at once.
    monkeypatch.setattr(diagnose_index, "apply_async", lambda args=(), kwargs=None, **options: diagnose_index())
    assert admin_client.post(reverse(START)).status_code == 302
    page = admin_client.get(reverse(PAGE)).content.decode()
    assert "All figures are as they should be" in page or "need a look" in page
    assert page.count('<svg viewBox="0 0 480 260" role="img"') == 8
    assert "Share of the true ten nearest that a search finds as the site does it" in page
    assert setup.get_pipeline().generation.name in page
    assert 'http-equiv="refresh"' not in page


def test_the_page_follows_a_diagnosis_and_starts_no_second(shop, admin_client, monkeypatch):
    queued = []
    monkeypatch.setattr(diagnose_index, "apply_async", lambda *args, **options: queued.append(1))
    admin_client.post(reverse(START))
    diagnostics.tell_progress("searching", 0.6)
    page = admin_client.get(reverse(PAGE)).content.decode()
    assert "60 %, searching" in page
    assert 'http-equiv="refresh"' in page
    page = admin_client.post(reverse(START), follow=True).content.decode()
    assert "under way already" in page
    assert len(queued) == 1


def test_the_page_tells_why_a_diagnosis_failed(shop, admin_client):
    with pytest.raises(IndexUnavailable):
        diagnostics.diagnose_and_keep()
    page = admin_client.get(reverse(PAGE)).content.decode()
    assert "The last diagnosis failed: no index has been built yet; run: manage.py reindex" in page
    assert "Measure now" in page


def test_a_queue_that_is_down_is_told(shop, admin_client, monkeypatch):
    def refuse(*args: object, **kwargs: object) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(diagnose_index, "apply_async", refuse)
    page = admin_client.post(reverse(START), follow=True).content.decode()
    assert "The queue does not answer (connection refused)" in page
    assert diagnostics.read_progress() is None


def test_only_those_who_may_see_it_do(client, db):
    clerk = User.objects.create_user("clerk", is_staff=True)
    client.force_login(clerk)
    assert client.get(reverse(PAGE)).status_code == 403
    assert client.post(reverse(START)).status_code == 403
    clerk.user_permissions.add(Permission.objects.get(codename="view_diagnosis"))
    assert client.get(reverse(PAGE)).status_code == 200
    assert client.get(reverse(START)).status_code == 405
