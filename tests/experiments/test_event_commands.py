"""Keeping events and forgetting them, from the command line."""

from __future__ import annotations

import json
import os
import time
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.utils import timezone

from experiments import retention, spool
from experiments.events import record_event
from experiments.models import Event, Refusal, SearchLog, StoredReport, TakenBatch
from experiments.retention import prune
from experiments.signals import visitor_erased
from experiments.spool import Batch
from experiments.tasks import prune_events
from experiments.visitors import ShopVisitor
from retrieval.models import Asker, PastQuery
from tests.experiments.log_factories import log_search, make_experiment


def run(command: str, *arguments: str) -> Any:
    output = StringIO()
    call_command(command, *arguments, "--json", stdout=output)
    return json.loads(output.getvalue())


def log_days_ago(days: float, client_id: str = "ada") -> None:
    """Log a search and a click on it."""
    at, number = timezone.now() - timedelta(days=days), Event.objects.count()
    SearchLog.objects.create(query_id=f"q{number}", client_id=client_id, timestamp=at)
    Event.objects.create(
        event_id=f"e{number}", query_id=f"q{number}", client_id=client_id, action_name="click", timestamp=at
    )


def test_what_is_older_than_events_are_kept_is_deleted(log, settings, monkeypatch):
    monkeypatch.setattr(retention, "BATCH_SIZE", 2)
    settings.SEARCHSITE = settings.SEARCHSITE | {"EVENT_RETENTION_DAYS": 10}
    for days in (0, 9, 11, 12, 13, 14, 15):
        log_days_ago(days)
    Refusal.objects.create(day=timezone.now().date() - timedelta(days=11), reason="forged", count=3)
    TakenBatch.objects.create(batch_id="old", taken_at=timezone.now() - timedelta(days=31))
    assert prune_events() == 10
    assert (SearchLog.objects.count(), Event.objects.count()) == (2, 2)
    assert not Refusal.objects.exists()
    assert not TakenBatch.objects.exists()
    assert prune().total == 0


@pytest.mark.django_db
@pytest.mark.parametrize("table", [SearchLog, Event, TakenBatch])
def test_what_is_looked_for_by_its_time_has_an_index_for_it(table):
    columns = {"taken_at", "received_at"} & {column.name for column in table._meta.fields}
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, table._meta.db_table)
    indexed = {each["columns"][0] for each in found.values() if each["index"]}
    assert columns <= indexed


def test_what_was_set_aside_or_left_half_written_goes_with_the_rest(log, settings):
    settings.SEARCHSITE = settings.SEARCHSITE | {"EVENT_RETENTION_DAYS": 10}
    waiting = spool.put(Batch([], [{"event_id": "e1"}]))
    for name, days in (("1-a.refused", 9), ("2-b.refused", 11), ("3-c.draft", 0), ("4-d.draft", 1)):
        path, at = waiting.with_name(name), time.time() - days * 86_400
        path.write_text("{}")
        os.utime(path, (at, at))
    os.utime(waiting, (0, 0))
    prune()
    left = {path.name for path in waiting.parent.iterdir()}
    assert left == {waiting.name, "1-a.refused", "3-c.draft"}
    prune(timedelta())
    assert {path.name for path in waiting.parent.iterdir()} == {waiting.name, "3-c.draft"}


def test_the_command_deletes_what_is_older_than_told(log):
    for days in (0, 2, 4):
        log_days_ago(days)
    assert run("prune_events", "--older-than", "3") == {"searches": 1, "events": 1}
    assert run("prune_events") == {"searches": 0, "events": 0}
    with pytest.raises(CommandError, match="-1"):
        run("prune_events", "--older-than", "-1")
    assert run("prune_events", "--older-than", "0") == {"searches": 2, "events": 2}


def test_a_visitor_is_forgotten_with_what_is_still_on_its_way(log):
    log_days_ago(0)
    log_days_ago(0, "bob")
    record_event(ShopVisitor("ada"), "click", sku="A1")
    from experiments.buffer import buffer

    buffer.spool()
    counts = run("erase_visitor", "ada")
    assert (counts["searches"], counts["events"]) == (1, 2)
    assert set(Event.objects.values_list("client_id", flat=True)) == {"bob"}
    assert set(SearchLog.objects.values_list("client_id", flat=True)) == {"bob"}
    assert spool.count_waiting() == 0


