"""Evaluations asked for on the page: who may, what is refused, one at a time, told of until they are done."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.utils import timezone
from kombu.exceptions import OperationalError

from experiments import offline, offline_runs
from experiments.models import OfflineEvaluation, OfflineRun
from experiments.tasks import evaluate_offline, resume_evaluations
from retrieval.models import JudgementSet
from tests.experiments.log_factories import make_experiment
from tests.experiments.test_offline import analyst, grade, see, small_shop

__all__ = ["analyst", "small_shop"]  # fixtures
BUTTON = "/reports/offline/evaluate/"


@pytest.fixture
def sent(monkeypatch) -> list[int]:
    """The runs whose messages went to the queue."""
    found: list[int] = []
    monkeypatch.setattr(evaluate_offline, "apply_async", lambda args, kwargs=None, **options: found.extend(args))
    return found


@pytest.fixture
def evaluator(analyst):
    """A browser of somebody who may read reports and have rankings evaluated."""
    User.objects.get().user_permissions.add(Permission.objects.get(codename="add_offlineevaluation"))
    return analyst


def make_run(judgement_set: JudgementSet | None = None, **facts: Any) -> OfflineRun:
    return OfflineRun.objects.create(judgement_set=judgement_set or grade(), **facts)


def test_the_button_has_the_variants_of_an_experiment_evaluated(
    small_shop, evaluator, sent, django_capture_on_commit_callbacks
):
    grade()
    make_experiment()
    assert 'action="/reports/offline/evaluate/"' in see(evaluator)
    with django_capture_on_commit_callbacks(execute=True):
        answer = evaluator.post(BUTTON, {"judgement_set": "rated", "experiment": "ranking"}, follow=True)
        again = evaluator.post(BUTTON, {"judgement_set": "rated", "experiment": "ranking"})  # a double click
    assert "The variants of ranking on rated: waits for the learner" in answer.content.decode()
    assert answer["Refresh"] == "5"
    assert again.status_code == 302
    [run_id] = sent
    evaluate_offline(run_id)
    evaluate_offline(run_id)  # its message came twice
    done = evaluator.get("/reports/offline/")
    assert "The variants of <a" in done.content.decode()
    assert "<caption>The last evaluations on rated</caption>" in done.content.decode()
    assert "Refresh" not in done
    run = OfflineRun.objects.get()
    assert (run.state, run.queries_done, run.queries_total) == ("finished", 2, 2)
    assert run.result == OfflineEvaluation.objects.get()


def test_the_shops_own_search_is_evaluated_without_an_experiment(small_shop, evaluator, sent):
    grade()
    evaluator.post(BUTTON, {"judgement_set": "rated", "experiment": ""})
    evaluate_offline(OfflineRun.objects.get().pk)
    assert OfflineEvaluation.objects.get().names == ["hybrid-rerank"]


@pytest.mark.parametrize(("asked", "told"), [
    ({}, "unknown judgement set &#x27;&#x27;, expected one of: empty, rated"),
    ({"judgement_set": "empty"}, "has no product graded above 0"),
    ({"judgement_set": "rated", "experiment": "colour"}, "unknown experiment &#x27;colour&#x27;"),
    ({"judgement_set": "rated"}, "no index has been built yet; run: manage.py reindex"),
])  # fmt: skip
def test_what_cannot_be_evaluated_is_refused_at_once(shop, evaluator, sent, asked, told):
    grade()
    grade("empty", [])
    answer = evaluator.post(BUTTON, asked)
    assert answer.status_code == 400
    assert told in answer.content.decode()
    assert not OfflineRun.objects.exists()


def test_another_evaluation_waits_until_the_first_is_done(small_shop, evaluator, sent):
    make_run(grade("clicked"))
    grade()
    answer = evaluator.post(BUTTON, {"judgement_set": "rated"})
    assert answer.status_code == 409
    told = "another evaluation is not done yet: the shop&#x27;s own search on clicked. Ask again when it is"
    assert told in answer.content.decode()
    assert OfflineRun.objects.count() == 1


def test_only_who_may_add_evaluations_has_the_button(db, analyst, sent):
    grade()
    assert BUTTON not in see(analyst)
    assert analyst.post(BUTTON, {"judgement_set": "rated"}).status_code == 403
    assert analyst.get(BUTTON).status_code == 405


def test_without_judgements_the_page_says_where_they_come_from(db, evaluator):
    page = see(evaluator)
    assert BUTTON not in page
    assert "manage.py import_judgements NAME" in page


@pytest.mark.parametrize(("facts", "told"), [
    ({}, "waits for the learner, which does one thing at a time"),
    ({"state": "running"}, "is being evaluated"),
    ({"state": "running", "queries_done": 20, "queries_total": 1500}, "20 of 1,500 queries are searched"),
    ({"state": "failed", "is_open": False, "error": "no index serves it"}, "was not evaluated: no index serves it."),
])  # fmt: skip
def test_the_page_tells_how_far_an_evaluation_is(db, evaluator, facts, told):
    make_run(**facts)
    page = see(evaluator)
    assert told in page
    assert (BUTTON in page) == (facts.get("state") == "failed")
    assert ("/withdraw/" in page) == (not facts)


def test_what_a_worker_cannot_evaluate_is_told(shop, evaluator):
    run = make_run()
    evaluate_offline(run.pk)
    assert "was not evaluated: no index has been built yet; run: manage.py reindex." in see(evaluator)


def test_a_queue_that_is_down_is_told(small_shop, evaluator, monkeypatch, django_capture_on_commit_callbacks):
    def refuse(*args: Any, **options: Any) -> None:
        raise OperationalError("refused")

    monkeypatch.setattr(evaluate_offline, "apply_async", refuse)
    grade()
    with django_capture_on_commit_callbacks(execute=True):
        evaluator.post(BUTTON, {"judgement_set": "rated"})
    assert "the queue does not answer (refused); start it, then ask again" in see(evaluator)


def test_a_run_whose_worker_was_killed_is_queued_again_and_given_up_in_the_end(db, sent):
    run = make_run(state="running", tries=offline_runs.MOST_TRIES)
    evaluate_offline(run.pk)  # in another worker's hands
    assert resume_evaluations() == 0
    OfflineRun.objects.update(beat_at=timezone.now() - timedelta(hours=1))
    assert resume_evaluations() == 1
    assert sent == [run.pk]
    evaluate_offline(run.pk)
    run.refresh_from_db()
    assert (run.state, run.is_open) == ("failed", False)
    assert run.error == "3 workers died of it: ask for a smaller judgement set"


def test_a_slow_worker_that_was_taken_for_dead_keeps_its_run(db, sent):
    run = offline_runs.claim(make_run().pk)
    assert run
    OfflineRun.objects.update(beat_at=timezone.now() - timedelta(hours=1))
    assert resume_evaluations() == 1
    offline_runs._beat(run, 20, 100)
    assert offline_runs.claim(run.pk) is None
    offline_runs.end(run, "finished")
    assert not OfflineRun.objects.get().is_open


@pytest.mark.parametrize("state", ["running", "queued"])
def test_a_worker_leaves_a_run_that_is_not_its_own_any_more(small_shop, sent, monkeypatch, state):
    run = make_run()
    lost = {"state": state, "tries": 2} if state == "running" else {"state": "failed", "is_open": False}
    opened = offline.get_complete

    def take_away(config: Any) -> Any:
        OfflineRun.objects.update(**lost)
        return opened(config)

    monkeypatch.setattr(offline, "get_complete", take_away)
    evaluate_offline(run.pk)
    assert OfflineRun.objects.filter(queries_done=0, result=None, **lost).exists()
    assert not OfflineEvaluation.objects.exists()


def test_an_evaluation_that_waits_can_be_withdrawn(db, evaluator):
    run = make_run()
    answer = evaluator.post(f"/reports/offline/{run.pk}/withdraw/", follow=True)
    assert "was not evaluated: withdrawn by reader." in answer.content.decode()
    assert offline_runs.find_open() is None
    again = evaluator.post(f"/reports/offline/{run.pk}/withdraw/")
    assert again.status_code == 409
    assert f"evaluation {run.pk} does not wait any more, so it cannot be withdrawn" in again.content.decode()


def test_only_what_waits_is_withdrawn_and_only_by_who_may(db, analyst):
    run = make_run(state="running")
    assert analyst.post(f"/reports/offline/{run.pk}/withdraw/").status_code == 403
    assert not offline_runs.withdraw(run.pk, "reader")


@pytest.mark.parametrize("address", [BUTTON, "/reports/offline/1/withdraw/"])
def test_who_was_logged_out_comes_back_to_the_page_with_the_button(db, client, address):
    answer = client.post(address, {"judgement_set": "rated"})
    assert answer.url == "/reports/login/?next=/reports/offline/"


def test_an_experiment_without_variants_is_not_evaluated(small_shop, evaluator, sent):
    grade()
    make_experiment(running=False).variants.all().delete()
    answer = evaluator.post(BUTTON, {"judgement_set": "rated", "experiment": "ranking"})
    assert answer.status_code == 400
    told = "experiment &#x27;ranking&#x27; has no variants to evaluate: add two or more in the admin"
    assert told in answer.content.decode()
