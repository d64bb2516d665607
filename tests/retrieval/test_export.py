"""From a PyTorch model to the engine's folder: done once, never half, and refused with the cure. Models are tiny."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertModel, BertTokenizer

from retrieval.engine.encoders import TwoTowerEncoder
from retrieval.engine.exported import CARD, NETWORK, REGISTER, EncoderError, find_exported
from retrieval.engine.rerank import CrossEncoderReranker
from retrieval.learning import sources
from retrieval.learning.export import export_encoder, export_reranker
from tests.tiny_models import make_config, make_tokenizer, save_cross_encoder, save_two_tower


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A tiny two-tower model. Tests that change it take a copy."""
    return save_two_tower(tmp_path_factory.mktemp("source") / "Tiny Model_v2")


@pytest.fixture(scope="module")
def exported(source, tmp_path_factory):
    """The models folder with the tiny model exported. Tests that change it take a copy."""
    models = tmp_path_factory.mktemp("exported") / "models"
    export_encoder(str(source), models)
    return models


@pytest.fixture
def models(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "models")


@pytest.fixture
def model(source, tmp_path):
    return shutil.copytree(source, tmp_path / source.name)


def folders(models: Path) -> list[str]:
    return sorted(path.name for path in models.iterdir() if path.is_dir())


def written_at(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


# --- done once -----------------------------------------------------------------------------------------


def test_an_exported_model_is_found_under_its_name_and_encodes(source, models):
    folder = find_exported("two-tower", str(source), models)
    assert folder.name.startswith("tiny-model-v2-")
    assert TwoTowerEncoder(folder).encode_queries(["red mug"]).shape == (1, 32)
    assert sorted(written_at(folder)) == [CARD, "openvino_model.bin", NETWORK, "tokenizer.json"]


def test_what_is_unchanged_is_not_converted_again(source, models):
    before = find_exported("two-tower", str(source), models)
    times, register = written_at(before), (models / REGISTER).stat().st_mtime_ns
    assert export_encoder(str(source), models) == before
    assert written_at(before) == times
    assert (models / REGISTER).stat().st_mtime_ns == register


def test_a_copy_with_the_same_content_is_the_same_version(model, models):
    before = folders(models)
    folder = export_encoder(str(model), models)
    assert folders(models) == before == [folder.name]
    assert find_exported("two-tower", str(model), models) == folder


def test_files_only_touched_are_read_but_not_converted(model, models):
    folder = export_encoder(str(model), models)
    times = written_at(folder)
    os.utime(model / "model.safetensors")
    assert export_encoder(str(model), models) == folder
    assert written_at(folder) == times


def test_changed_weights_are_a_new_version_beside_the_old(model, models):
    old = export_encoder(str(model), models)
    save_two_tower(model, seed=2)
    new = export_encoder(str(model), models)
    assert folders(models) == sorted([old.name, new.name])
    assert find_exported("two-tower", str(model), models) == new
    vectors = [TwoTowerEncoder(folder).encode_queries(["red mug"])[0] for folder in (old, new)]
    assert vectors[0] @ vectors[1] < 0.99
    assert TwoTowerEncoder(new).model_version == new.name != old.name


def test_weights_put_back_are_the_old_version_again(model, source, models):
    old = export_encoder(str(model), models)
    times = written_at(old)
    save_two_tower(model, seed=2)
    (model / "model.safetensors").write_bytes((source / "model.safetensors").read_bytes())
    assert export_encoder(str(model), models) == old
    assert written_at(old) == times


def test_a_changed_tokenizer_is_a_new_version(model):
    before = sources.name_version(model, "two-tower", "tiny")
    (model / "tokenizer.json").write_text((model / "tokenizer.json").read_text().replace('"sofa"', '"couch"'))
    assert sources.name_version(model, "two-tower", "tiny") != before


def test_the_same_model_as_encoder_and_as_reranker_are_two_versions(source):
    assert sources.name_version(source, "two-tower", "tiny") != sources.name_version(source, "cross-encoder", "tiny")


def test_checkpoints_beside_the_model_are_no_part_of_it(model):
    before = sources.list_files(model)
    save_cross_encoder(model / "checkpoint-100")
    assert sources.list_files(model) == before


def test_a_plain_transformer_is_an_encoder_too(tmp_path):
    torch.manual_seed(1)
    BertModel(make_config()).save_pretrained(tmp_path / "plain")
    make_tokenizer().save_pretrained(tmp_path / "plain")
    folder = export_encoder(str(tmp_path / "plain"), tmp_path / "models")
    assert np.isfinite(TwoTowerEncoder(folder).encode_queries(["mug"])).all()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("default", "all-minilm-l6-v2"),
        ("sentence-transformers/All_MiniLM.L12", "all-minilm-l12"),
        ("/data/my models/Füße/", "f-e"),
        ("~", "model"),
        ("猫", "model"),
    ],
)
def test_versions_are_named_for_the_model(name, expected):
    assert sources.base_name(name) == expected