def test_past_queries_are_forgotten_with_who_asked_them(log, settings):
    settings.SEARCHSITE = settings.SEARCHSITE | {"EVENT_RETENTION_DAYS": 10}
    for text, client_ids in (("mug for ada", ["ada"]), ("red mug", ["ada", "bob"]), ("old mug", ["bob"])):
        PastQuery.objects.record(text, 3, client_ids)
    Asker.objects.filter(query__text="old mug").update(last_at=timezone.now() - timedelta(days=11))
    prune()
    assert run("erase_visitor", "ada")["past queries"] == 1
    assert list(PastQuery.objects.values_list("text", "count")) == [("red mug", 1)]


def test_what_was_set_aside_of_a_visitor_is_forgotten_too(log):
    path = spool.put(Batch([{"query_id": "q1", "client_id": "ada"}, {"query_id": "q2", "client_id": "bob"}]))
    spool.set_aside(path)
    events: list[Any] = [{"event_id": "e1", "client_id": "ada"}, 7]
    hers, damaged, strange = (spool.put(Batch([], rows)) for rows in (events[:1], [], events[1:]))
    damaged.write_text('{"client_id": "ada"')
    for each in (hers, damaged, strange):
        spool.set_aside(each)
    assert run("erase_visitor", "ada")["rows set aside"] == 3
    assert spool.read(path.with_suffix(".refused")).searches == [{"query_id": "q2", "client_id": "bob"}]
    assert {left.stem for left in spool.find_folder().iterdir()} == {path.stem, strange.stem}
    assert run("erase_visitor", "ad")["rows set aside"] == 0


def test_reports_keep_no_query_that_only_the_visitor_typed(log):
    experiment = make_experiment(running=False)
    for client_id, text in (("ada", "mug for ada"), ("ada", "red mug"), ("bob", "red mug")):
        log_search(client_id, text=text)
    gains = [{"text": "mug for ada", "gain": 0.2}, {"text": "red mug", "gain": 0.1}]
    content = {"sentence": "so", "queries": {"b": {"gained": gains, "lost": gains[:1]}}}
    report = StoredReport.objects.create(experiment=experiment, content=content)
    StoredReport.objects.create(experiment=make_experiment("other"))
    assert run("erase_visitor", "ada")["reports"] == 1
    report.refresh_from_db()
    assert report.content == {"sentence": "so", "queries": {"b": {"gained": gains[1:], "lost": []}}}


def test_nobody_is_no_visitor_to_forget(log):
    log_days_ago(0, "")
    with pytest.raises(CommandError, match="client_id '': expected the id of one visitor"):
        call_command("erase_visitor", "")
    assert (SearchLog.objects.count(), Event.objects.count()) == (1, 1)


def test_forgetting_reaches_the_floors_above(log, capsys):
    def forget_letters(client_id: str, **kwargs: Any) -> dict[str, int]:
        return {"letters": len(client_id)}

    visitor_erased.connect(forget_letters)
    try:
        call_command("erase_visitor", "ada")
    finally:
        visitor_erased.disconnect(forget_letters)
    assert "0 searches, 0 events" in (output := capsys.readouterr().out)
    assert "3 letters" in output


def test_a_visitor_nobody_knows_is_no_error(log):
    assert set(run("erase_visitor", "nobody").values()) == {0}


def test_what_waits_is_taken_in_by_hand(log, capsys):
    batch = Batch([], [{"event_id": "e1", "action_name": "click", "timestamp": timezone.now().isoformat()}])
    spool.put(batch)

    def refuse(*arguments: object) -> None:
        raise OperationalError("connection refused")

    with connection.execute_wrapper(refuse), pytest.raises(CommandError, match="they stay on disk"):
        call_command("write_events")
    assert run("write_events") == {"batches": 1, "rows": 1}
    call_command("write_events")
    assert capsys.readouterr().out.strip() == "0 batches taken in, 0 rows were new"
