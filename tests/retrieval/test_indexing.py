"""From changed products to a live index, with the real model and a real Edge index."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from qdrant_client import QdrantClient

from catalog.models import Product
from catalog.signals import products_changed
from retrieval import generations, indexing, setup
from retrieval.engine.edge import EdgeIndex
from retrieval.engine.types import IndexUnavailable, Query
from retrieval.models import Embedding, IndexBuild, PendingChange
from tests.factories import make_product

ROOT = Path(__file__).parents[2]


def announce(*products: Product) -> None:
    products_changed.send(Product, product_ids=[product.pk for product in products])


def search(text: str) -> list[str]:
    hits = setup.get_pipeline().search(Query(text)).hits
    return [product.title for product in Product.objects.in_order([hit.product_id for hit in hits])]


@pytest.fixture
def mugs(shop):
    return [make_product(f"{colour} ceramic mug") for colour in ("Red", "Blue", "Green", "White", "Black", "Pink")]


def test_a_rebuild_makes_the_catalogue_searchable(mugs):
    make_product("Steel kettle", active=False)
    build = indexing.rebuild()
    assert (build.state, build.products_total, build.embedded) == ("live", 6, 6)
    assert search("blue mug")[0] == "Blue ceramic mug"
    assert "Steel kettle" not in search("steel kettle")
    assert not PendingChange.objects.exists()


def test_without_an_index_the_error_names_the_cure(shop):
    with pytest.raises(IndexUnavailable, match=r"no index has been built yet; run: manage\.py reindex"):
        setup.get_pipeline()


def test_an_empty_catalogue_can_be_indexed_and_searched(shop):
    assert indexing.rebuild().products_total == 0
    assert search("mug") == search("") == []


def test_changes_become_a_new_generation_and_the_rest_is_kept(mugs):
    first = indexing.rebuild().generation
    kettle = make_product("Steel kettle with whistle")
    PendingChange.objects.all().delete()
    announce(kettle)
    assert indexing.index_pending() == 1
    live = IndexBuild.objects.get(state="live")
    assert (live.is_full, live.embedded, live.generation != first) == (False, 1, True)
    assert search("whistling kettle")[0] == "Steel kettle with whistle"
    assert search("pink mug")[0] == "Pink ceramic mug"
    assert indexing.index_pending() == 0


def test_renamed_and_removed_products_follow(mugs):
    indexing.rebuild()
    mugs[0].title = "Brass table lamp"
    mugs[0].save()
    PendingChange.objects.all().delete()
    announce(mugs[0])
    indexing.index_pending()
    assert search("lamp")[0] == "Brass table lamp"
    assert search("red ceramic mug")[0] != "Red ceramic mug"
    Product.objects.filter(pk=mugs[0].pk).update(active=False)
    announce(mugs[0])
    indexing.index_pending()
    assert "Brass table lamp" not in search("lamp")


def test_no_text_is_embedded_twice(mugs):
    indexing.rebuild()
    make_product("Red ceramic mug")  # another product, the same text
    assert indexing.rebuild().embedded == 0
    assert Embedding.objects.count() == 6


def test_a_failed_build_leaves_the_live_index_and_its_reason(mugs, monkeypatch):
    indexing.rebuild()
    make_product("Steel kettle")

    def fill_the_disk(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(EdgeIndex, "upsert", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        indexing.rebuild()
    failed = IndexBuild.objects.first()
    assert failed is not None
    assert (failed.state, "No space left" in failed.error) == ("failed", True)
    assert search("red mug")[0] == "Red ceramic mug"


def test_changes_wait_in_the_same_transaction_as_their_products(shop, django_capture_on_commit_callbacks):
    product = make_product("Steel kettle")
    PendingChange.objects.all().delete()
    with django_capture_on_commit_callbacks() as callbacks:
        announce(product)
    assert PendingChange.objects.all().product_ids() == {product.pk}
    assert len(callbacks) == 1


def test_a_queue_that_is_down_loses_nothing(shop, monkeypatch, caplog, django_capture_on_commit_callbacks):
    from kombu.exceptions import OperationalError

    from retrieval.tasks import index_pending_products

    def refuse(*args: object, **kwargs: object) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(index_pending_products, "apply_async", refuse)
    with django_capture_on_commit_callbacks(execute=True):
        announce(make_product())
    assert PendingChange.objects.exists()
    assert "changes wait for the worker's clock: connection refused" in caplog.text


def test_another_model_version_is_refused_until_rebuilt(mugs):
    generation = indexing.rebuild().generation
    manifest = setup.get_store().root / generation / "manifest.json"
    facts = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(facts | {"model_version": "other-1"}))
    setup.forget_pipelines()
    with pytest.raises(IndexUnavailable, match=r"model version 'other-1', this site uses .*; run: manage\.py reindex"):
        setup.get_pipeline()
    announce(mugs[0])
    indexing.index_pending()
    assert search("red mug")[0] == "Red ceramic mug"


@pytest.mark.parametrize("name", ["columns.npz", "columns.json", "lexicon.json", "moments.npz", "manifest.json"])
@pytest.mark.parametrize("damage", ["remove", "truncate", "fill"])
def test_a_damaged_index_is_named_with_the_cure(mugs, name, damage):
    folder = setup.get_store().root / indexing.rebuild().generation
    setup.forget_pipelines()
    path = folder / name
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if damage == "truncate" else b"\x00junk")
    with pytest.raises(IndexUnavailable, match=r"run: manage\.py reindex"):
        setup.get_pipeline()


def test_a_watched_index_answers_until_the_new_one_is_open(mugs):
    indexing.rebuild()
    before = setup.get_pipeline()
    stop = threading.Event()
    watcher = threading.Thread(target=setup.watch_generations, args=(stop, 0.01))
    watcher.start()
    try:
        live = indexing.rebuild().generation
        deadline = time.monotonic() + 30
        while setup.get_pipeline().generation.name != live and time.monotonic() < deadline:
            assert setup.get_pipeline() is before or setup.get_pipeline().generation.name == live
        assert setup.get_pipeline().generation.name == live
        manifest = setup.get_store().root / indexing.rebuild().generation / "manifest.json"
        manifest.write_text("{}")
        assert search("blue mug")[0] == "Blue ceramic mug"
    finally:
        stop.set()
        watcher.join()


@pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning")
def test_vectors_can_live_on_a_server(mugs, settings, monkeypatch):
    settings.QDRANT_URL, client = "http://qdrant.invalid", QdrantClient(":memory:")
    monkeypatch.setattr(generations, "get_client", lambda: client)
    first = indexing.rebuild().generation
    assert search("blue mug")[0] == "Blue ceramic mug"
    kettle = make_product("Steel kettle with whistle")
    PendingChange.objects.all().delete()
    announce(kettle)
    indexing.index_pending()
    assert search("whistling kettle")[0] == "Steel kettle with whistle"
    assert [each.name for each in client.get_collections().collections] == [f"searchsite-{first}"]
    settings.QDRANT_URL = ""
    setup.forget_pipelines()
    with pytest.raises(IndexUnavailable, match=r"has no shard folder; run: manage\.py reindex"):
        setup.get_pipeline()


def test_reindex_command_prints_facts(mugs, capsys):
    call_command("reindex", "--json")
    facts = json.loads(capsys.readouterr().out)
    assert (facts["products"], facts["embedded"]) == (6, 6)
    announce(make_product("Kettle"))
    call_command("reindex", "--pending")
    assert "1 embedded" in capsys.readouterr().out


def test_search_command_explains(mugs, capsys):
    with pytest.raises(CommandError, match="no index has been built yet"):
        call_command("search", "mug")
    indexing.rebuild()
    call_command("search", "blue mug", "--json", "--explain", "--limit", "1")
    found = json.loads(capsys.readouterr().out)
    assert found["hits"][0]["title"] == "Blue ceramic mug"
    assert found["hits"][0]["explanation"]["lexical_rank"] == 1
    assert len(found["hits"]) == 1
    call_command("search", "blue mug", "--config", "lexical", "--explain")
    assert "(lexical)" in capsys.readouterr().out
    with pytest.raises(CommandError, match="unknown config 'best', expected one of: hybrid, lexical"):
        call_command("search", "mug", "--config", "best")
    with pytest.raises(CommandError, match="--limit 0: expected 1 to 1000"):
        call_command("search", "mug", "--limit", "0")


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(tmp_path, default_model):
    """Kill a build with -9 in the middle; the next run finishes it, and nothing is missing or doubled."""
    cleared = dict.fromkeys(("DATABASE_URL", "QDRANT_URL", "REDIS_URL", "CELERY_BROKER_URL"), "")
    environment = os.environ | cleared | {"SEARCHSITE_DATA_DIR": str(tmp_path), "SEARCHSITE_RERANKER": "none"}

    def manage(*arguments: str) -> str:
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout

    (tmp_path / "models").symlink_to(default_model.parent)
    manage("migrate")
    fill = (
        "from catalog.models import Product; from catalog.signals import products_changed;"
        "Product.objects.bulk_create([Product(sku=str(n), title=f'Product number {n} of many words')"
        " for n in range(6000)]);"
        "products_changed.send(Product, product_ids=list(Product.objects.values_list('pk', flat=True)))"
    )
    manage("shell", "--no-imports", "-c", fill)
    worker = subprocess.Popen([sys.executable, "manage.py", "reindex", "--pending"], cwd=ROOT, env=environment)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("generations/gen-*/shard")) and time.monotonic() < deadline:
        time.sleep(0.02)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    count = (
        "from retrieval.models import IndexBuild, PendingChange; "
        "print(len(PendingChange.objects.product_ids()), IndexBuild.objects.first().state)"
    )
    assert manage("shell", "--no-imports", "-c", count).split() == ["6000", "building"]
    assert json.loads(manage("reindex", "--pending", "--json"))["products"] == 6000
    assert manage("shell", "--no-imports", "-c", count).split() == ["0", "live"]
    states = "from retrieval.models import *; print(*sorted(IndexBuild.objects.values_list('state', flat=True)))"
    assert manage("shell", "--no-imports", "-c", states).split() == ["failed", "live"]
    assert json.loads(manage("search", "", "--json"))["total"] == 6000
