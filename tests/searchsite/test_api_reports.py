"""Reports of experiments through the API: for keys that may read them, the same figures as on the pages."""

from __future__ import annotations

from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from django.core.cache import caches
from django.core.management import call_command

from experiments.models import Experiment
from experiments.reports import refresh
from searchsite.models import ApiKey
from tests.experiments.log_factories import log_event, log_search, make_experiment
from tests.searchsite.test_api import find_shape

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_counts_left():
    caches["throttles"].clear()


def bearer(*, can_read_reports: bool = True) -> dict[str, str]:
    _, secret = ApiKey.objects.create_key("warehouse", can_write=False, can_read_reports=can_read_reports)
    return {"authorization": f"Bearer {secret}"}


def report(name: str, **facts: Any) -> Experiment:
    """Return an experiment with a report: eight visitors, every second of whom clicks."""
    experiment = make_experiment(name, **facts)
    for number in range(8):
        label = "interleaved" if facts else "ab"[number % 2]
        search = log_search(f"v{number}", f"{name}:{label}")
        if number % 4 < 2:
            log_event(search, "click")
    refresh(experiment)
    return experiment


def test_reports_are_listed_with_what_they_say(client):
    report("old")
    Experiment.objects.update(status=Experiment.Status.STOPPED)
    report("mixed", kind="interleaving")
    make_experiment("draft", running=False)
    found = client.get("/api/v1/reports/", headers=bearer()).json()
    jsonschema.validate(found, find_shape("ReportList"))
    mixed, old = found["reports"]
    assert (mixed["name"], mixed["kind"], mixed["status"]) == ("mixed", "interleaving", "running")
    assert (old["name"], old["state"], old["status"]) == ("old", "no visitors", "stopped")
    assert old["links"]["page"] == "http://testserver/reports/old/"
    assert old["sentence"].startswith("Not yet: ")
    assert client.get(old["links"]["report"], headers=bearer()).json()["experiment"] == "old"


@pytest.mark.parametrize("facts", [{}, {"kind": "interleaving"}])
def test_a_report_is_that_of_the_page(admin_client, facts):
    report("ranking", **facts)
    found = admin_client.get("/api/v1/reports/ranking/", headers=bearer()).json()
    jsonschema.validate(found, find_shape("Report"))
    shown = admin_client.get("/reports/ranking.json").json()
    assert found.pop("made_at")[:22] == shown.pop("made_at")[:22]  # each to its own fraction of a second
    assert found == shown


def test_an_experiment_without_a_report_says_so(client):
    make_experiment()
    found = client.get("/api/v1/reports/ranking/", headers=bearer()).json()
    jsonschema.validate(found, find_shape("Report"))
    assert (found["made_at"], found["state"]) == (None, "no visitors")


@pytest.mark.parametrize("address", ["/api/v1/reports/", "/api/v1/reports/ranking/"])
def test_only_keys_that_may_read_reports_read_them(admin_client, address):
    make_experiment()
    unknown = admin_client.get(address)  # who is logged in at the pages, too
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (401, "not_authenticated")
    refused = admin_client.get(address, headers=bearer(can_read_reports=False))
    assert refused.status_code == 403
    assert "make one with: manage.py make_api_key NAME --reports" in refused.json()["error"]["message"]
    assert admin_client.get(address, headers=bearer()).status_code == 200
    assert admin_client.post(address, headers=bearer()).status_code == 405


def test_an_experiment_that_is_not_there_is_named(client):
    missing = client.get("/api/v1/reports/colour/", headers=bearer())
    assert missing.status_code == 404
    assert missing.json()["error"]["message"].startswith("There is no experiment 'colour'.")


def test_the_command_makes_a_key_that_reads_reports(client, capsys):
    call_command("make_api_key", "warehouse", "--read-only", "--reports")
    key = ApiKey.objects.find(capsys.readouterr().out.strip())
    assert (key.can_write, key.can_read_reports) == (False, True)
