"""Experiments through the real site: who sees what, what is counted, what people without the admin read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from experiments.control import start, stop
from experiments.events import flush_recorded
from experiments.forcing import make_link_token
from experiments.models import Event, Experiment, SearchLog, StoredReport, Variant, VisitorDay
from experiments.reports import refresh, refresh_running
from experiments.serving import forget_running

pytestmark = pytest.mark.django_db


def make(name: str = "words", changes: dict[str, Any] | None = None, **facts: object) -> Experiment:
    experiment = Experiment.objects.create(name=name, **facts)
    Variant.objects.create(experiment=experiment, name="own", is_champion=True)
    Variant.objects.create(experiment=experiment, name="words", changes=changes or {"fusion": "lexical"})
    start(experiment)
    forget_running()
    return Experiment.objects.get(pk=experiment.pk)


def shop_as(number: int) -> Client:
    browser = Client(headers={"user-agent": f"Mozilla/5.0 Firefox/{number}"})
    browser.cookies["visitor"] = f"visitor-{number:013d}x"[-22:].rjust(22, "0")
    return browser


def test_visitors_see_one_variant_and_are_reported(filled):
    experiment = make()
    for number in range(30):
        browser = shop_as(number)
        for _ in range(2):
            page = browser.get("/search/?q=mug").content.decode()
        link = page.split('class="card"')[1].split('href="')[1].split('"')[0]
        assert browser.get(link).status_code == 200
    assert flush_recorded() == 60
    labels = set(SearchLog.objects.values_list("variant", flat=True))
    assert labels == {"words:own", "words:words"}
    report = refresh(experiment).content
    assert sum(report["visitors"].values()) == 30
    assert VisitorDay.objects.filter(clicked_searches=1, searches=1).count() == 30


def test_a_stopped_experiment_is_seen_by_nobody(filled):
    experiment = make()
    stop(experiment, "enough")
    forget_running()
    shop_as(1).get("/search/?q=mug")
    flush_recorded()
    assert SearchLog.objects.get().variant == ""


def test_who_opted_out_sees_the_shops_own_ranking(filled):
    make()
    for number in range(10):
        shop_as(number).get("/search/?q=mug", headers={"sec-gpc": "1"})
    flush_recorded()
    assert not SearchLog.objects.exists()


def test_a_link_shows_staff_a_variant_and_they_are_not_counted(filled):
    make()
    browser = shop_as(1)
    shown = []
    for variant in ("words", "own"):
        answer = browser.get(reverse("reports:see", args=[make_link_token("words", variant)]), follow=True)
        assert answer.status_code == 200
        page = browser.get("/search/?q=mug")
        shown.append(page.context["results"].config_name)
        browser.get(page.content.decode().split('class="card"')[1].split('href="')[1].split('"')[0])
    assert shown == ["words-words", "hybrid-rerank"]
    assert (flush_recorded(), Event.objects.count()) == (0, 0)
    browser.get(reverse("reports:see", args=[make_link_token("words", "")]))
    browser.get("/search/?q=potta")
    flush_recorded()
    assert SearchLog.objects.get().variant != ""


def test_a_link_shows_a_draft_to_staff_who_opted_out_and_nothing_beside_it(filled):
    make("running")
    draft = Experiment.objects.create(name="draft")
    Variant.objects.create(experiment=draft, name="deep", is_champion=True, changes={"depth": 50})
    browser = shop_as(1)
    browser.get(reverse("reports:see", args=[make_link_token("draft", "deep")]))
    page = browser.get("/search/?q=mug", headers={"sec-gpc": "1"})
    assert page.context["results"].config_name == "draft-deep"
    flush_recorded()
    assert not SearchLog.objects.exists()


def test_a_forged_link_is_refused_with_the_cure(client):
    answer = client.get("/reports/see/forged/")
    assert answer.status_code == 400
    assert b"make a new one in the admin" in answer.content


def find_links(browser: Client) -> list[str]:
    """Return where the results of a search for mugs lead, best first."""
    page = browser.get("/search/?q=mug").content.decode()
    return [part.split('href="')[1].split('"')[0] for part in page.split('class="card"')[1:]]


def find_best(variant: str) -> str:
    """Return the address of the product that a variant puts first, as staff see it."""
    staff = shop_as(100)
    staff.get(reverse("reports:see", args=[make_link_token("words", variant)]))
    return find_links(staff)[0].split("?")[0]


def test_interleaved_results_are_credited_to_their_side(filled):
    experiment = make(kind=Experiment.Kind.INTERLEAVING)
    best = {variant: find_best(variant) for variant in ("own", "words")}
    assert best["own"] != best["words"]
    for number in range(12):  # 9 choose what the variant puts first, 3 what the champion does
        browser = shop_as(number)
        wanted = best["words" if number % 4 else "own"]
        browser.get(next(link for link in find_links(browser) if link.split("?")[0] == wanted))
    flush_recorded()
    search = SearchLog.objects.first()
    assert search is not None
    assert search.variant == "words:interleaved"
    assert set(search.query_attributes["teams"].values()) <= {"a", "b", "neither"}
    content = refresh(experiment).content
    preference = content["preference"]
    assert (preference["wins"], preference["losses"], preference["ties"]) == (9, 3, 0)
    assert content["sentence"].startswith("Not yet: +50.0 % of visitors")


def test_the_report_page_needs_the_permission_and_no_admin(filled, client):
    experiment = make()
    shop_as(1).get("/search/?q=mug")
    flush_recorded()
    assert refresh_running() == 1
    address = reverse("reports:report", args=[experiment.name])
    assert client.get(address).url.startswith("/reports/login/")
    reader = User.objects.create_user("analyst", password="secret")
    client.force_login(reader)
    assert client.get(address).status_code == 403
    reader.user_permissions.add(Permission.objects.get(codename="view_report"))
    page = Client()
    answer = page.post("/reports/login/", {"username": "analyst", "password": "secret"})
    assert answer["Location"] == "/reports/"
    assert b"words" in page.get("/reports/").content
    found = page.get(address).content.decode()
    assert "Not yet: " in found
    assert "Guardrails" in found
    assert json.loads(page.get(reverse("reports:json", args=["words"])).content)["experiment"] == "words"
    table = page.get(reverse("reports:csv", args=["words"])).content.decode().splitlines()
    assert table[0].startswith("table,variant,name,day,champion")
    assert sum(row.startswith("metrics,words,") for row in table) == 8
    assert page.get(reverse("reports:report", args=["nothing"])).status_code == 404


def test_before_the_first_report_the_page_says_so(admin_client, filled):
    make()
    assert "No report has been made yet" in admin_client.get("/reports/words/").content.decode()
    StoredReport.objects.all().delete()
    assert admin_client.get("/reports/").status_code == 200


def test_an_admin_makes_starts_watches_and_stops_an_experiment(admin_client, filled):
    form = {
        "name": "depth", "hypothesis": "Deeper is better.", "kind": "ab", "metric": "ctr", "traffic_share": "0.5",
        "layer": "", "layer_from": "0", "layer_to": "1000", "devices": "[]", "languages": "[]", "segments": "[]",
        "worthwhile_lift": "0.05", "guardrail_margin": "0.05",
        "variants-TOTAL_FORMS": "2", "variants-INITIAL_FORMS": "0", "variants-MIN_NUM_FORMS": "2",
        "variants-MAX_NUM_FORMS": "1000",
        "variants-0-name": "own", "variants-0-is_champion": "on", "variants-0-weight": "1", "variants-0-changes": "{}",
        "variants-1-name": "deep", "variants-1-weight": "1", "variants-1-changes": '{"depth": 50}',
    }  # fmt: skip
    wrong = admin_client.post(reverse("admin:experiments_experiment_add"), form | {"variants-1-changes": '{"dept": 5}'})
    assert b"unknown search setting" in wrong.content
    admin_client.post(reverse("admin:experiments_experiment_add"), form)
    experiment = Experiment.objects.get(name="depth")
    page = reverse("admin:experiments_experiment_change", args=[experiment.pk])
    assert b"/reports/see/" in admin_client.get(page).content

    def press(button: str) -> str:
        address = reverse(f"admin:experiments_experiment_{button}", args=[experiment.pk])
        return str(admin_client.post(address, follow=True).content.decode())

    assert "depth runs" in press("start")
    assert "is running already" in press("start")
    change = {"hypothesis": "", "traffic_share": "0.4", "worthwhile_lift": "0.5", "variants-TOTAL_FORMS": "0",
              "variants-INITIAL_FORMS": "0"}  # fmt: skip
    assert b"a traffic share of 0.5, which can only grow" in admin_client.post(page, change).content
    admin_client.post(page, change | {"traffic_share": "0.6"})
    experiment.refresh_from_db()
    assert (experiment.traffic_share, experiment.worthwhile_lift) == (0.6, 0.05)
    assert "The report is up to date" in press("refresh")
    assert "has stopped" in press("stop")
    assert "the report of experiment depth names no winner" in press("serve")
    assert "depth is an A/B test already" in press("promote")
    Experiment.objects.filter(name="depth").update(kind=Experiment.Kind.INTERLEAVING)
    assert "depth-ab is ready" in press("promote")
    assert admin_client.get(reverse("admin:experiments_experiment_changelist")).status_code == 200
    assert admin_client.post(reverse("admin:experiments_experiment_stop_all"), follow=True).status_code == 200
    assert Experiment.objects.filter(name="depth-ab", status="draft").exists()
