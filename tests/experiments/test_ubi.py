"""User Behavior Insights, out and in: what is written can be read back, by others too."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from experiments import analytics, rollups
from experiments.latencies import LEAST_MS, MOST_MS, find_step
from experiments.models import Event, Refusal, SearcherDay, SearchLog, VisitorDay
from experiments.ubi import read_event, read_query, write_event, write_query
from experiments.ubi_fields import UbiError
from tests.experiments.log_factories import log_event, log_search, make_experiment

TEXT = {"type": "string", "maxLength": 100}
TIME = {"type": "string", "format": "date-time"}
# What version 1.3 asks of an event and of a query.
EVENT = {
    "required": ["action_name", "timestamp"],
    "properties": dict.fromkeys(
        ("application", "action_name", "query_id", "session_id", "client_id", "user_id", "message_type"), TEXT
    )
    | {
        "timestamp": TIME,
        "message": {"type": "string", "maxLength": 1024},
        "event_attributes": {
            "type": "object",
            "required": ["position"],
            "properties": {
                "object": {
                    "required": ["object_id"],
                    "properties": {"object_id": {"type": "string", "maxLength": 256}},
                },
                "position": {"required": ["ordinal"], "properties": {"ordinal": {"type": "integer"}}},
            },
        },
    },
}
QUERY = {
    "required": ["user_query"],
    "properties": dict.fromkeys(("application", "query_id", "client_id", "object_id_field"), TEXT)
    | {
        "timestamp": TIME,
        "user_query": {"type": "string"},
        "query_attributes": {"type": "object"},
        "query_response_hit_ids": {"type": "array", "items": {"type": "string"}},
    },
}
FOREIGN_EVENT = {
    "application": "other-shop",
    "action_name": "add_to_cart",
    "query_id": "1234-user-5678",
    "session_id": "84266fdb",
    "client_id": "Firefox@0967084",
    "user_id": "u1",
    "timestamp": "2026-03-01T09:30:00.123000+00:00",
    "message_type": "CONVERSION",
    "message": "Größe L",
    "event_attributes": {
        "object": {"object_id": "XYZ-1", "object_id_type": "product", "object_id_field": "sku"},
        "position": {"ordinal": 3, "x": 10},
        "browser": "Firefox",
    },
}
FOREIGN_QUERY = {
    "application": "other-shop",
    "query_id": "1234-user-5678",
    "client_id": "Firefox@0967084",
    "user_query": "  Red MUG ",
    "timestamp": "2026-03-01T09:29:00+00:00",
    "object_id_field": "sku",
    "query_response_id": "r1",
    "query_response_hit_ids": ["XYZ-1", "XYZ-2"],
    "query_attributes": {"filters": {"brand": ["x"]}, "experiment": "e1"},
}


def run(command: str, *arguments: object) -> dict[str, Any]:
    output = StringIO()
    call_command(command, *map(str, arguments), "--json", stdout=output)
    found: dict[str, Any] = json.loads(output.getvalue())
    return found


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_lines(path: Path, *values: object) -> Path:
    path.write_text("".join(value if isinstance(value, str) else json.dumps(value) + "\n" for value in values))
    return path


def find_rows() -> list[dict[str, Any]]:
    """Return all there is in the log, but for keys that only count and when it came in."""
    searches = [{**row, "received_at": None} for row in SearchLog.objects.order_by("pk").values()]
    events = Event.objects.order_by("application", "event_id").values()
    return [*searches, *({**row, "id": 0, "received_at": None} for row in events)]


def fill_log() -> None:
    at = datetime(2026, 3, 1, 9, 30, 0, 123456, tzinfo=UTC)
    SearchLog.objects.create(
        query_id="q1", client_id="ada", user_query="Mug “rot”\n", text="mug “rot”", timestamp=at, application="shop",
        total=0, latency_ms=3.25, config_name="hybrid", variant="ranking:b", notice="reduced", page_size=24,
        hit_skus=["A/1", "😀"], query_attributes={"brands": ["x"], "page": 2}, extras={"query_response_id": "r"},
        is_simulated=True, is_bot=True,
    )  # fmt: skip
    SearchLog.objects.create(query_id="q2", timestamp=at)
    Event.objects.create(
        event_id="e1", application="shop", action_name="purchase", query_id="q1", client_id="ada", object_id="A/1",
        position=3, timestamp=at, value_cents=10**12, currency="JPY", quantity=2, is_simulated=True,
        event_attributes={"is_narrowed": True, "object": {"colour": "red"}}, extras={"session_id": "s"},
    )  # fmt: skip
    Event.objects.create(event_id="e2", action_name="share", timestamp=at)


def test_the_round_trip_is_lossless(log, tmp_path):
    fill_log()
    before = find_rows()
    assert run("export_ubi", tmp_path / "out") == {"queries": 2, "events": 2}
    SearchLog.objects.all().delete()
    Event.objects.all().delete()
    files = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in files] == ["ubi_events.jsonl", "ubi_queries.jsonl"]
    assert run("import_ubi", *files)["accepted"] == 4
    assert find_rows() == before


def test_what_is_imported_into_a_shop_at_work_reaches_its_reports_and_its_page_about_searches(log, tmp_path):
    long_ago = timezone.now() - timedelta(days=2)
    experiment = make_experiment()
    log_event(log_search("ada", received_at=long_ago), "click", received_at=long_ago)
    log_search("bob")
    SearchLog.objects.update(timestamp=long_ago)
    run("export_ubi", tmp_path)
    SearchLog.objects.filter(client_id="ada").delete()
    Event.objects.all().delete()
    for _ in range(2):  # what came since the last time is counted
        rollups.roll_up(experiment)
        analytics.refresh()
        run("import_ubi", tmp_path / "ubi_queries.jsonl", tmp_path / "ubi_events.jsonl")
    assert list(VisitorDay.objects.filter(client_id="ada").values_list("searches", "clicks")) == [(1, 1)]
    assert SearcherDay.objects.filter(client_id="ada").exists()


def test_an_import_can_be_run_again(log, tmp_path):
    fill_log()
    before = find_rows()
    run("export_ubi", tmp_path)
    done = run("import_ubi", tmp_path / "ubi_queries.jsonl", tmp_path / "ubi_events.jsonl")
    assert done == {"accepted": 0, "duplicates": 4, "refused": 0, "first_errors": []}
    assert (find_rows(), Refusal.objects.count()) == (before, 0)


def test_what_is_exported_is_as_the_schema_asks(log, tmp_path):
    fill_log()
    run("export_ubi", tmp_path)
    for name, schema in (("ubi_queries.jsonl", QUERY), ("ubi_events.jsonl", EVENT)):
        for value in read_lines(tmp_path / name):
            jsonschema.validate(value, schema)


def test_what_others_wrote_comes_back_as_it_was(log, tmp_path):
    path = write_lines(tmp_path / "theirs.jsonl", FOREIGN_QUERY, FOREIGN_EVENT)
    assert run("import_ubi", path)["accepted"] == 2
    event, search = Event.objects.get(), SearchLog.objects.get()
    assert (event.object_id, event.position, search.text) == ("XYZ-1", 3, "red mug")
    found = write_event(event)
    assert found.pop("event_id") == event.event_id
    assert found["event_attributes"].pop("received_at")
    assert found == FOREIGN_EVENT
    query = write_query(search)
    assert query["query_attributes"].pop("received_at")
    assert query == FOREIGN_QUERY


def test_times_choose_what_is_exported(log, tmp_path):
    for day in (1, 2, 3):
        Event.objects.create(event_id=f"e{day}", action_name="click", timestamp=datetime(2026, 3, day, tzinfo=UTC))
    assert run("export_ubi", tmp_path, "--since", "2026-03-02")["events"] == 2
    assert run("export_ubi", tmp_path, "--since", "2026-03-02", "--until", "2026-03-03")["events"] == 1
    assert run("export_ubi", tmp_path, "--until", "2026-03-01T00:00:01+00:00")["events"] == 1
    assert [event["event_id"] for event in read_lines(tmp_path / "ubi_events.jsonl")] == ["e1"]
    with pytest.raises(CommandError, match="'soon': expected a day or time such as 2026-03-01"):
        run("export_ubi", tmp_path, "--since", "soon")


def test_bad_lines_are_told_by_number_and_the_others_taken(log, tmp_path):
    path = write_lines(
        tmp_path / "mixed.jsonl",
        FOREIGN_QUERY,
        "not json\n",
        "\n",
        FOREIGN_EVENT | {"timestamp": "soon"},
        '{"action_name": "click", "timestamp": NaN}\n',
        [],
        FOREIGN_EVENT | {"message": "a\x00b"},
        "[" * 100_000 + "\n",
        FOREIGN_EVENT,
    )
    done = run("import_ubi", path)
    assert (done["accepted"], done["refused"]) == (2, 6)
    lines = [error.partition(":")[0].removeprefix("mixed.jsonl, line ") for error in done["first_errors"]]
    assert lines == ["2", "4", "5", "6", "7", "8"]
    assert "timestamp 'soon': expected a time of ISO 8601" in done["first_errors"][1]


@pytest.mark.parametrize("value", ["1e400", "1" + "0" * 400, "[" * 900 + "]" * 900])
def test_numbers_and_nesting_beyond_all_measure_are_told_and_the_other_lines_taken(log, tmp_path, value):
    bad = json.dumps(FOREIGN_QUERY | {"query_attributes": {"latency_ms": "?"}}).replace('"?"', value)
    done = run("import_ubi", write_lines(tmp_path / "mixed.jsonl", FOREIGN_QUERY, bad + "\n", FOREIGN_EVENT))
    assert (done["accepted"], done["refused"]) == (2, 1)
    assert "mixed.jsonl, line 2" in done["first_errors"][0]


@pytest.mark.parametrize("latency_ms", [float("inf"), float("nan"), 0.0, -1.0, 1e300])
def test_every_latency_falls_on_a_step(latency_ms):
    assert find_step(LEAST_MS) <= find_step(latency_ms) <= find_step(MOST_MS)


def test_a_line_that_is_not_utf_8_is_told(log, tmp_path):
    path = tmp_path / "latin.jsonl"
    path.write_bytes(b'{"action_name": "\xff"}\n')
    assert run("import_ubi", path)["refused"] == 1


def test_a_file_that_is_not_there_is_told(log, tmp_path):
    with pytest.raises(CommandError, match=r"nowhere\.jsonl cannot be read"):
        call_command("import_ubi", str(tmp_path / "nowhere.jsonl"))


def test_people_are_told_in_words(log, tmp_path, capsys):
    call_command("import_ubi", str(write_lines(tmp_path / "a.jsonl", FOREIGN_EVENT, "x\n")))
    call_command("export_ubi", str(tmp_path))
    output = capsys.readouterr()
    assert "1 taken, 0 were there before, 1 refused" in output.out
    assert "refused: a.jsonl, line 2" in output.err
    assert "0 queries and 1 events written to" in output.out


def test_large_files_are_read_in_parts(log, tmp_path):
    path = write_lines(tmp_path / "a.jsonl", *(FOREIGN_EVENT | {"query_id": f"q{number}"} for number in range(2_500)))
    assert run("import_ubi", path)["accepted"] == 2_500
    assert run("export_ubi", tmp_path)["events"] == 2_500


def test_what_ubi_can_do_without_is_needed_of_a_front_end_only():
    bare = {"action_name": "click", "timestamp": "2026-03-01T09:30:00Z"}
    assert read_event(bare, is_strict=False)["client_id"] == ""
    with pytest.raises(UbiError, match="client_id") as caught:
        read_event(bare)
    assert [problem.field for problem in caught.value.problems] == ["client_id", "event_attributes.object.object_id"]
    with pytest.raises(UbiError, match="user_query"):
        read_query(bare, is_strict=False)


def test_a_position_of_zero_is_none():
    told = FOREIGN_EVENT | {"event_attributes": {"position": {"ordinal": 0}}}
    assert read_event(told, is_strict=False)["position"] is None


def test_an_id_that_is_a_number_is_a_text():
    told = FOREIGN_EVENT | {"event_attributes": {"object": {"object_id": 123}, "position": {"ordinal": 1}}}
    assert read_event(told)["object_id"] == "123"
