"""From memory to disk to the database: nothing lost, nothing twice, whatever is down in between."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import uuid
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, connection
from kombu.exceptions import OperationalError as QueueDown

from experiments import buffer as buffers
from experiments import intake, spool
from experiments.buffer import EventBuffer
from experiments.events import Action, record_event
from experiments.intake import take_in_spool, write_batch, write_rows
from experiments.models import Event, Reason, Refusal, SearchLog, TakenBatch
from experiments.spool import Batch
from experiments.tasks import write_events
from experiments.visitors import ShopVisitor
from tests.searchsite.test_orders import file_database, run_at_once  # noqa: F401 - a fixture

ADA = ShopVisitor("ada")
ROOT = Path(__file__).parents[2]
NOW = "2026-03-01T09:30:00+00:00"


def make_event(event_id: str = "", **facts: Any) -> dict[str, Any]:
    usual = {"action_name": "click", "client_id": "ada", "object_id": "A1", "timestamp": NOW, "application": "shop"}
    return usual | {"event_id": event_id or str(uuid.uuid4())} | facts


def make_search(query_id: str, **facts: Any) -> dict[str, Any]:
    return {"query_id": query_id, "client_id": "ada", "user_query": "Mug", "text": "mug", "timestamp": NOW} | facts


def refused() -> dict[str, int]:
    return dict(Refusal.objects.values_list("reason", "count"))


def waiting_ids() -> set[str]:
    """Return the ids of the events that wait on disk."""
    return {event["event_id"] for path in spool.list_waiting() for event in spool.read(path).events}


def refuse_writes(execute, sql, params, many, context):
    raise OperationalError("connection refused")


@pytest.fixture
def woken(monkeypatch):
    """How often a worker was woken; it does nothing then."""
    calls: list[int] = []
    monkeypatch.setattr(write_events, "delay", lambda: calls.append(1))
    return calls


@pytest.fixture
def queue_down(monkeypatch):
    def refuse() -> None:
        raise QueueDown("connection refused")

    monkeypatch.setattr(write_events, "delay", refuse)


# --- batches ------------------------------------------------------------------------------------------


def test_a_batch_is_written_once(log):
    batch = Batch([make_search("q1")], [make_event("e1"), make_event("e2")])
    batch.refusals[Reason.FORGED] += 2
    assert write_batch(batch) == 3
    assert write_batch(batch) == 0
    assert refused() == {Reason.FORGED: 2}


def test_rows_that_are_there_already_are_left_as_they_are(log):
    write_batch(Batch([make_search("q1", total=5)], [make_event("e1")]))
    again = Batch([make_search("q1", total=9)], [make_event("e1", object_id="B2"), make_event("e2")])
    assert write_batch(again) == 1
    assert SearchLog.objects.get().total == 5
    assert Event.objects.get(event_id="e1").object_id == "A1"
    assert refused() == {Reason.DUPLICATE: 1}


def test_the_same_id_of_another_application_is_another_event(log):
    assert write_batch(Batch([], [make_event("e1"), make_event("e1", application="app")])) == 2


def test_what_is_written_is_told_apart_from_what_was_there(log):
    write_rows([make_search("q1")], [make_event("e1")])
    written = write_rows(
        [make_search("q1"), make_search("q2")], [make_event("e1"), make_event("e1"), make_event("e3")], {}
    )
    assert (written.accepted, written.duplicates) == (2, 3)
    assert refused() == {Reason.DUPLICATE: 2}


def test_a_batch_that_fails_leaves_nothing_behind(log):
    with pytest.raises(DatabaseError):
        write_batch(Batch([make_search("q1")], [make_event("e1", quantity=None)]))
    assert (SearchLog.objects.count(), TakenBatch.objects.count()) == (0, 0)


def test_writers_of_the_same_events_write_each_once(file_database):  # noqa: F811
    events = [make_event(f"e{number}") for number in range(200)]
    searches = [make_search(f"q{number}") for number in range(50)]
    found: list[intake.Written] = []
    jobs = [lambda step=step: found.append(write_rows(searches[::step], events[::step], {})) for step in (1, -1, 2, -2)]
    run_at_once(*jobs)
    assert (Event.objects.count(), SearchLog.objects.count()) == (200, 50)
    assert sum(one.accepted for one in found) == 250
    assert sum(one.duplicates for one in found) == 500
    assert refused() == {Reason.DUPLICATE: 400}


def test_takers_of_the_same_spool_take_each_batch_once(file_database, tmp_path, settings):  # noqa: F811
    settings.DATA_DIR = tmp_path
    for number in range(6):
        batch = Batch([], [make_event(f"{number}-{row}") for row in range(20)])
        batch.refusals[Reason.FOREIGN] += 1
        spool.put(batch)
    found: list[int] = []
    run_at_once(*[lambda: found.append(take_in_spool())] * 4)
    assert (sum(found), Event.objects.count(), spool.count_waiting()) == (120, 120, 0)
    assert refused() == {Reason.FOREIGN: 6}


# --- the spool ----------------------------------------------------------------------------------------


def test_a_taker_killed_after_reading_loses_nothing(log):
    path = spool.put(Batch([], [make_event("e1")]))
    spool.read(path)  # and then it is killed
    assert take_in_spool() == 1
    assert not path.exists()


def test_a_taker_killed_after_writing_repeats_nothing(log):
    batch = Batch([], [make_event("e1")])
    batch.refusals[Reason.FORGED] += 1
    path = spool.put(batch)
    write_batch(spool.read(path))  # and then it is killed, before it could remove the file
    assert take_in_spool() == 0
    assert (Event.objects.count(), refused(), path.exists()) == (1, {Reason.FORGED: 1}, False)


def test_a_writer_killed_while_writing_leaves_no_half_batch(log):
    path = spool.put(Batch([], [make_event("e1")]))
    path.rename(path.with_suffix(".draft"))
    assert (spool.count_waiting(), take_in_spool()) == (0, 0)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"batch_id": "x"}', '{"searches": 1}', "\xff"])
def test_a_damaged_file_is_set_aside_and_the_others_taken(log, content):
    damaged = spool.put(Batch([], [make_event("e0")]))
    damaged.write_bytes(content.encode("latin-1"))
    spool.put(Batch([], [make_event("e1")]))
    assert take_in_spool() == 1
    assert damaged.with_suffix(".refused").exists()
    assert spool.count_waiting() == 0


def test_a_batch_that_no_database_takes_is_set_aside_and_the_others_taken(log):
    spool.put(Batch([], [make_event("e0", quantity=None)]))
    spool.put(Batch([], [make_event("e1", timestamp="yesterday")]))
    spool.put(Batch([], [make_event("e2")]))
    assert take_in_spool() == 1
    assert Event.objects.get().event_id == "e2"
    assert len(list(spool.find_folder().glob("*.refused"))) == 2


def test_a_row_that_no_database_takes_is_set_aside_and_the_others_of_its_batch_taken(log):
    searches = [make_search(f"q{number}") for number in range(5)]
    events = [make_event(f"e{number}") for number in range(20)] + [make_event("bad", timestamp="yesterday")]
    path = spool.put(batch := Batch([*searches, make_search("bad", total=[])], events, Counter({Reason.FORGED: 2})))
    assert take_in_spool() == 25
    assert not Event.objects.filter(event_id="bad").exists()
    left = spool.read(path.with_suffix(".refused"))
    assert (left.batch_id, [*left.searches, *left.events]) == (batch.batch_id, [batch.searches[-1], batch.events[-1]])
    assert (spool.count_waiting(), refused()) == (0, {Reason.FORGED: 2})
    spool.put(batch)  # as if its taker was killed before it could remove the file
    assert (take_in_spool(), refused()) == (0, {Reason.FORGED: 2})


@pytest.mark.parametrize("rows", ["[1]", '"ab"', "7", "[null, {}]", "{}"])
def test_a_batch_of_what_are_no_rows_is_set_aside(log, rows):
    path = spool.put(Batch([], [make_event("e0")]))
    path.write_text(f'{{"batch_id": "x", "searches": {rows}, "events": {rows}, "refusals": {{}}}}')
    spool.put(Batch([], [make_event("e1")]))
    take_in_spool()
    assert (spool.count_waiting(), spool.count_set_aside()) == (0, 1)
    assert Event.objects.filter(event_id="e1").exists()


def test_two_that_set_the_same_file_aside_do_not_mind(log):
    path = spool.put(Batch([], [make_event("e1")]))
    spool.set_aside(path)
    spool.set_aside(path)
    assert spool.count_set_aside() == 1


def test_files_of_other_names_are_passed_over(log):
    spool.put(Batch([], [make_event("e1")]))
    for name in ("notes.json", "-.json", "x-1.json", "²-1.json"):
        (spool.find_folder() / name).write_text("{}")
    assert (spool.count_waiting(), take_in_spool(), spool.count_waiting()) == (1, 1, 0)


def test_only_what_waits_long_enough_is_taken_where_so_asked(log):
    spool.put(Batch([], [make_event("e1")]))
    assert take_in_spool(older_than_s=60) == 0
    assert take_in_spool() == 1


# --- the buffer ---------------------------------------------------------------------------------------


def test_recording_asks_the_database_nothing(log, woken, django_assert_num_queries):
    with django_assert_num_queries(0):
        record_event(ADA, Action.CLICK, sku="A1")
        buffers.buffer.flush()
    assert (len(woken), spool.count_waiting()) == (1, 1)
    assert write_events() == 1


def test_a_worker_is_woken_once_for_what_waits(log, woken):
    for _ in range(3):
        record_event(ADA, Action.CLICK, sku="A1")
        buffers.buffer.flush()
    assert (len(woken), spool.count_waiting()) == (1, 3)


def test_nothing_recorded_wakes_nobody(log, woken):
    buffers.buffer.flush()
    assert (len(woken), spool.count_waiting()) == (0, 0)


def test_without_a_queue_events_are_written_from_here(log, queue_down):
    record_event(ADA, Action.CLICK, sku="A1")
    buffers.buffer.flush()
    assert (Event.objects.count(), spool.count_waiting()) == (1, 0)


def test_without_queue_and_database_events_wait_on_disk_and_come_in_once(log, queue_down):
    with connection.execute_wrapper(refuse_writes):
        for number in range(3):
            record_event(ADA, Action.PURCHASE, sku="A1", event_id=f"o-{number}")
            with suppress(DatabaseError):  # the thread says so and goes on
                buffers.buffer.flush()
        with pytest.raises(DatabaseError):
            take_in_spool()
    assert waiting_ids() == {"o-0", "o-1", "o-2"}
    assert write_events() == 3
    assert write_events() == 0
    assert (Event.objects.count(), spool.count_waiting(), refused()) == (3, 0, {})


def test_many_rows_go_in_batches(log, woken):
    for number in range(1200):
        buffers.buffer.add("events", make_event(f"e{number}"))
    buffers.buffer.flush()
    sizes = [len(spool.read(path)) for path in spool.list_waiting()]
    assert (sum(sizes), max(sizes)) == (1200, 500)  # the buffer's thread, woken by 500, may have taken some more
    assert take_in_spool() == 1200


def test_a_full_buffer_goes_to_disk_at_once(log, monkeypatch):
    monkeypatch.setattr(buffers, "MAX_WAITING", 10)
    buffer = EventBuffer()
    for number in range(10):
        buffer.add("events", make_event(f"e{number}"))
    assert len(waiting_ids()) == 10


def test_a_disk_that_is_full_keeps_events_in_memory(log, monkeypatch, caplog):
    (log / "spool").write_text("a file where the folder should be")
    buffer = EventBuffer()
    buffer.add("events", make_event("e1"))
    buffer.add_refusals(Reason.FORGED, 2)
    buffer.spool()
    assert "wait in memory" in caplog.text
    (log / "spool").unlink()
    buffer.spool()
    assert waiting_ids() == {"e1"}
    take_in_spool()
    assert refused() == {Reason.FORGED: 2}


def test_a_row_that_cannot_be_spooled_takes_no_other_with_it(log, caplog):
    buffer = EventBuffer()
    for number in range(20):
        buffer.add("events", make_event(f"e{number}", quantity=object() if number == 7 else 1))
    buffer.spool()
    assert waiting_ids() == {f"e{number}" for number in range(20)} - {"e7"}
    assert "cannot be spooled" in caplog.text


def test_who_flushes_waits_for_what_another_thread_is_writing(log, monkeypatch):
    buffer, put, is_writing, may_write = EventBuffer(), spool.put, threading.Event(), threading.Event()

    def put_slowly(batch: Batch) -> Path:
        is_writing.set()
        may_write.wait(10)
        return put(batch)

    monkeypatch.setattr(spool, "put", put_slowly)
    monkeypatch.setattr(buffers, "FLUSH_INTERVAL_S", 0.01)
    monkeypatch.setattr(buffer, "flush", buffer.spool)
    buffer.add("events", make_event("e1"))
    assert is_writing.wait(10)
    threading.Timer(0.2, may_write.set).start()
    buffer.spool()
    assert waiting_ids() == {"e1"}


def test_a_forked_child_waits_for_no_thread_of_its_parent(log, monkeypatch):
    buffer, put, is_writing, may_write = buffers.buffer, spool.put, threading.Event(), threading.Event()

    def put_slowly(batch: Batch) -> Path:
        if threading.current_thread() is writer:
            is_writing.set()
            may_write.wait(10)
        return put(batch)

    def record() -> None:
        buffer.add("events", make_event("child"))
        buffer.spool()

    monkeypatch.setattr(spool, "put", put_slowly)
    writer = threading.Thread(target=buffer.spool)
    buffer.add("events", make_event("first"))
    writer.start()
    assert is_writing.wait(10)
    buffer.add("events", make_event("second"))
    child = multiprocessing.get_context("fork").Process(target=record)
    child.start()
    child.join(10)
    child.kill()
    assert (child.exitcode, waiting_ids()) == (0, {"child"})
    may_write.set()
    writer.join()
    buffer.spool()
    assert waiting_ids() == {"first", "second", "child"}
    assert [len(spool.read(path)) for path in spool.list_waiting()] == [1, 1, 1]


def test_many_threads_lose_nothing(log, woken):
    buffer = EventBuffer()

    def record(first: int) -> None:
        for number in range(first, first + 300):
            buffer.add("events", make_event(f"e{number}"))
            if number % 50 == 0:
                buffer.spool()

    threads = [threading.Thread(target=record, args=(first,)) for first in range(0, 1800, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    buffer.spool()
    assert waiting_ids() == {f"e{number}" for number in range(1800)}


# --- whole processes ----------------------------------------------------------------------------------

SET_UP = """
import django; django.setup()
from django.core.management import call_command
from experiments import buffer
from experiments.events import record_event
from experiments.models import Event
from experiments.visitors import ShopVisitor
"""
MIGRATE = "call_command('migrate', verbosity=0)\n"
RECORD = "record_event(ShopVisitor('ada'), 'click', sku='A1', event_id='e1')\n"
FLUSH = "buffer.buffer.flush(); print(Event.objects.count())\n"


def run_python(code: str, folder: Path, **variables: str) -> str:
    cleared = dict.fromkeys(("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "QDRANT_URL"), "")
    settings = {"DJANGO_SETTINGS_MODULE": "searchsite.settings", "SEARCHSITE_DATA_DIR": str(folder)}
    environment = os.environ | cleared | settings | variables
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout


def test_a_process_that_ends_leaves_its_events_on_disk(tmp_path, settings):
    run_python(SET_UP + RECORD, tmp_path)
    settings.DATA_DIR = tmp_path
    assert waiting_ids() == {"e1"}


def test_a_queue_that_is_really_down_holds_nobody_up(tmp_path):
    output = run_python(SET_UP + MIGRATE + RECORD + FLUSH, tmp_path, CELERY_BROKER_URL="redis://127.0.0.1:1/0")
    assert output.split() == ["1"]


# --- what the health page says ------------------------------------------------------------------------


def test_the_health_page_tells_how_much_waits(client, log):
    assert client.get("/healthz").json()["events"] == {"waiting": 0, "oldest_age_s": 0.0, "set_aside": 0}
    path = spool.put(Batch([], [make_event("e1")]))
    found = client.get("/healthz").json()
    assert found["events"]["waiting"] == 1
    assert not any("batches of events" in problem for problem in found["problems"])
    old = path.with_name(f"{spool.find_time_ns(path) - 301 * 10**9}-old.json")
    path.rename(old)
    found = client.get("/healthz").json()
    assert found["events"]["oldest_age_s"] > 300
    assert any("manage.py write_events" in problem for problem in found["problems"])
    spool.set_aside(old)
    found = client.get("/healthz").json()
    assert (found["events"]["waiting"], found["events"]["set_aside"], found["status"]) == (0, 1, "degraded")


def test_the_spool_holds_plain_json(log):
    found = json.loads(spool.put(Batch([make_search("q1")], [make_event("e1")])).read_text())
    assert found.keys() == {"batch_id", "searches", "events", "refusals"}
