"""Indexes of several models side by side: built, kept up to date, searched by configs that name them."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import call_command
from django.urls import reverse
from qdrant_client import QdrantClient

from catalog.models import Product
from retrieval import generations, indexing, serving, setup
from retrieval.engine.config import SearchConfig
from retrieval.engine.edge import EdgeIndex
from retrieval.engine.exported import EncoderError
from retrieval.engine.types import IndexUnavailable
from retrieval.live import MODELS_DIR, TWO_TOWER
from retrieval.models import IndexBuild, ModelVersion, PendingChange
from retrieval.promotion import promote, retire
from retrieval.tasks import build_beside
from tests.factories import make_product
from tests.retrieval.serving import announce, fill_the_disk, keep_version, live_version, manifest_of, states, titles
from tests.tiny_models import save_two_tower


def test_a_shadow_is_built_beside_the_live_model_and_both_answer(live, towers):
    build = indexing.build_shadow(towers.names[1])
    assert (build.state, build.model_version, build.embedded) == ("shadow", towers.versions[1], 6)
    assert (build.products_done, build.products_total) == (6, 6)
    assert states() == {live: "live", towers.versions[1]: "shadow"}
    beside = SearchConfig(name="challenger", model=towers.versions[1])
    assert live_version() == live
    assert setup.get_pipeline(beside).config.model == towers.versions[1]
    assert titles("steel kettle")[0] == titles("steel kettle", beside)[0] == "Steel kettle"
    product_id = Product.objects.get(title="Red mug").pk
    one, other = (setup.get_pipeline(each).generation.index.fetch_dense([product_id]) for each in (None, beside))
    assert one[product_id] @ other[product_id] < 0.99


def test_pipelines_share_their_generation_and_close_it_with_the_last(live):
    assert setup.get_pipeline("hybrid").generation is setup.get_pipeline("lexical").generation
    assert len(setup._generations) == 1
    indexing.rebuild()
    setup.get_pipeline("hybrid")
    assert len(setup._generations) == 2
    setup.get_pipeline("lexical")
    assert len(setup._generations) == 1


def test_a_config_that_names_what_does_not_serve_is_told(live, towers):
    with pytest.raises(IndexUnavailable, match=rf"no index serves model '{towers.versions[1]}'; .*reindex --model"):
        setup.get_pipeline(SearchConfig(name="challenger", model=towers.versions[1]))
    with pytest.raises(EncoderError, match="no cross-encoder model of version 'reader-9'"):
        setup.get_pipeline(SearchConfig(name="deep", reranker="reader-9", rerank_depth=None))


def test_changes_go_into_every_index_that_serves(live, towers):
    indexing.build_shadow(towers.names[1])
    announce(make_product("Steel sofa"))
    assert indexing.index_pending() == 1
    for version in towers.versions[:2]:
        assert titles("steel sofa", SearchConfig(model=version))[0] == "Steel sofa"
    assert not PendingChange.objects.exists()
    assert IndexBuild.objects.filter(is_full=False).count() == 2
    assert sorted(IndexBuild.objects.values_list("state", flat=True)) == ["live", "retired", "retired", "shadow"]


def test_changes_wait_until_the_last_index_has_them(live, towers, monkeypatch):
    indexing.build_shadow(towers.names[1])
    announce(make_product("Steel sofa"))
    with monkeypatch.context() as patch:
        patch.setattr(indexing, "_bring_in_beside", fill_the_disk)
        with pytest.raises(OSError, match="No space left"):
            indexing.index_pending()
    first = manifest_of(live)
    assert titles("steel sofa")[0] == "Steel sofa"
    assert PendingChange.objects.exists()
    assert indexing.index_pending() == 1
    assert manifest_of(live) == first, "it had the changes"
    assert manifest_of(towers.versions[1]).count == 7
    assert not PendingChange.objects.exists()


def test_a_rebuild_of_the_live_index_leaves_changes_for_those_beside_it(live, towers):
    indexing.build_shadow(towers.names[1])
    announce(make_product("Steel sofa"))
    indexing.rebuild()
    assert PendingChange.objects.exists()
    before = manifest_of(live)
    indexing.index_pending()
    assert (manifest_of(live), manifest_of(towers.versions[1]).count) == (before, 7)
    assert indexing.rebuild(version=towers.versions[1]).state == "shadow"


def test_a_shadow_whose_model_is_gone_serves_no_more_and_the_live_one_goes_on(live, tmp_path, caplog):
    name = str(save_two_tower(tmp_path / "passing", seed=9))
    version = indexing.build_shadow(name).model_version
    shutil.rmtree(MODELS_DIR / version)
    setup._load_encoder.cache_clear()
    announce(make_product("Steel sofa"))
    assert indexing.index_pending() == 1
    assert setup.get_store().served() == [live]
    assert f"{version} serves no more" in caplog.text
    assert titles("steel sofa")[0] == "Steel sofa"


def test_changes_come_in_while_vectors_of_a_shadow_are_made(live, towers):
    found: list[str] = []

    def change_once(build: IndexBuild) -> None:
        if build.state == "preparing" and not found:
            announce(make_product("Steel sofa"))
            indexing.index_pending()
            found.extend(titles("steel sofa"))

    build = indexing.build_shadow(towers.names[1], change_once)
    assert found[0] == "Steel sofa"
    assert (build.state, build.embedded, manifest_of(towers.versions[1]).count) == ("shadow", 7, 7)


def test_a_worker_that_builds_a_shadow_brings_changes_in_meanwhile(admin_client, live, shop, towers, monkeypatch):
    version = keep_version(shop, towers.names[1])
    monkeypatch.setattr(serving, "MEANWHILE_S", 0.0)
    monkeypatch.setattr(indexing, "build_shadow", change_first(indexing.build_shadow))
    build_beside(version.pk)
    assert titles("steel sofa")[0] == "Steel sofa"
    assert not PendingChange.objects.exists()
    assert IndexBuild.objects.filter(model_version=live, is_full=False).exists(), "before the shadow was there"
    listing = admin_client.get(reverse("admin:retrieval_modelversion_changelist")).content.decode()
    assert "shadow" in listing
    post(admin_client, "retire", version)
    assert setup.get_store().served() == [live]


def test_a_versions_page_tells_how_far_its_index_is(admin_client, live, shop, towers):
    version = keep_version(shop, towers.names[1], exported=towers.versions[1])
    IndexBuild.objects.create(
        model_version=towers.versions[1], state="preparing", products_done=1200, products_total=20_000
    )
    url = reverse("admin:retrieval_modelversion_change", args=[version.pk])
    assert "preparing its index, 1,200 of 20,000 products" in admin_client.get(url).content.decode()


def test_promoting_shows_how_far_the_index_is(live, shop, towers, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    keep_version(shop, towers.names[1])
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    call_command("models", "promote", "tower-2", "--force", stdout=io.StringIO())
    assert "Indexing" in terminal.getvalue()
    assert "6/6" in terminal.getvalue()
    assert live_version() == towers.versions[1]


def change_first(build: Callable[..., IndexBuild]) -> Callable[..., IndexBuild]:
    """Have a product change just before the index is built."""

    def change_and_build(*arguments: Any) -> IndexBuild:
        announce(make_product("Steel sofa"))
        return build(*arguments)

    return change_and_build


def post(client: Any, action: str, version: ModelVersion) -> None:
    client.post(reverse(f"admin:retrieval_modelversion_{action}", args=[version.pk]))


def test_a_killed_shadow_build_goes_on_without_embedding_twice(live, towers, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(EdgeIndex, "upsert", fill_the_disk)
        with pytest.raises(OSError, match="No space left"):
            indexing.build_shadow(towers.names[1])
    failed = IndexBuild.objects.first()
    assert failed
    assert (failed.state, failed.embedded, "No space" in failed.error) == ("failed", 6, True)
    IndexBuild.objects.create(model_version=towers.versions[1], state="preparing")  # as a kill leaves it
    assert (indexing.build_shadow(towers.names[1]).embedded, titles("red mug")[0]) == (0, "Red mug")
    assert not IndexBuild.objects.filter(state="preparing").exists()


def test_a_shadow_retired_while_changes_come_in_stays_retired(live, towers):
    version = indexing.build_shadow(towers.names[1]).model_version
    announce(*(make_product(f"Steel sofa for {number}") for number in range(3)))  # many: built anew

    def retire_shadow(build: IndexBuild) -> None:
        if build.model_version == version and version in setup.get_store().served():
            retire(version)

    indexing.index_pending(retire_shadow)
    assert setup.get_store().served() == [live]
    assert states() == {live: "live", version: "retired"}


@pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning")
def test_shadows_can_live_on_a_server(live, towers, settings, monkeypatch):
    settings.QDRANT_URL, client = "http://qdrant.invalid", QdrantClient(":memory:")
    monkeypatch.setattr(generations, "get_client", lambda: client)
    setup.forget_pipelines()
    builds = [indexing.rebuild(), indexing.build_shadow(towers.names[1])]
    announce(make_product("Steel sofa"))
    indexing.index_pending()
    names = sorted(each.name for each in client.get_collections().collections)
    assert names == sorted(f"searchsite-{build.generation}" for build in builds)
    promote(TWO_TOWER, towers.names[1])
    assert (live_version(), titles("steel sofa")[0]) == (towers.versions[1], "Steel sofa")
