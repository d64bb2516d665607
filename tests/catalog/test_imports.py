"""Imports: idempotent, touching only what changed, surviving kills, telling what they did."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from catalog import imports
from catalog.imports import import_file, upsert_rows
from catalog.models import Category, ImportRun, Product, SeenProduct
from catalog.readers import ImportRefused
from catalog.signals import products_changed
from catalog.tasks import resume_imports, run_import

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.django_db


@pytest.fixture
def announced():
    """The ids announced, in order."""
    found: list[int] = []

    def note(product_ids, **kwargs):
        found.extend(product_ids)

    products_changed.connect(note)
    yield found
    products_changed.disconnect(note)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make_rows(count: int, **facts: object) -> list[dict[str, Any]]:
    return [
        {"sku": f"S{n}", "title": f"Mug {n}", "price": n, "category": "Kitchen > Mugs", **facts} for n in range(count)
    ]


def counts(run: ImportRun) -> tuple[int, int, int, int]:
    return run.created, run.updated, run.unchanged, run.rejected


def test_a_file_becomes_products(tmp_path, announced):
    run = import_file(write_rows(tmp_path / "a.jsonl", make_rows(2500, brand="Potta", attributes={"Colour": "Red"})))
    assert (run.state, run.format, run.rows, *counts(run)) == ("finished", "jsonl", 2500, 2500, 0, 0, 0)
    product = Product.objects.get(sku="S7")
    assert (product.title, product.price_cents, product.currency, product.brand) == ("Mug 7", 700, "USD", "Potta")
    assert product.category is not None
    assert (product.category.path, product.attributes) == ("kitchen/mugs", {"Colour": "Red"})
    assert product.content_hash == product.compute_content_hash()
    assert sorted(announced) == sorted(Product.objects.values_list("pk", flat=True))
    assert run.bytes_read == run.bytes_total > 0


def test_importing_again_touches_only_what_changed(tmp_path, announced):
    rows = make_rows(30)
    import_file(write_rows(tmp_path / "a.jsonl", rows))
    before = dict(Product.objects.values_list("sku", "updated_at"))
    announced.clear()
    rows[3]["price"] = "99.99"
    run = import_file(write_rows(tmp_path / "a.jsonl", [*rows, {"sku": "new", "title": "Bowl"}]))
    assert counts(run) == (1, 1, 29, 0)
    after = dict(Product.objects.values_list("sku", "updated_at"))
    assert [sku for sku in before if before[sku] != after[sku]] == ["S3"]
    assert sorted(announced) == sorted(Product.objects.filter(sku__in=["S3", "new"]).values_list("pk", flat=True))


def test_a_column_that_is_not_there_changes_nothing(tmp_path):
    import_file(write_rows(tmp_path / "a.jsonl", make_rows(2, description="Holds tea.", rating=4.5)))
    run = import_file(write_rows(tmp_path / "b.jsonl", [{"sku": "S1", "price": 5}, {"sku": "S9", "price": 5}]))
    assert counts(run) == (0, 1, 0, 1)
    product = Product.objects.get(sku="S1")
    assert (product.title, product.description, product.rating, product.price_cents) == (
        "Mug 1",
        "Holds tea.",
        4.5,
        500,
    )
    assert run.rejections.get().reason == "a new product needs a title"


def test_the_last_row_of_a_sku_wins(tmp_path):
    rows = [{"sku": "A", "title": "First"}, {"sku": "B", "title": "Other"}, {"sku": "A", "title": "Last"}]
    run = import_file(write_rows(tmp_path / "a.jsonl", rows))
    assert counts(run) == (2, 0, 1, 0)
    assert Product.objects.get(sku="A").title == "Last"


def test_rows_of_one_sku_add_up(tmp_path):
    rows: list[dict[str, Any]] = [{"sku": "A", "title": "Mug", "category": "Kitchen"}, {"sku": "A", "price": 5}]
    assert counts(import_file(write_rows(tmp_path / "a.jsonl", rows))) == (1, 0, 1, 0)
    product = Product.objects.select_related("category").get()
    assert (product.title, product.price_cents, str(product.category)) == ("Mug", 500, "kitchen")


def test_every_field_is_written_and_read_back_the_same(tmp_path):
    row = {
        "sku": "A", "title": "Mug “X”", "description": "Tea.\nCoffee.", "brand": "Potta", "category": ["Home", "Mugs"],
        "price": "1.250", "currency": "KWD", "image_url": "/a.svg", "gtin": "4006381333931", "rating": 4.5,
        "rating_count": 7, "stock": 0, "popularity": 0.25, "released": "2025-01-31", "active": False,
        "attributes": {"Größe": "L", "dishwasher safe": True},
    }  # fmt: skip
    path = write_rows(tmp_path / "a.jsonl", [row])
    import_file(path)
    product = Product.objects.select_related("category").get()
    facts = [getattr(product, name) for name in ("price_cents", "rating", "stock", "popularity", "released", "active")]
    assert facts == [1250, 4.5, 0, 0.25, date(2025, 1, 31), False]
    assert product.attributes == {"Größe": "L", "dishwasher safe": "yes"}
    assert product.content_hash == product.compute_content_hash()
    created_at = product.created_at
    assert counts(import_file(path)) == (0, 0, 1, 0)
    import_file(write_rows(path, [{"sku": "A", "price": None, "category": None, "rating": ""}]))
    product.refresh_from_db()
    assert (product.price_cents, product.category, product.rating, product.stock) == (None, None, None, 0)
    assert product.created_at == created_at < product.updated_at


def test_rejected_rows_keep_number_column_value_and_reason(tmp_path):
    rows = [*make_rows(2), {"sku": "X", "title": "Bad", "price": "free"}, {"title": "No sku"}, *make_rows(3)[2:]]
    run = import_file(write_rows(tmp_path / "a.jsonl", rows))
    assert counts(run) == (3, 0, 0, 2)
    assert list(run.rejections.values_list("row", "column", "value", "reason")) == [
        (3, "price", "free", "expected a price such as 12.99 or 12.99 USD"),
        (4, "sku", "None", "every product needs a SKU"),
    ]


def test_a_dry_run_counts_and_writes_nothing(tmp_path, announced):
    import_file(write_rows(tmp_path / "a.jsonl", make_rows(2)))
    announced.clear()
    rows = [*make_rows(1, title="Cup"), *make_rows(4)[1:], {"sku": "Z"}]
    run = import_file(write_rows(tmp_path / "a.jsonl", rows), is_dry_run=True, is_full=True)
    assert counts(run) == (2, 1, 1, 1)
    assert Product.objects.count() == 2
    assert not announced
    import_file(write_rows(tmp_path / "b.jsonl", [{"sku": "Q", "title": "q", "category": "New"}]), is_dry_run=True)
    assert not Category.objects.filter(path="new").exists()


def test_a_dry_run_counts_as_the_import_does(tmp_path):
    import_file(write_rows(tmp_path / "a.jsonl", make_rows(5)))
    repeated = make_rows(1500, brand="Potta")[3:]
    feed = [*repeated, {"sku": "S1", "price": "x"}, *repeated, *make_rows(1600, brand="Potta")[1500:]]
    path = write_rows(tmp_path / "b.jsonl", feed)
    dry, real = import_file(path, is_dry_run=True, is_full=True), import_file(path, is_full=True)
    assert (dry.deactivated, *counts(dry)) == (real.deactivated, *counts(real)) == (2, 1595, 2, 1497, 1)


def test_a_full_feed_deactivates_what_it_does_not_list(tmp_path, announced):
    import_file(write_rows(tmp_path / "a.jsonl", make_rows(5)))
    announced.clear()
    run = import_file(write_rows(tmp_path / "b.jsonl", make_rows(3)), is_full=True)
    assert (run.deactivated, *counts(run)) == (2, 0, 0, 3, 0)
    assert sorted(Product.objects.active().values_list("sku", flat=True)) == ["S0", "S1", "S2"]
    assert len(announced) == 2
    assert not SeenProduct.objects.exists()
    back = import_file(write_rows(tmp_path / "a.jsonl", make_rows(5, active=True)), is_full=True)
    assert (back.updated, Product.objects.active().count()) == (2, 5)


def test_a_full_feed_without_a_valid_row_deactivates_nothing(tmp_path):
    import_file(write_rows(tmp_path / "a.jsonl", make_rows(3)))
    with pytest.raises(ImportRefused, match="has no valid row, so nothing was deactivated"):
        import_file(write_rows(tmp_path / "b.jsonl", [{"sku": "Q", "price": "x"}]), is_full=True)
    assert Product.objects.active().count() == 3


def test_a_rejected_row_of_a_full_feed_lists_its_product(tmp_path):
    import_file(write_rows(tmp_path / "a.jsonl", make_rows(3)))
    rows: list[dict[str, Any]] = [{"sku": "S0", "price": 1}, {"sku": "S1", "price": "on request"}]
    run = import_file(write_rows(tmp_path / "b.jsonl", rows), is_full=True)
    assert (run.rejected, run.deactivated) == (1, 1)
    assert sorted(Product.objects.active().values_list("sku", flat=True)) == ["S0", "S1"]


def test_a_full_feed_with_rows_that_cannot_be_read_deactivates_nothing(tmp_path):
    import_file(write_rows(tmp_path / "a.jsonl", make_rows(3)))
    (tmp_path / "b.jsonl").write_text('{"sku": "S0", "price": 9}\n{"sku": "S1", \n')
    with pytest.raises(ImportRefused, match=r"has 1 rows that cannot be read, .* nothing was deactivated"):
        import_file(tmp_path / "b.jsonl", is_full=True)
    assert Product.objects.active().count() == 3
    (tmp_path / "c.csv").write_text("sku,price\nS0,9\nS1,9,too,many\n")
    assert import_file(tmp_path / "c.csv", is_full=True).deactivated == 1


def test_what_a_killed_full_feed_noted_is_forgotten(tmp_path):
    import_file(write_rows(tmp_path / "a.jsonl", make_rows(3)))
    killed = ImportRun.objects.create(source="a", state="running", is_full=True)
    SeenProduct.objects.create(run=killed, product=Product.objects.get(sku="S1"))
    ImportRun.objects.filter(pk=killed.pk).update(beat_at=timezone.now() - timedelta(minutes=5))
    import_file(tmp_path / "a.jsonl")
    assert not SeenProduct.objects.exists()


def test_a_full_feed_that_breaks_off_deactivates_nothing(tmp_path):
    import_file(write_rows(tmp_path / "a.jsonl", make_rows(2000)))
    (tmp_path / "b.json").write_text(json.dumps(make_rows(1500, brand="Potta"))[:-50])
    with pytest.raises(ImportRefused, match="breaks off"):
        import_file(tmp_path / "b.json", is_full=True)
    run = ImportRun.objects.first()
    assert run is not None
    assert (run.state, "breaks off" in run.error) == ("failed", True)
    assert (run.updated, Product.objects.active().count()) == (1499, 2000)


def test_a_file_without_skus_is_refused_before_a_row_is_written(tmp_path):
    (tmp_path / "a.csv").write_text("name;preis\nMug;3\n")
    with pytest.raises(ImportRefused, match=r"a.csv has no column for the SKU; its columns are: 'name', 'preis'"):
        import_file(tmp_path / "a.csv")
    run = ImportRun.objects.get()
    assert (run.state, run.rows) == ("failed", 0)
    run = import_file(tmp_path / "a.csv", mapping={"name": "sku", "preis": "title"})
    assert run.created == 1


def test_an_empty_shop_needs_titles(tmp_path):
    path = write_rows(tmp_path / "a.jsonl", [{"sku": "A", "price": 3}])
    with pytest.raises(ImportRefused, match=r"has no column for the title; .* name it with --map COLUMN=title"):
        import_file(path)
    Product.objects.create(sku="A", title="Mug")
    assert import_file(path).updated == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [("sku,title\n", "has no rows"), ("[]", "has no rows"), ("[{}]", "its first rows are empty; check its format"),
     ("{broken\n{broken\n", "breaks off")],
)  # fmt: skip
def test_a_file_without_products_is_refused(tmp_path, content, reason):
    (tmp_path / "a").write_text(content)
    with pytest.raises(ImportRefused, match=reason):
        import_file(tmp_path / "a")
    assert ImportRun.objects.get().state == "failed"


def test_rejections_beyond_the_limit_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(imports, "MAX_STORED_REJECTIONS", 1500)
    rows = make_rows(2300, rating=7)
    run = import_file(write_rows(tmp_path / "a.jsonl", rows))
    assert (run.rejected, run.rejections.count()) == (2300, 1500)


def test_a_column_with_a_character_no_database_takes_is_told(tmp_path):
    run = import_file(write_rows(tmp_path / "a.jsonl", [*make_rows(1), {"sku": "X", "title": "x", "a\x00": {"b": 1}}]))
    assert run.rejections.get().column == "a\ufffd"


def test_a_file_whose_name_is_no_text_is_imported(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.jsonl")
    assert import_file(write_rows(path, make_rows(1))).source == "caf\ufffd.jsonl"
    with pytest.raises(ImportRefused):
        import_file(write_rows(path, [{"a": 1}]))


def test_upserted_rows_are_written_together(announced):
    result = upsert_rows([{"sku": "A", "title": "Mug", "price": "9.00"}, {"sku": "B"}, {"sku": "C", "title": "Cup"}])
    assert (result.created, result.updated, result.unchanged) == (2, 0, 0)
    assert [(error.row, error.column, error.reason) for error in result.rejections] == [
        (2, "title", "a new product needs a title")
    ]
    assert len(announced) == 2


def test_a_task_delivered_twice_imports_once(tmp_path, settings):
    settings.MEDIA_ROOT = tmp_path
    write_rows(tmp_path / "a.jsonl", make_rows(3))
    run = ImportRun.objects.create(source="a.jsonl", upload="a.jsonl")
    run_import(run.pk)
    run_import(run.pk)
    run.refresh_from_db()
    assert (run.state, *counts(run)) == ("finished", 3, 0, 0, 0)
    refused = ImportRun.objects.create(source="b.jsonl", upload="b.jsonl")
    run_import(refused.pk)
    run_import(refused.pk + 1)  # deleted before a worker came to it
    refused.refresh_from_db()
    assert (refused.state, "there is no file" in refused.error) == ("failed", True)


def test_two_workers_do_not_import_one_file(tmp_path, settings):
    settings.MEDIA_ROOT = tmp_path
    write_rows(tmp_path / "a.jsonl", make_rows(3))
    run = ImportRun.objects.create(source="a.jsonl", upload="a.jsonl", state="running")
    run_import(run.pk)
    assert not Product.objects.exists()
    # A broker that delivers again knows that the worker before is dead.
    run_import.push_request(delivery_info={"redelivered": True})
    run_import.run(run.pk)
    run_import.pop_request()
    assert Product.objects.count() == 3


def test_imports_whose_message_or_worker_was_lost_are_resumed(
    tmp_path, settings, monkeypatch, django_capture_on_commit_callbacks
):
    settings.MEDIA_ROOT = tmp_path
    write_rows(tmp_path / "a.jsonl", make_rows(3))
    lost = ImportRun.objects.create(source="a.jsonl", upload="a.jsonl")
    killed = ImportRun.objects.create(source="a.jsonl", upload="a.jsonl", state="running")
    ImportRun.objects.create(source="by command", state="running")
    ImportRun.objects.update(beat_at=timezone.now() - timedelta(minutes=5))
    waiting = ImportRun.objects.create(source="a.jsonl", upload="a.jsonl")
    monkeypatch.setattr(run_import, "apply_async", lambda args, kwargs=None, **options: run_import(*args))
    with django_capture_on_commit_callbacks(execute=True):
        assert resume_imports() == 2
    states = dict(ImportRun.objects.values_list("pk", "state"))
    assert (states[lost.pk], states[killed.pk], states[waiting.pk]) == ("finished", "finished", "pending")
    assert resume_imports() == 0


def test_a_run_that_stands_still_was_interrupted():
    run = ImportRun.objects.create(source="a", state="running")
    assert not run.is_interrupted
    ImportRun.objects.update(beat_at=timezone.now() - timedelta(minutes=5))
    run.refresh_from_db()
    assert run.is_interrupted


def test_products_changed_by_hand_are_announced(announced):
    product = Product.objects.create(sku="A", title="Mug")
    assert product.content_hash == product.compute_content_hash()
    Product.objects.create(sku="B", title="Cup")
    before = product.updated_at
    assert Product.objects.select_related("category").set_active(False) == 2
    assert Product.objects.all().set_active(False) == 0
    product.refresh_from_db()
    assert product.updated_at > before
    assert (product.active, product.content_hash) == (False, product.compute_content_hash())
    product.delete()
    Product.objects.all().delete()
    assert len(announced) == 6


@pytest.mark.slow
def test_a_killed_import_finishes_when_run_again(tmp_path):
    environment = os.environ | {"SEARCHSITE_DATA_DIR": str(tmp_path), "DATABASE_URL": "", "REDIS_URL": ""}
    environment |= {"CELERY_BROKER_URL": "", "QDRANT_URL": ""}
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sku", "title", "price"])
        writer.writerows([f"S{n}", f"Mug number {n}", n % 90] for n in range(60_000))
    command = [sys.executable, "manage.py", "import_products", str(tmp_path / "a.csv"), "--json", "--full"]
    subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=environment, check=True)
    first = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    database = tmp_path / "shop.sqlite3-wal"
    deadline = time.monotonic() + 60
    while (not database.exists() or database.stat().st_size < 1_000_000) and time.monotonic() < deadline:
        time.sleep(0.02)
    first.send_signal(signal.SIGKILL)
    first.wait()
    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    facts = json.loads(again.stdout)
    assert facts["created"] + facts["unchanged"] == facts["rows"] == 60_000
    assert 0 < facts["created"] < 60_000
    assert facts["updated"] == facts["deactivated"] == 0
