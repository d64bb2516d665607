"""Model versions on record: a row and a folder each, neither without the other, none removed while it is used."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from retrieval import live, registry
from retrieval.engine.exported import REGISTER, ModelCard, read_register
from retrieval.engine.types import EngineError
from retrieval.learning import sources
from retrieval.learning.versions import VersionError, write_version
from retrieval.live import LiveModel, Promotion, change_promotions
from retrieval.models import Embedding, ModelVersion
from retrieval.serving import check_verdict
from tests.retrieval.test_adapters import DOCUMENTS, save_scorer_adapter
from tests.retrieval.test_versions import make_adapter, make_card
from tests.tiny_models import save_cross_encoder

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def folder(tmp_path, settings, monkeypatch):
    """A data folder of its own, with exported models too."""
    settings.DATA_DIR = tmp_path / "data"
    monkeypatch.setattr(live, "MODELS_DIR", tmp_path / "data" / "models")
    monkeypatch.setattr(sources, "BUILT_IN", tmp_path / "built_in")
    registry.models_dir().mkdir(parents=True)
    return tmp_path


def add(folder: Path, name: str = "shop-1", *, base: str = "default", **facts: Any) -> ModelVersion:
    """Return a version of an adapter that is never loaded."""
    adapter = make_adapter(folder / f"made-{name}", base=base)
    made = write_version(registry.models_dir(), make_card(name, base=base, **facts), {"adapter": adapter})
    return registry.register(made, ModelVersion.Origin.TRAINED)


def promote(version: ModelVersion) -> None:
    """Write what a promotion writes."""
    model = LiveModel(str(registry.folder_of(version.name)), version.exported)
    with change_promotions() as promotions:
        promotions[version.kind] = Promotion(live.named_by_settings(version.kind), (model,))


def test_a_row_has_the_facts_of_the_card(folder):
    facts: dict[str, Any] = {"metrics": {"nDCG@10": 0.8}, "settings": {"rows": 100}, "note": "ours", "data_hash": "ab"}
    add(folder, "first")
    version = add(folder, parent="first", created_at="2026-01-02T03:04:05+00:00", **facts)
    assert (version.name, version.kind, version.base, version.dim) == ("shop-1", "two-tower", "default", 384)
    assert {name: getattr(version, name) for name in facts} == facts
    assert version.parent is not None
    assert version.parent.name == "first"
    assert version.created_at.isoformat() == "2026-01-02T03:04:05+00:00"
    assert version.size_bytes == sum(path.stat().st_size for path in registry.folder_of("shop-1").rglob("*.*"))


def test_a_name_is_registered_once(folder):
    version = add(folder)
    with pytest.raises(VersionError, match="there is a model version shop-1 already: choose another name"):
        registry.register(registry.folder_of("shop-1"), ModelVersion.Origin.IMPORTED)
    assert list(ModelVersion.objects.all()) == [version]


def test_a_folder_elsewhere_is_not_registered(folder):
    made = write_version(folder / "elsewhere", make_card(), {"adapter": make_adapter(folder / "made")})
    with pytest.raises(VersionError, match=r"is not where version shop-1 belongs: .*data/models/versions/shop-1"):
        registry.register(made, ModelVersion.Origin.TRAINED)


def test_a_version_is_found_by_its_name_and_other_models_by_theirs(folder):
    version = add(folder)
    assert registry.find_version("shop-1") == version
    assert registry.resolve("shop-1") == str(registry.folder_of("shop-1"))
    assert [registry.resolve(name) for name in ("default", "../x", "a/b")] == ["default", "../x", "a/b"]
    with pytest.raises(VersionError, match="there is no model version 'shop-2', expected one of: shop-1"):
        registry.find_version("shop-2")


def test_built_in_versions_are_registered_once(folder):
    write_version(folder, make_card("ours"), {"adapter": make_adapter(folder / "made")})
    (folder / "versions").rename(folder / "built_in")
    assert [version.name for version in registry.sync_built_in()] == ["ours"]
    assert registry.sync_built_in() == []
    version = ModelVersion.objects.get()
    assert version.origin == "built in"
    assert (registry.folder_of("ours") / "adapter" / "adapter_model.safetensors").is_file()
    ModelVersion.objects.all().delete()  # the database began anew, the folders are there
    assert [version.name for version in registry.sync_built_in()] == ["ours"]


def test_a_version_travels_as_an_archive(folder):
    archive = io.BytesIO()
    registry.export_archive(add(folder, note="ours"), archive)
    registry.remove(ModelVersion.objects.get())
    assert not registry.folder_of("shop-1").exists()
    version = registry.import_archive(archive)
    assert (version.name, version.origin, version.note) == ("shop-1", "imported", "ours")
    assert registry.folder_of("shop-1").is_dir()


def test_an_import_whose_name_has_a_row_leaves_no_folder(folder):
    archive = io.BytesIO()
    version = add(folder)
    registry.export_archive(version, archive)
    registry.remove(version)
    ModelVersion.objects.create(name="shop-1", kind="two-tower", origin="trained", base="default")
    with pytest.raises(VersionError, match="shop-1 already"):
        registry.import_archive(archive)
    assert not registry.folder_of("shop-1").exists()


def test_the_live_version_is_not_removed(folder):
    version, other = add(folder), add(folder, "shop-2")
    promote(version)
    assert [registry.is_live(each) for each in (version, other)] == [True, False]
    with pytest.raises(VersionError, match=r"shop-1 is live; promote another or roll back first: .*rollback two-tower"):
        registry.remove(version)
    assert registry.folder_of("shop-1").is_dir()
    registry.remove(other)
    assert [each.name for each in ModelVersion.objects.all()] == ["shop-1"]


def test_the_version_the_settings_name_is_live(folder, settings):
    version = add(folder)
    settings.SEARCHSITE = settings.SEARCHSITE | {"MODEL": str(registry.folder_of("shop-1"))}
    assert registry.is_live(version)


def test_a_version_that_another_changes_is_not_removed(folder):
    first = add(folder, "first")
    second = add(folder, "second", base=str(registry.folder_of("first")))
    with pytest.raises(VersionError, match="first is what second changes the weights of; remove that first"):
        registry.remove(first)
    registry.remove(second)
    registry.remove(first)
    assert not ModelVersion.objects.exists()


def test_a_version_is_prepared_for_the_engine_and_its_card_followed(folder):
    source = save_cross_encoder(folder / "judge")
    save_scorer_adapter(str(source), folder / "adapter", max_tokens=24)
    card = make_card("judge-1", kind="cross-encoder", base=str(source), dim=1)
    made = write_version(registry.models_dir(), card, {"adapter": folder / "adapter"})
    version = registry.register(made, ModelVersion.Origin.TRAINED)
    exported = registry.prepare(version)
    version.refresh_from_db()
    assert version.exported == exported.name
    assert exported.name.startswith("judge-1-")
    assert ModelCard.read(exported).max_tokens == 24
    from retrieval.engine.rerank import CrossEncoderReranker

    assert CrossEncoderReranker(exported).score("mug", DOCUMENTS).shape == (2,)
    assert json.loads((made / "card.json").read_text())["name"] == "judge-1"


def test_removing_a_version_takes_its_exports_and_vectors_with_it(folder):
    version, other = add(folder), add(folder, "shop-10")
    register = {}
    for one in (version, other):
        one.exported = f"{one.name}-abc"
        one.save()
        (registry.models_dir() / one.exported).mkdir()
        register[f"two-tower:{registry.folder_of(one.name)}"] = one.exported
        register[f"two-tower:{registry.folder_of(one.name)}@0011"] = one.exported
        Embedding.objects.create(model_version=one.exported, text_hash="1", vector=b"")
    (registry.models_dir() / REGISTER).write_text(json.dumps(register))
    registry.remove(version)
    assert not (registry.models_dir() / "shop-1-abc").exists()
    assert (registry.models_dir() / "shop-10-abc").exists()
    assert [one.model_version for one in Embedding.objects.all()] == ["shop-10-abc"]
    assert set(read_register(registry.models_dir()).values()) == {"shop-10-abc"}


def test_a_verdict_holds_against_the_champion_it_was_won_from(folder, monkeypatch):
    version = add(folder)
    monkeypatch.setattr("retrieval.serving.find_live", lambda kind: LiveModel("default", "mini-1"))
    monkeypatch.setattr(registry, "is_live", lambda version: False)
    version.verdict = {"is_passed": True, "champion": "mini-1"}
    check_verdict(version)
    version.verdict = {"is_passed": True, "champion": "shop-0"}
    with pytest.raises(EngineError, match="shop-1 was shown to be better than shop-0, and mini-1 serves now"):
        check_verdict(version)
    version.verdict = {"is_passed": False, "reason": "fails: it lost"}
    with pytest.raises(EngineError, match=r"shop-1 is not shown to be better \(fails: it lost\)"):
        check_verdict(version)


def test_what_comes_with_the_project_is_judged_like_any_other(folder, settings):
    version = add(folder, "ours")
    version.origin = ModelVersion.Origin.BUILT_IN
    with pytest.raises(EngineError, match=r"ours is not shown to be better \(it was never judged on this shop\)"):
        check_verdict(version)
    settings.SEARCHSITE = settings.SEARCHSITE | {"MODEL": "ours"}
    check_verdict(version)
