"""Promote, roll back, retire: over real indexes of two tiny models, and with searches going on meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from catalog.models import Product
from experiments import control
from experiments.models import Experiment, Variant
from retrieval import generations, indexing, registry, setup
from retrieval.engine.config import SearchConfig, get_config
from retrieval.engine.exported import ModelCard
from retrieval.engine.index import GenerationStore
from retrieval.engine.types import EngineError, IndexUnavailable, Query
from retrieval.learning.calibration import measure_span
from retrieval.learning.export import export_reranker
from retrieval.live import CROSS_ENCODER, MODELS_DIR, TWO_TOWER, find_live
from retrieval.models import IndexBuild, ModelVersion
from retrieval.promotion import find_users, promote, retire, roll_back
from retrieval.serving import serve_version
from retrieval.training_sources import make_sample_pairs
from tests.factories import make_product
from tests.retrieval.serving import announce, fill_the_disk, keep_version, live_version, manifest_of, states, titles
from tests.tiny_models import save_cross_encoder, save_two_tower


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> Path:
    """A cross-encoder with a card, exported."""
    folder = save_cross_encoder(tmp_path_factory.mktemp("readers") / "reader")
    (folder / "card.json").write_text('{"rerank_depth": 4, "rerank_blend": 0.75}')
    export_reranker(str(folder), MODELS_DIR)
    return folder


# --- promote, roll back, retire -----------------------------------------------------------------------


def test_a_promoted_model_serves_and_the_one_before_comes_back(live, towers):
    indexing.build_shadow(towers.names[1])
    assert promote(TWO_TOWER, towers.names[1]).version == towers.versions[1]
    assert live_version() == towers.versions[1]
    assert states() == {live: "shadow", towers.versions[1]: "live"}
    assert roll_back(TWO_TOWER).version == live
    assert live_version() == live
    assert states() == {live: "live", towers.versions[1]: "shadow"}
    with pytest.raises(EngineError, match=r"no two-tower model served before .*SEARCHSITE_MODEL"):
        roll_back(TWO_TOWER)


def test_promoting_what_is_live_changes_nothing(live, towers):
    promote(TWO_TOWER, towers.names[0])
    with pytest.raises(EngineError, match="no two-tower model served before"):
        roll_back(TWO_TOWER)


def test_a_model_version_is_promoted_by_its_name(live, shop, towers, settings):
    folder = shop / "models" / "versions" / "tower-2"
    shutil.copytree(towers.names[1], folder)
    version = indexing.build_shadow(str(folder)).model_version
    assert promote(TWO_TOWER, "tower-2").name == str(folder)
    assert live_version() == version


def test_what_was_promoted_while_an_index_was_built_is_not_replaced_unjudged(live, shop, towers):
    version = keep_version(shop, towers.names[1], verdict={"is_passed": True, "champion": live})
    indexing.build_shadow(towers.names[2])

    def promote_another(build: IndexBuild) -> None:
        promote(TWO_TOWER, towers.names[2])

    with pytest.raises(EngineError, match=rf"better than {live}, and {towers.versions[2]} serves now"):
        serve_version(version, promote_another)
    assert live_version() == towers.versions[2]
    assert serve_version(version, is_forced=True).version == towers.versions[1]
    promote(TWO_TOWER, towers.names[2])
    assert serve_version(version).version == towers.versions[1], "it has served before"


def test_changes_and_rebuilds_follow_the_promoted_model(live, towers):
    indexing.build_shadow(towers.names[1])
    promote(TWO_TOWER, towers.names[1])
    announce(make_product("Steel sofa"))
    indexing.index_pending()
    assert titles("steel sofa")[0] == "Steel sofa"
    assert (indexing.rebuild().model_version, live_version()) == (towers.versions[1],) * 2
    assert setup.get_store().served() == sorted(towers.versions[:2]), "the way back stays open"
    roll_back(TWO_TOWER)
    assert titles("steel sofa")[0] == "Steel sofa"


def test_only_the_last_but_one_is_kept_to_go_back_to(live, towers):
    for name in towers.names[1:]:
        indexing.build_shadow(name)
        promote(TWO_TOWER, name)
    assert setup.get_store().served() == sorted(towers.versions[1:])
    assert states() == {live: "retired", towers.versions[1]: "shadow", towers.versions[2]: "live"}
    for folder in setup.get_store().folders():
        os.utime(folder, (time.time() - 3600,) * 2)
    generations.prune_generations()
    assert len(setup.get_store().folders()) == 2
    roll_back(TWO_TOWER)
    with pytest.raises(
        EngineError, match=rf"no index serves model .*; run: manage\.py reindex --model {towers.names[0]}"
    ):
        roll_back(TWO_TOWER)
    assert live_version() == towers.versions[1]
    indexing.build_shadow(towers.names[0])
    assert roll_back(TWO_TOWER).version == live


def test_a_model_that_was_live_can_serve_beside_again(live, towers, settings):
    for name in towers.names[1:]:
        indexing.build_shadow(name)
        promote(TWO_TOWER, name)
    indexing.build_shadow(towers.names[0])
    announce(make_product("Steel sofa"))
    indexing.index_pending()
    assert states() == {live: "shadow", towers.versions[1]: "shadow", towers.versions[2]: "live"}
    settings.SEARCHSITE = settings.SEARCHSITE | {"MODEL": towers.names[1]}
    indexing.rebuild()
    assert setup.get_store().served() == sorted(towers.versions[:2]), "the promoted one was replaced"
    indexing.build_shadow(towers.names[2])
    indexing.rebuild()
    assert setup.get_store().served() == sorted(towers.versions)


def test_a_model_that_could_not_serve_is_refused_with_the_cure(live, towers):
    refused = {
        "/models/unknown": r"'/models/unknown' has not been exported",
        towers.names[1]: rf"no index serves model .*; run: manage\.py reindex --model {towers.names[1]}",
    }
    for name, message in refused.items():
        with pytest.raises(EngineError, match=message):
            promote(TWO_TOWER, name)
    with pytest.raises(EngineError, match="unknown kind of model 'tower', expected one of: two-tower, cross-encoder"):
        promote("tower", towers.names[1])
    with pytest.raises(EngineError, match="unknown kind of model 'tower'"):
        roll_back("tower")
    assert live_version() == live


def test_an_index_that_is_behind_is_refused(live, towers):
    version = indexing.build_shadow(towers.names[1]).model_version
    manifest = manifest_of(version)
    folder = setup.get_store().root / manifest.name
    replace(manifest, recipe_version="old-1").write(folder)
    with pytest.raises(EngineError, match="built with recipe version 'old-1'"):
        promote(TWO_TOWER, towers.names[1])
    replace(manifest, count=4).write(folder)
    with pytest.raises(EngineError, match=r"holds 4 products, the live one 6, and 0 changes wait; run: .*--model"):
        promote(TWO_TOWER, towers.names[1])
    announce(*Product.objects.all()[:2])
    assert promote(TWO_TOWER, towers.names[1]).version == version


def test_a_promotion_ends_when_the_settings_name_another_model(live, towers, settings):
    indexing.build_shadow(towers.names[1])
    promote(TWO_TOWER, towers.names[1])
    settings.SEARCHSITE = settings.SEARCHSITE | {"MODEL": towers.names[2]}
    assert indexing.rebuild().model_version == towers.versions[2] == live_version()
    assert setup.get_store().served() == [towers.versions[2]]
    assert states() == {live: "retired", towers.versions[1]: "retired", towers.versions[2]: "live"}
    with pytest.raises(EngineError, match="no two-tower model served before"):
        roll_back(TWO_TOWER)


def test_a_promoted_model_that_vanished_is_named_before_anything_is_built(live, tmp_path):
    name = str(save_two_tower(tmp_path / "passing", seed=10))
    version = indexing.build_shadow(name).model_version
    promote(TWO_TOWER, name)
    shutil.rmtree(MODELS_DIR / version)
    with pytest.raises(EngineError, match=rf"{version}\) is no longer in .*: promote it anew, or roll back"):
        indexing.rebuild()
    roll_back(TWO_TOWER)
    assert indexing.rebuild().model_version == live


def test_a_retired_shadow_is_told_to_who_asks_and_its_index_goes(live, towers):
    version = indexing.build_shadow(towers.names[1]).model_version
    beside = SearchConfig(name="challenger", model=version)
    pipeline = setup.get_pipeline(beside)
    with pytest.raises(EngineError, match=rf"'{live}' is the live one: promote another or roll back first"):
        retire(live)
    retire(version)
    assert pipeline.search(Query("red mug")).hits, "searches under way end well"
    with pytest.raises(IndexUnavailable, match="no index serves"):
        setup.get_pipeline(beside)
    with pytest.raises(EngineError, match=rf"'{version}' serves no index, expected one of: {live}"):
        retire(version)
    assert states() == {live: "live", version: "retired"}


def compare(*versions: str, part: str = "model") -> Experiment:
    """Return a running experiment whose variants name these versions."""
    experiment = Experiment.objects.create(name="towers", status=Experiment.Status.RUNNING)
    for number, version in enumerate(versions):
        changes = {part: version}
        Variant.objects.create(experiment=experiment, name=f"v{number}", is_champion=number == 0, changes=changes)
    return experiment


def test_what_an_experiment_searches_with_stays_beside_whatever_is_promoted(live, towers, settings):
    for name in towers.names[1:]:
        indexing.build_shadow(name)
    experiment = compare(live, towers.versions[2])
    promote(TWO_TOWER, towers.names[1])
    promote(TWO_TOWER, towers.names[2])
    assert titles("red mug", SearchConfig(name="a", model=live))[0] == "Red mug"
    announce(make_product("Steel sofa"))
    indexing.index_pending()
    assert titles("steel sofa", SearchConfig(name="a", model=live))[0] == "Steel sofa"
    settings.SEARCHSITE = settings.SEARCHSITE | {"MODEL": towers.names[1]}
    indexing.rebuild()
    assert setup.get_store().served() == sorted(towers.versions), "the settings' model replaced the promoted one"
    control.stop(experiment, "decided")
    retire(live)
    assert setup.get_store().served() == sorted(towers.versions[1:])


def test_what_an_experiment_searches_with_is_neither_retired_nor_removed(live, towers, django_assert_num_queries):
    version = indexing.build_shadow(towers.names[1]).model_version
    experiment = compare(live, version)
    with pytest.raises(EngineError, match=rf"'{version}' is searched with by the experiment towers: stop that first"):
        retire(version)
    row = ModelVersion.objects.create(name="tower-2", kind=TWO_TOWER, origin="trained", exported=version)
    assert registry.find_use(row) == "is searched with by the experiment towers; stop that first"
    with django_assert_num_queries(1):
        assert find_users() == {live: "the experiment towers", version: "the experiment towers"}
    control.stop_variant(experiment.variants.get(name="v1"), "worse")
    retire(version)
    assert states() == {live: "live", version: "retired"}


def test_the_way_back_is_kept_by_a_process_that_dies_while_it_promotes(live, towers, monkeypatch):
    for name in towers.names[1:]:
        indexing.build_shadow(name)
    promote(TWO_TOWER, towers.names[1])
    with monkeypatch.context() as patch:
        patch.setattr(GenerationStore, "withdraw", fill_the_disk)
        with pytest.raises(OSError, match="No space left"):
            promote(TWO_TOWER, towers.names[2])
    assert live_version() == towers.versions[2]
    assert roll_back(TWO_TOWER).version == towers.versions[1]
    assert titles("red mug")[0] == "Red mug"


def test_reindex_builds_beside_the_live_model(live, towers, capsys):
    call_command("reindex", "--model", towers.names[1], "--json")
    facts = json.loads(capsys.readouterr().out)
    assert (facts["model_version"], facts["products"]) == (towers.versions[1], 6)
    assert live_version() == live
    with pytest.raises(CommandError, match=r"--pending and --model: expected one of them"):
        call_command("reindex", "--model", towers.names[1], "--pending")


def test_the_admin_goes_back_within_the_live_models_generations(admin_client, live, towers):
    first = setup.get_store().current(live)
    indexing.build_shadow(towers.names[1])
    indexing.rebuild()
    assert (
        "live again" in admin_client.post(reverse("admin:retrieval_indexbuild_roll_back"), follow=True).content.decode()
    )
    assert setup.get_store().current(live) == first
    assert states() == {live: "retired", towers.versions[1]: "shadow"}
    assert setup.get_pipeline().generation.name == IndexBuild.objects.get(state="live").generation


# --- the reranker -------------------------------------------------------------------------------------


def test_a_promoted_reranker_reads_again_as_its_card_says(live, reader):
    plain = setup.get_pipeline("hybrid-rerank")
    assert (plain.reranker, plain.config.rerank_depth) == (None, 0)
    version = promote(CROSS_ENCODER, str(reader)).version
    pipeline = setup.get_pipeline("hybrid-rerank")
    config = pipeline.config
    assert (config.reranker, config.rerank_depth, config.rerank_blend) == (version, 4, 0.75)
    hits = pipeline.search(Query("red mug")).hits
    assert hits
    assert all(hit.explanation.rerank_score is not None for hit in hits[:4])
    assert setup.get_pipeline("hybrid").reranker is None
    assert setup.get_pipeline("hybrid").search(Query("red mug")).hits[0].explanation.rerank_score is None
    roll_back(CROSS_ENCODER)
    assert setup.get_pipeline("hybrid-rerank").reranker is None


def test_no_reranker_can_be_promoted_too(live, reader, settings):
    settings.SEARCHSITE = settings.SEARCHSITE | {"RERANKER": str(reader)}
    assert setup.get_pipeline().reranker
    promote(CROSS_ENCODER, "")
    assert setup.get_pipeline().reranker is None
    roll_back(CROSS_ENCODER)
    assert setup.get_pipeline().reranker


def test_a_config_can_name_its_reranker_or_none(live, reader):
    version = export_reranker(str(reader), MODELS_DIR).name
    deep = replace(get_config("hybrid-rerank"), name="deep", reranker=version, rerank_depth=2)
    config = setup.get_pipeline(deep).config
    assert (config.reranker, config.rerank_depth, config.rerank_blend) == (version, 2, 0.75)
    promote(CROSS_ENCODER, str(reader))
    assert setup.get_pipeline(replace(deep, name="plain", reranker="none", rerank_depth=None)).reranker is None


def test_a_reranker_that_is_not_there_costs_no_search(live, settings, caplog):
    settings.SEARCHSITE = settings.SEARCHSITE | {"RERANKER": "some/reader-model"}
    assert titles("red mug")[0] == "Red mug"
    assert "searching without a reranker: the cross-encoder model 'some/reader-model' has not been" in caplog.text


# --- with searches going on ---------------------------------------------------------------------------


@dataclass
class Load:
    """What threads that search without pause saw."""

    versions: set[str] = field(default_factory=set)
    errors: list[BaseException] = field(default_factory=list)
    searches: int = 0


@contextmanager
def searching(threads: int = 3) -> Iterator[Load]:
    load, stop = Load(), threading.Event()

    def search() -> None:
        while not stop.is_set():
            try:
                pipeline = setup.get_pipeline()
                assert pipeline.search(Query("red mug")).hits
                load.versions.add(pipeline.config.model)
                load.searches += 1
            except BaseException as error:
                load.errors.append(error)

    workers = [threading.Thread(target=search) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        yield load
    finally:
        stop.set()
        for worker in workers:
            worker.join()


def wait_for_version(load: Load, version: str) -> float:
    """Return the seconds until a search was answered by this model."""
    load.versions.clear()
    start = time.monotonic()
    while version not in load.versions and time.monotonic() - start < 20:
        time.sleep(0.01)
    return time.monotonic() - start


@pytest.mark.parametrize("is_watched", [True, False])
def test_no_search_fails_while_models_are_promoted_and_rolled_back(live, towers, is_watched):
    indexing.build_shadow(towers.names[1])
    setup.get_pipeline()
    stop = threading.Event()
    watcher = threading.Thread(target=setup.watch_generations, args=(stop, 0.02))
    if is_watched:
        watcher.start()
    try:
        with searching() as load:
            for _ in range(2):
                promote(TWO_TOWER, towers.names[1])
                assert wait_for_version(load, towers.versions[1]) < 5
                announce(make_product("Steel sofa"))
                indexing.index_pending()
                roll_back(TWO_TOWER)
                assert wait_for_version(load, live) < 5
    finally:
        stop.set()
        if is_watched:
            watcher.join()
    assert load.errors == []
    assert load.searches > 100


def test_the_watcher_closes_what_was_retired_or_is_unused(live, towers, monkeypatch):
    version = indexing.build_shadow(towers.names[1]).model_version
    beside = SearchConfig(name="challenger", model=version)
    for config in (None, beside, "lexical"):
        setup.get_pipeline(config)
    stop = threading.Event()
    watcher = threading.Thread(target=setup.watch_generations, args=(stop, 0.01))
    watcher.start()
    try:
        retire(version)
        assert wait_until(lambda: beside not in setup._pipelines)
        with pytest.raises(IndexUnavailable, match="no index serves"):
            setup.get_pipeline(beside)
        monkeypatch.setattr(setup, "UNUSED_S", 0)
        assert wait_until(lambda: list(setup._pipelines) == [get_config("hybrid-rerank")])
    finally:
        stop.set()
        watcher.join()


def wait_until(is_so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.01)
    return is_so()


@pytest.mark.slow
def test_the_reranker_of_the_settings_is_quantised_by_the_sample_shop_once(live, reader, settings):
    settings.SEARCHSITE = settings.SEARCHSITE | {"RERANKER": str(reader), "RERANKER_PRECISION": "int8"}
    indexing.export_models()
    served = find_live(CROSS_ENCODER)
    assert ModelCard.read(MODELS_DIR / served.version).precision == "int8"
    make_product("Blue mug")
    indexing.export_models()  # another catalogue, the same model
    assert find_live(CROSS_ENCODER) == served
    pairs = make_sample_pairs()
    assert pairs == make_sample_pairs.__wrapped__()
    judge = setup.get_reranker()
    assert judge is not None
    assert judge.span == pytest.approx(measure_span(judge, pairs), abs=0.01)
