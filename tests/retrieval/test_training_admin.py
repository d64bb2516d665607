"""The admin's pages of trainings: start with one click, watch, stop, go on, compare."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse

from retrieval.evaluation.rating_files import Rating
from retrieval.judgement_files import import_ratings
from retrieval.models import ModelVersion, TrainingRun
from retrieval.tasks import train_model
from tests.factories import make_product

pytestmark = pytest.mark.django_db
SET = {
    "name": "held-out queries", "queries": 50, "champion": 0.5, "challenger": 0.625, "difference": 0.125, "low": 0.1,
    "high": 0.15, "wins": 30, "losses": 5, "detectable": 0.02, "state": "gains",
}  # fmt: skip
VERDICT = {"is_passed": True, "reason": "passes: it gains", "metric": "nDCG@10", "margin": 0.01, "sets": [SET]}


@pytest.fixture(autouse=True)
def sent(monkeypatch, settings, tmp_path) -> list[int]:
    settings.DATA_DIR = tmp_path
    ids: list[int] = []
    monkeypatch.setattr(train_model, "delay", ids.append)
    return ids


def url(name: str, *args: Any) -> str:
    return reverse(f"admin:retrieval_trainingrun_{name}", args=args)


def make_run(state: str = "running", **facts: Any) -> TrainingRun:
    defaults: dict[str, Any] = {
        "sources": [["sample", 1.0]], "settings": {"rounds": 1}, "losses": [[1, 4.0], [2, 3.0]],
        "scores": [[0, 0.5], [2, 0.6]], "steps_done": 2, "steps_total": 8, "phase": "learning",
    }  # fmt: skip
    return TrainingRun.objects.create(state=state, **(defaults | facts))


def read(client: Any, *name: Any) -> str:
    response = client.get(url(*name))
    assert response.status_code == 200
    return str(response.content.decode())


def submit_as_it_opens(client: Any, **changes: Any) -> Any:
    """Send the form as a browser would that only clicked."""
    form = client.get(url("add")).context["form"]
    values = {field.html_name: field.value() for field in form if field.value() not in (None, False, "")}
    return client.post(url("add"), values | changes)


def test_one_click_starts_a_sensible_training(admin_client, sent, django_capture_on_commit_callbacks):
    make_product("Red mug", sku="M1")
    import_ratings("shop", [Rating("mug", "M1", 3.0)])
    with django_capture_on_commit_callbacks(execute=True):
        response = submit_as_it_opens(admin_client)
    run = TrainingRun.objects.get()
    assert response.url == url("change", run.pk)
    assert run.sources == [["catalogue", 1.0], ["judgements:shop", 2.0]]
    assert (run.kind, run.state, sent) == ("two-tower", "queued", [run.pk])
    assert run.settings == {"base": "default"}


def test_what_was_chosen_is_asked_for(admin_client):
    submit_as_it_opens(admin_client, kind="cross-encoder", steps="30", rounds="3", weights="full", weight_0="1.5")
    run = TrainingRun.objects.get()
    assert (run.kind, run.sources) == ("cross-encoder", [["sample", 1.5]])
    assert run.settings == {"base": "default", "steps": 30}


def test_a_form_without_a_source_is_refused(admin_client):
    page = admin_client.post(url("add"), {"kind": "two-tower"}).content.decode()
    assert "Choose at least one source to learn from." in page
    assert not TrainingRun.objects.exists()


def test_the_list_tells_progress_gain_and_verdict(admin_client):
    version = ModelVersion.objects.create(name="two-tower-1", kind="two-tower", origin="trained", verdict=VERDICT)
    make_run("finished", result=version)
    make_run()
    page = read(admin_client, "changelist")
    assert "0.500 → 0.625" in page
    assert 'value="25" aria-label="progress of training' in page
    assert "passed" in page


def test_a_page_follows_its_run_with_and_without_javascript(admin_client):
    run = make_run()
    page = read(admin_client, "change", run.pk)
    assert "<noscript><meta" in page
    assert f'data-url="{url("progress", run.pk)}"' in page
    assert page.count("<svg") >= 2
    assert "learning" in page
    facts = admin_client.get(url("progress", run.pk)).json()
    assert (facts["state"], facts["percent"], facts["steps"]) == ("running", 25, "2 of 8 steps")
    assert facts["gain"] == "0.500 → 0.600"
    assert "<polyline" in facts["curves"]


def test_a_run_is_not_all_done_before_it_is_judged(admin_client):
    run = make_run(steps_done=8, phase="judging: the new model beside the live one")
    assert admin_client.get(url("progress", run.pk)).json()["percent"] == 99
    TrainingRun.objects.update(state="finished")
    assert admin_client.get(url("progress", run.pk)).json()["percent"] == 100


def test_a_finished_run_names_its_model_and_verdict(admin_client):
    version = ModelVersion.objects.create(name="two-tower-1", kind="two-tower", origin="trained", verdict=VERDICT)
    page = read(admin_client, "change", make_run("finished", result=version).pk)
    assert reverse("admin:retrieval_modelversion_change", args=[version.pk]) in page
    assert "passes: it gains" in page
    assert "noscript" not in page


def test_a_run_is_cancelled_and_gone_on_with(admin_client, sent, django_capture_on_commit_callbacks):
    run = make_run()
    admin_client.post(url("cancel", run.pk))
    run.refresh_from_db()
    assert run.is_cancel_requested
    assert admin_client.get(url("progress", run.pk)).json()["phase"] == "stops"
    TrainingRun.objects.update(state="cancelled")
    assert "Go on" in read(admin_client, "change", run.pk)
    with django_capture_on_commit_callbacks(execute=True):
        admin_client.post(url("resume", run.pk))
    run.refresh_from_db()
    assert (run.state, sent) == ("queued", [run.pk])
    assert admin_client.get(url("cancel", run.pk)).status_code == 405


def test_a_queued_run_says_for_which_it_waits(admin_client):
    ahead, waiting = make_run(), make_run("queued", phase="waits for a worker")
    assert admin_client.get(url("progress", waiting.pk)).json()["phase"] == f"waits for training {ahead.pk}"


def test_chosen_runs_are_compared(admin_client):
    one, other = make_run("finished"), make_run("failed", settings={"rounds": 2})
    chosen = {"action": "compare", "_selected_action": [one.pk, other.pk]}
    response = admin_client.post(url("changelist"), chosen)
    page = admin_client.get(response.url).content.decode()
    assert f"training {one.pk}" in page
    assert f"training {other.pk}" in page
    assert '<th scope="row">rounds</th><td>1</td><td>2</td>' in page
    assert '<th scope="row">sources</th>' not in page
    response = admin_client.post(url("changelist"), chosen | {"_selected_action": [one.pk]}, follow=True)
    assert "expected 2 to 5 to compare" in response.content.decode()


def test_a_run_at_work_is_not_deleted(admin_client):
    at_work, done = make_run(), make_run("failed")
    assert admin_client.post(url("delete", at_work.pk), {"post": "yes"}).status_code == 403
    admin_client.post(url("delete", done.pk), {"post": "yes"})
    assert list(TrainingRun.objects.all()) == [at_work]


def test_who_may_only_look_starts_and_stops_nothing(client, django_user_model):
    user = django_user_model.objects.create_user("looker", password="x", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_trainingrun"))
    client.force_login(user)
    run = make_run()
    assert "Cancel" not in read(client, "change", run.pk)
    assert client.post(url("cancel", run.pk)).status_code == 403
    assert client.get(url("add")).status_code == 403
