"""The health page: what it says of a whole, a lesser and a broken site, and what it never says."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from retrieval import indexing, setup
from retrieval.models import PendingChange
from searchsite import health
from tests.factories import make_product

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_remembered():
    health._reaches_broker.cache_clear()
    yield
    health._reaches_broker.cache_clear()


@pytest.fixture
def indexed_shop(shop):
    make_product("Red ceramic mug")
    indexing.rebuild()
    setup.forget_pipelines()
    return shop


def test_a_whole_site_is_ok(client, indexed_shop):
    answer = client.get("/healthz")
    assert answer.status_code == 200
    found = answer.json()
    assert (found["status"], found["problems"], found["database"]) == ("ok", [], {"ok": True})
    live = setup.find_generation()
    assert live is not None
    assert (found["index"]["state"], found["index"]["generation"]) == ("live", live.name)
    assert found["index"]["products"] == 1
    assert 0 <= found["index"]["age_s"] < 60
    assert found["queue"] == {"pending": 0, "oldest_age_s": 0.0, "broker_reachable": True}
    assert found["model"]["version"] == setup.get_encoder().model_version
    assert "no-store" in answer["Cache-Control"]


def test_asking_loads_no_index_and_asks_little(client, indexed_shop, django_assert_max_num_queries):
    with django_assert_max_num_queries(2):
        client.get("/healthz")
    assert setup._pipelines == {}


def test_without_an_index_the_site_is_degraded_but_answers(client, shop):
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert answer.json()["index"] == {"state": "missing"}
    assert "run manage.py reindex" in answer.json()["problems"][0]


@pytest.mark.parametrize("content", ["", "{}", '{"format_version": 99}', "[]"])
def test_a_damaged_index_is_told(client, indexed_shop, content):
    folder = setup.find_generation()
    assert folder is not None
    (folder / "manifest.json").write_text(content)
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert answer.json()["index"] == {"state": "unusable", "generation": folder.name}


def test_an_index_of_another_language_is_told(client, indexed_shop, settings):
    settings.SEARCHSITE = settings.SEARCHSITE | {"LANGUAGE": "german"}
    answer = client.get("/healthz").json()
    assert (answer["index"]["state"], answer["index"]["products"]) == ("unusable", 1)


def test_a_model_that_was_not_made_ready_is_told(client, indexed_shop, settings):
    settings.SEARCHSITE = settings.SEARCHSITE | {"MODEL": "some/other-model"}
    answer = client.get("/healthz").json()
    assert (answer["model"], answer["index"]["state"]) == ({"version": None}, "unusable")


def test_a_reranker_that_was_not_made_ready_is_told(client, indexed_shop, settings):
    settings.SEARCHSITE = settings.SEARCHSITE | {"RERANKER": "some/reader-model"}
    answer = client.get("/healthz").json()
    assert (answer["status"], answer["index"]["state"]) == ("degraded", "live")
    assert answer["problems"] == ["The reranker was not made ready, searches go without: run manage.py reindex."]


def test_changes_that_nobody_takes_in_are_told(client, indexed_shop):
    PendingChange.objects.create(product_ids=[1], queued_at=timezone.now() - timedelta(seconds=100))
    PendingChange.objects.create(product_ids=[2])
    answer = client.get("/healthz").json()
    assert (answer["status"], answer["queue"]["pending"]) == ("ok", 2)
    assert 100 <= answer["queue"]["oldest_age_s"] < 130
    PendingChange.objects.update(queued_at=timezone.now() - timedelta(minutes=6))
    answer = client.get("/healthz").json()
    assert (answer["status"], answer["problems"]) == (
        "degraded",
        ["Changes wait for more than 5 minutes: is a worker running?"],
    )


@pytest.mark.parametrize("url", ["redis://:hidden@127.0.0.1:1/0", "amqp://guest:hidden@127.0.0.1:1//"])
def test_a_queue_that_does_not_answer_is_told_without_its_address(client, indexed_shop, settings, url):
    settings.CELERY_BROKER_URL = url
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert not answer.json()["queue"]["broker_reachable"]
    assert b"hidden" not in answer.content
    assert b"127.0.0.1" not in answer.content


def test_a_queue_folder_that_is_gone_is_told(client, indexed_shop, settings):
    if not settings.CELERY_BROKER_URL.startswith("filesystem:"):
        pytest.skip("the queue is a service here")
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"data_folder_out": str(indexed_shop / "gone")}
    assert not client.get("/healthz").json()["queue"]["broker_reachable"]


def test_a_database_that_is_down_is_503(client, indexed_shop):
    def refuse(*args: object) -> None:
        raise OperationalError("connection to server at 10.1.2.3, user hidden, failed")

    with connection.execute_wrapper(refuse):
        answer = client.get("/healthz")
    assert (answer.status_code, answer.json()["status"], answer.json()["database"]) == (503, "down", {"ok": False})
    assert b"hidden" not in answer.content
    assert str(indexed_shop).encode() not in answer.content


def test_it_can_only_be_read(client):
    assert client.post("/healthz").status_code == 405
