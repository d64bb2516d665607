"""Folders of model versions: made whole, never changed, told of on a card."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from retrieval.engine.exported import EncoderError
from retrieval.learning import sources, versions
from retrieval.learning.versions import VersionCard, VersionError, read_card, write_version


def make_adapter(folder: Path, *, base: str = "default", value: float = 1.0) -> Path:
    """Return a folder that looks like an adapter: nothing here loads its weights."""
    folder.mkdir(parents=True)
    (folder / sources.ADAPTER).write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": base}))
    save_file({"lora_A": np.full((2, 2), value, np.float16)}, folder / sources.ADAPTER_WEIGHTS)
    return folder


def make_card(name: str = "shop-1", **facts: Any) -> VersionCard:
    usual: dict[str, Any] = {"name": name, "kind": "two-tower", "base": "default", "dim": 384}
    return VersionCard(**usual | facts)


@pytest.fixture
def adapter(tmp_path):
    return make_adapter(tmp_path / "run" / "adapter")


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in versions.list_files(folder)]


def test_a_version_has_the_weights_and_both_cards(tmp_path, adapter):
    (adapter / "optimizer.pt").write_bytes(b"of the training, no part of the model")
    folder = write_version(tmp_path / "models", make_card(), {"adapter": adapter})
    assert folder == tmp_path / "models" / "versions" / "shop-1"
    assert names(folder) == [
        "README.md",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "card.json",
    ]
    assert [path.name for path in folder.parent.iterdir()] == ["shop-1"]


def test_its_card_is_read_as_it_was_written(tmp_path, adapter):
    metrics = {"ndcg": {"shop": 0.8}}
    facts: dict[str, Any] = {
        "kind": "cross-encoder",
        "dim": 1,
        "layers": (1, 3, 5),
        "rerank_depth": 20,
        "rerank_blend": 0.5,
    }
    card = make_card(metrics=metrics, **facts)
    assert read_card(write_version(tmp_path, card, {"adapter": adapter})) == card


def test_nobody_writes_to_its_files(tmp_path, adapter):
    folder = write_version(tmp_path, make_card(), {"adapter": adapter})
    assert {oct(path.stat().st_mode & 0o777) for path in versions.list_files(folder)} == {"0o444"}


def test_people_read_its_facts_without_empty_ones(tmp_path, adapter):
    card = make_card(note="Learned from ratings.", metrics={"nDCG@10": {"held out": 0.81234}}, settings={"a|b": "x\ny"})
    text = (write_version(tmp_path, card, {"adapter": adapter}) / "README.md").read_text()
    assert text.startswith("# shop-1\n\nLearned from ratings.\n\n")
    assert "| Kind | two-tower, tied |" in text
    assert "| nDCG@10: held out | 0.8123 |" in text
    assert "| a\\|b | x y |" in text
    assert "Layers kept" not in text


def test_a_version_is_a_model_by_its_folder(tmp_path, adapter):
    folder = write_version(tmp_path, make_card(), {"adapter": adapter})
    assert sources.fetch(sources.resolve_model(str(folder))) == folder
    assert sources.find_tower(folder) == folder / "adapter"
    assert sources.base_name(str(folder)) == "shop-1"


def test_untied_towers_have_a_part_each(tmp_path, adapter):
    query = make_adapter(tmp_path / "run" / "query_adapter", value=2.0)
    parts = {"adapter": adapter, "query_adapter": query}
    folder = write_version(tmp_path, make_card(towers="untied"), parts)
    assert sources.is_untied(folder)
    assert sources.find_tower(folder, "query") == folder / "query_adapter"


def test_a_base_among_the_versions_is_found_wherever_they_are_moved(tmp_path, adapter):
    models = tmp_path / "models"
    first = write_version(models, make_card("first"), {"adapter": adapter})
    second = make_adapter(tmp_path / "second", base=str(first))
    folder = write_version(models, make_card("second", base="first", parent="first"), {"adapter": second})
    assert sources.read_adapter(folder / "adapter")["base_model_name_or_path"] == "../../first"
    models.rename(tmp_path / "moved")
    assert sources.resolve_base(tmp_path / "moved/versions/second/adapter") == tmp_path / "moved/versions/first"


def test_a_name_is_taken_once(tmp_path, adapter):
    folder = write_version(tmp_path, make_card(), {"adapter": adapter})
    before = {path: path.read_bytes() for path in versions.list_files(folder)}
    with pytest.raises(VersionError, match="there is a model version shop-1 already: choose another name"):
        write_version(tmp_path, make_card(note="another"), {"adapter": adapter})
    assert {path: path.read_bytes() for path in versions.list_files(folder)} == before


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "Shop", "-a", ".hidden", "a b", "ä", "x" * 101, "a\n"])
def test_a_name_that_is_no_folder_s_is_refused(name):
    with pytest.raises(VersionError, match=r"a model version cannot be called .*: expected up to 100 lower-case"):
        make_card(name)


def test_the_default_s_name_is_not_taken():
    with pytest.raises(VersionError, match="a model version cannot be called 'default'"):
        make_card("default")


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"kind": "bm25"}, "unknown kind of model 'bm25', expected one of: two-tower, cross-encoder"),
        ({"towers": "three"}, "unknown towers 'three', expected one of: tied, untied"),
        ({"rerank_depth": -1}, "rerank_depth=-1, expected 0 to 1000"),
        ({"rerank_blend": 1.5}, "rerank_blend=1.5, expected 0 to 1"),
    ],
)
def test_facts_that_cannot_be_are_refused(facts, message):
    with pytest.raises(VersionError, match=message):
        make_card(**facts)


@pytest.mark.parametrize(
    ("towers", "parts"),
    [("tied", ["adapter", "query_adapter"]), ("untied", ["adapter"]), ("tied", ["query_adapter"]), ("tied", [])],
)
def test_parts_that_the_towers_do_not_have_are_refused(tmp_path, adapter, towers, parts):
    with pytest.raises(VersionError, match=rf"version shop-1 has {towers} towers, but its parts are: "):
        write_version(tmp_path, make_card(towers=towers), dict.fromkeys(parts, adapter))
    with pytest.raises(VersionError, match="unknown part 'weights', expected one of: adapter, model"):
        write_version(tmp_path, make_card(), {"weights": adapter})


def test_an_unsafe_part_is_refused_and_leaves_nothing(tmp_path, adapter):
    (adapter / sources.ADAPTER_WEIGHTS).rename(adapter / "adapter_model.bin")
    with pytest.raises(EncoderError, match="is a pickle"):
        write_version(tmp_path / "models", make_card(), {"adapter": adapter})
    assert list((tmp_path / "models" / "versions").iterdir()) == []


def test_a_full_disk_leaves_nothing_and_is_named(tmp_path, adapter, monkeypatch):
    def fail(folder: Path) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(versions, "sync_folder", fail)
    with pytest.raises(VersionError, match=r"shop-1 cannot be written .*No space left on device.*: make room"):
        write_version(tmp_path / "models", make_card(), {"adapter": adapter})
    assert list((tmp_path / "models" / "versions").iterdir()) == []


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"format": 1}', '{"format": 1, "name": 7, "kind": "two-tower", "base": "default"}',
     '{"format": 1, "name": "a", "kind": "two-tower", "base": "b", "layers": "x"}',
     '{"format": 1, "name": "a", "kind": "two-tower", "base": "b", "metrics": 3}'],
)  # fmt: skip
def test_a_card_of_another_form_is_refused_by_name(tmp_path, content):
    (tmp_path / "card.json").write_text(content)
    with pytest.raises(VersionError, match=r"card.json "):
        read_card(tmp_path)


def test_a_card_of_a_later_format_says_to_update(tmp_path):
    (tmp_path / "card.json").write_text('{"format": 2}')
    with pytest.raises(VersionError, match="has format 2, this site reads format 1: update it"):
        read_card(tmp_path)


def test_what_a_later_version_adds_to_the_card_is_passed_over(tmp_path, adapter):
    folder = write_version(tmp_path, make_card(), {"adapter": adapter})
    card = json.loads((folder / "card.json").read_text()) | {"colour": "red"}
    (tmp_path / "card.json").write_text(json.dumps(card))
    assert read_card(tmp_path) == read_card(folder)