# --- never half ----------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
from retrieval.engine.exported import ModelCard
from retrieval.learning.export import export_encoder
ModelCard.write = lambda card, folder: os.kill(os.getpid(), signal.SIGKILL)  # the last file to be written
export_encoder(sys.argv[1], Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_killed_in_the_middle_it_leaves_no_half_model_and_starts_anew(source, tmp_path):
    models = tmp_path / "models"
    command = [sys.executable, "-c", KILLED, str(source), str(models)]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [name.startswith(".unfinished-tiny-model-v2-") for name in folders(models)] == [True]
    with pytest.raises(EncoderError, match=r"has not been exported .* yet; run: manage\.py reindex"):
        find_exported("two-tower", str(source), models)
    (models / ".unfinished-of-another-model").mkdir()
    folder = export_encoder(str(source), models)
    assert folders(models) == [folder.name]
    assert TwoTowerEncoder(folder).encode_queries(["mug"]).shape == (1, 32)


@pytest.mark.parametrize("name", [CARD, NETWORK, "openvino_model.bin", "tokenizer.json"])
def test_a_folder_that_lost_a_file_is_not_found(source, models, name):
    (find_exported("two-tower", str(source), models) / name).unlink()
    with pytest.raises(EncoderError, match=r"has not been exported .* yet; run: manage\.py reindex"):
        find_exported("two-tower", str(source), models)


def test_a_damaged_folder_is_cured_as_its_error_says(source, models):
    folder = find_exported("two-tower", str(source), models)
    (folder / CARD).write_text("{")
    with pytest.raises(EncoderError, match=r"run: manage\.py reindex"):
        TwoTowerEncoder(folder)
    assert export_encoder(str(source), models) == folder
    assert TwoTowerEncoder(folder).encode_queries(["mug"]).shape == (1, 32)


@pytest.mark.parametrize("register", ["", "{", "[]", "null", '"x"', "\x00"])
def test_a_damaged_register_costs_no_model(source, models, register):
    folder = find_exported("two-tower", str(source), models)
    times = written_at(folder)
    (models / REGISTER).write_text(register)
    with pytest.raises(EncoderError, match=r"run: manage\.py reindex"):
        find_exported("two-tower", str(source), models)
    assert export_encoder(str(source), models) == folder
    assert written_at(folder) == times
    assert find_exported("two-tower", str(source), models) == folder


# --- refused with the cure -----------------------------------------------------------------------------


@pytest.fixture
def offline(monkeypatch):
    """The hub cannot be reached, and nothing of it has been kept."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # read when it was first imported


@pytest.mark.parametrize("name", ["nobody/no-such-model", "no-such-model", "not here", "x" * 300, "a/b/c", "猫", "\0"])
def test_a_name_the_hub_does_not_give_is_refused_with_the_choices(offline, tmp_path, name):
    with pytest.raises(EncoderError, match=r"neither a folder nor to be had from the hub .*expected default, a folder"):
        export_encoder(name, tmp_path)
    assert folders(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["/no/such/folder", "./missing", "../missing", "~/missing", "~nobody-at-all/model", ""]
)
def test_a_missing_path_is_named_with_the_choices(tmp_path, name):
    with pytest.raises(
        EncoderError, match=rf"there is no model folder '{name}'; expected default, a folder, or a name"
    ):
        export_encoder(name, tmp_path)


def test_a_file_is_no_model_folder(model, tmp_path):
    with pytest.raises(EncoderError, match=r"there is no model folder .*model\.safetensors'; expected default"):
        export_encoder(str(model / "model.safetensors"), tmp_path)


@pytest.mark.parametrize("export", [export_encoder, export_reranker])
def test_pickled_weights_are_refused_with_the_cure(model, tmp_path, export):
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(EncoderError, match=r"pytorch_model.bin is a pickle, .*model.save_pretrained\(folder\)"):
        export(str(model), tmp_path / "models")
    assert folders(tmp_path / "models") == []


def test_a_pickled_module_is_refused_too(model, tmp_path):
    (model / "1_Pooling" / "pytorch_model.bin").touch()
    with pytest.raises(EncoderError, match=r"1_Pooling/pytorch_model\.bin is a pickle"):
        export_encoder(str(model), tmp_path / "models")


def test_a_pickle_beside_safe_weights_is_not_read(model, models):
    (model / "pytorch_model.bin").write_bytes(b"never read")
    assert export_encoder(str(model), models).is_dir()


def test_a_folder_without_weights_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(EncoderError, match=r"empty has no weights: expected a .safetensors file"):
        export_encoder(str(tmp_path / "empty"), tmp_path / "models")


@pytest.mark.parametrize("content", ["{", "[]}", '[{"name": "0"}]', "7"])
def test_a_damaged_list_of_modules_is_refused_by_name(model, tmp_path, content):
    (model / "modules.json").write_text(content)
    with pytest.raises(EncoderError, match=r"modules.json cannot be read .*; save the model again"):
        export_encoder(str(model), tmp_path / "models")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b"\x00" * 100),
        ("model.safetensors", b""),
        ("config.json", b"{"),
        ("tokenizer.json", b"[]"),
    ],
)
@pytest.mark.parametrize("export", [export_encoder, export_reranker])
def test_a_damaged_model_is_refused_by_name_and_leaves_nothing_to_use(model, tmp_path, name, content, export):
    (model / name).write_bytes(content)
    with pytest.raises(EncoderError, match=r"model in .*Tiny Model_v2 cannot be loaded: "):
        export(str(model), tmp_path / "models")
    assert not [folder for folder in folders(tmp_path / "models") if not folder.startswith(".unfinished-")]


def test_a_model_without_a_head_is_no_reranker(source, tmp_path):
    with pytest.raises(EncoderError, match=r"is no cross-encoder: it has no classifier.bias, classifier.weight"):
        export_reranker(str(source), tmp_path)


def test_a_classifier_of_more_labels_is_no_reranker(tmp_path):
    save_cross_encoder(tmp_path / "three", labels=3)
    with pytest.raises(EncoderError, match="has 3 labels, expected 1 or 2"):
        export_reranker(str(tmp_path / "three"), tmp_path / "models")


@pytest.fixture(scope="module")
def odd_reranker(tmp_path_factory):
    """The exported folder of a cross-encoder whose scores are all near 0 and whose tokenizer knows no limit."""
    folder = tmp_path_factory.mktemp("odd")
    source = save_cross_encoder(folder / "odd", seed=341, spread=0.02)  # found by trying
    BertTokenizer.from_pretrained(source, model_max_length=10**30).save_pretrained(source)
    return export_reranker(str(source), folder / "models")


def test_scores_near_zero_are_no_damage(odd_reranker):
    scores = CrossEncoderReranker(odd_reranker).score("mug", [("", "red mug")])
    assert abs(float(scores[0])) < 1e-2


def test_the_limit_is_what_the_model_takes_where_the_tokenizer_has_none(odd_reranker):
    assert json.loads((odd_reranker / CARD).read_text())["max_tokens"] == 64  # positions
    scores = CrossEncoderReranker(odd_reranker).score("mug " * 500, [("", "red " * 500)])
    assert np.isfinite(scores).all()
