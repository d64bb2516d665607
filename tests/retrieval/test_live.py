"""Which model serves: the settings' word, until another was promoted in its place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from retrieval import live
from retrieval.engine.exported import NETWORK, REGISTER, TOKENIZER, EncoderError, ModelCard
from retrieval.engine.types import EngineError
from retrieval.live import CROSS_ENCODER, NOTHING, TWO_TOWER, LiveModel, Promotion, find_live, find_version

OTHER = LiveModel("/models/other", "other-1")


@pytest.fixture
def models(tmp_path: Path, settings, monkeypatch) -> Path:
    """A folder of models where each seems exported, and settings that name one two-tower model and no reranker."""
    models = tmp_path / "models"
    monkeypatch.setattr(live, "MODELS_DIR", models)
    settings.DATA_DIR = tmp_path
    settings.SEARCHSITE = settings.SEARCHSITE | {"MODEL": "first", "RERANKER": ""}
    seem_exported(models, TWO_TOWER, "first", "first-1")
    return models


def seem_exported(models: Path, kind: str, name: str, version: str, key: str = "") -> Path:
    folder = models / version
    folder.mkdir(parents=True)
    ModelCard(kind, "base", version, max_tokens=8, dim=1).write(folder)
    for file in (NETWORK, NETWORK.replace(".xml", ".bin"), TOKENIZER):
        (folder / file).touch()
    register = json.loads((models / REGISTER).read_text()) if (models / REGISTER).exists() else {}
    (models / REGISTER).write_text(json.dumps(register | {f"{kind}:{name}{key}": version}))
    return folder


def promote(kind: str, *models: LiveModel, instead_of: str) -> None:
    with live.change_promotions() as promotions:
        promotions[kind] = Promotion(instead_of, models)


def test_without_a_promotion_the_settings_decide(models):
    assert find_live(TWO_TOWER) == LiveModel("first", "first-1")
    assert find_live(CROSS_ENCODER) == NOTHING


def test_the_settings_model_follows_its_folder(models):
    assert find_live(TWO_TOWER).version == "first-1"
    seem_exported(models, TWO_TOWER, "first", "first-2")
    assert find_live(TWO_TOWER).version == "first-2"


def test_a_model_that_was_not_exported_is_named_with_the_cure(models, settings):
    settings.SEARCHSITE = settings.SEARCHSITE | {"MODEL": "second"}
    with pytest.raises(EncoderError, match=r"'second' has not been exported .*; run: manage\.py reindex"):
        find_live(TWO_TOWER)


def test_a_promotion_holds_while_the_settings_stay(models, settings):
    promote(TWO_TOWER, OTHER, instead_of="first")
    assert find_live(TWO_TOWER) == OTHER
    seem_exported(models, TWO_TOWER, "second", "second-1")
    settings.SEARCHSITE = settings.SEARCHSITE | {"MODEL": "second"}
    assert find_live(TWO_TOWER).version == "second-1"
    settings.SEARCHSITE = settings.SEARCHSITE | {"MODEL": "first"}
    assert find_live(TWO_TOWER) == OTHER


def test_kinds_are_promoted_apart(models):
    reranker = LiveModel("/models/reader", "reader-1", 20, 0.7)
    promote(CROSS_ENCODER, reranker, NOTHING, instead_of="")
    assert find_live(TWO_TOWER).version == "first-1"
    promote(TWO_TOWER, OTHER, instead_of="first")
    assert (find_live(TWO_TOWER), find_live(CROSS_ENCODER)) == (OTHER, reranker)


def test_what_another_process_wrote_is_seen(models):
    promote(TWO_TOWER, OTHER, instead_of="first")
    assert find_live(TWO_TOWER).version == "other-1"
    path = models / "live.json"
    entry = json.loads(path.read_text())
    entry["two-tower"]["models"][0]["version"] = "other-2"
    path.with_suffix(".new").write_text(json.dumps(entry))
    path.with_suffix(".new").replace(path)
    assert find_live(TWO_TOWER).version == "other-2"


def test_a_change_that_fails_changes_nothing(models):
    with pytest.raises(TypeError):
        promote(TWO_TOWER, replace(OTHER, rerank_blend=object()), instead_of="first")  # type: ignore[arg-type]
    assert find_live(TWO_TOWER).version == "first-1"
    promote(TWO_TOWER, OTHER, instead_of="first")
    assert find_live(TWO_TOWER) == OTHER


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"two-tower": {}}', '{"two-tower": {"instead_of": "first", "models": []}}',
     '{"two-tower": {"instead_of": "first", "models": [{"nom": "x"}]}}'],
)  # fmt: skip
def test_a_damaged_file_is_named_with_the_cure(models, content):
    (models / "live.json").write_text(content)
    with pytest.raises(EngineError, match=r"live\.json is damaged .*: delete it"):
        find_live(TWO_TOWER)


def test_a_reranker_reads_as_deep_as_its_card_says(models, tmp_path, settings):
    folder = tmp_path / "versions" / "reader"
    (folder / "adapter").mkdir(parents=True)
    (folder / "card.json").write_text(json.dumps({"kind": CROSS_ENCODER, "rerank_depth": 12, "rerank_blend": 0.8}))
    for number, name in enumerate((str(folder), str(folder / "adapter"), "some/hub-name")):
        seem_exported(models, CROSS_ENCODER, name, f"reader-{number}")
    settings.SEARCHSITE = settings.SEARCHSITE | {"RERANKER": str(folder)}
    assert find_live(CROSS_ENCODER) == LiveModel(str(folder), "reader-0", 12, 0.8)
    assert find_version(CROSS_ENCODER, "reader-1") == LiveModel(str(folder / "adapter"), "reader-1", 12, 0.8)
    assert find_version(CROSS_ENCODER, "reader-2") == LiveModel("some/hub-name", "reader-2", 30, 0.5)


@pytest.mark.parametrize(
    ("pair_ms", "budget_ms", "depth"), [(2.0, 50, 25), (0.5, 50, 30), (40.0, 50, 10), (2.0, 0, 30), (0.0, 50, 30)]
)
def test_a_reranker_reads_no_more_than_the_budget_affords(models, settings, pair_ms, budget_ms, depth):
    folder = seem_exported(models, CROSS_ENCODER, "some/hub-name", "reader-1")
    replace(ModelCard.read(folder), pair_ms=pair_ms).write(folder)
    settings.SEARCHSITE = settings.SEARCHSITE | {"RERANKER": "some/hub-name", "RERANKER_PRECISION": "float"}
    settings.SEARCHSITE["RERANK_BUDGET_MS"] = budget_ms
    assert find_live(CROSS_ENCODER).rerank_depth == depth


def test_the_reranker_of_the_settings_serves_in_their_precision(models, settings):
    seem_exported(models, CROSS_ENCODER, "some/hub-name", "reader-1")
    settings.SEARCHSITE = settings.SEARCHSITE | {"RERANKER": "some/hub-name", "RERANKER_PRECISION": "int8"}
    with pytest.raises(EncoderError, match="the int8 cross-encoder model 'some/hub-name' has not been exported"):
        find_live(CROSS_ENCODER)
    seem_exported(models, CROSS_ENCODER, "some/hub-name", "reader-int8-1", key="+int8")
    assert find_live(CROSS_ENCODER).version == "reader-int8-1"
    settings.SEARCHSITE = settings.SEARCHSITE | {"RERANKER_PRECISION": "float"}
    assert find_live(CROSS_ENCODER).version == "reader-1"
    settings.SEARCHSITE = settings.SEARCHSITE | {"RERANKER": "", "RERANKER_PRECISION": "int8"}
    assert find_live(CROSS_ENCODER) == NOTHING


@pytest.mark.parametrize(
    ("has_vnni", "exported"), [(True, ("reader", "reader-int8")), (False, ("reader-int8", "reader"))]
)
def test_unless_told_a_reranker_serves_in_what_the_processor_is_faster_at(
    models, settings, monkeypatch, has_vnni, exported
):
    monkeypatch.setattr(live, "has_vnni", lambda: has_vnni)
    settings.SEARCHSITE = settings.SEARCHSITE | {"RERANKER": "some/hub-name", "RERANKER_PRECISION": "auto"}
    for version in exported:  # the first is that of another kind of machine, which is better than none
        seem_exported(models, CROSS_ENCODER, "some/hub-name", version, key="+int8" if "int8" in version else "")
        assert find_live(CROSS_ENCODER).version == version


def test_a_version_is_found_under_what_it_was_once_exported_from(models, tmp_path):
    folder = tmp_path / "reader"
    folder.mkdir()
    (folder / "card.json").write_text('{"rerank_depth": 500, "rerank_blend": 1}')
    seem_exported(models, CROSS_ENCODER, str(folder), "reader-int8-1", key="+int8@0123456789abcdef")
    assert find_version(CROSS_ENCODER, "reader-int8-1") == LiveModel(str(folder), "reader-int8-1", 200, 1.0)
    with pytest.raises(EncoderError, match="no cross-encoder model of version 'reader-2'"):
        find_version(CROSS_ENCODER, "reader-2")


@pytest.mark.parametrize(
    "card",
    [
        "", "{}", '{"rerank_depth": null, "rerank_blend": 0.5}', '{"rerank_depth": "deep"}',
        '{"rerank_depth": -1, "rerank_blend": 0.7}', '{"rerank_depth": 9, "rerank_blend": 1.5}',
        '{"rerank_depth": 9, "rerank_blend": NaN}',
    ],
)  # fmt: skip
def test_a_card_without_depth_gives_the_usual_one(models, tmp_path, card):
    folder = tmp_path / "reader"
    folder.mkdir()
    (folder / "card.json").write_text(card)
    seem_exported(models, CROSS_ENCODER, str(folder), "reader-1")
    found = find_version(CROSS_ENCODER, "reader-1")
    assert found == replace(found, rerank_depth=30, rerank_blend=0.5)
