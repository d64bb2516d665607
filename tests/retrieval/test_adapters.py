"""Adapters are models: loaded by name, merged into what they are for, exported under a version of both."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import BertModel

from retrieval.engine.encoders import TwoTowerEncoder
from retrieval.engine.exported import NETWORK, EncoderError, ModelCard, find_exported
from retrieval.engine.rerank import CrossEncoderReranker
from retrieval.learning import sources
from retrieval.learning.adapters import keep_layers, load_cross_encoder, load_two_tower, quiet, save_adapter
from retrieval.learning.conversion import FirstTokenLayer, PairScorer
from retrieval.learning.export import export_encoder, export_reranker
from tests.tiny_models import make_config, make_tokenizer, save_cross_encoder, save_two_tower

DOCUMENTS = [("", "red mug"), ("", "blue kettle of steel")]
TARGETS = r".*encoder.*\.(query|key|value|dense)"


def adapt(model: Any, *, seed: int, head: bool = False) -> PeftModel:
    """Return the model with an adapter that changes much, as if it had learned."""
    torch.manual_seed(seed)
    settings = LoraConfig(r=4, target_modules=TARGETS, modules_to_save=["classifier"] if head else None)
    with quiet():
        learner = get_peft_model(model, settings)
    with torch.no_grad():
        for weight in learner.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight), alpha=0.1)
    return learner.eval()


def save_tower_adapter(base: str, folder: Path, *, seed: int = 1) -> Path:
    model = load_two_tower(base)
    learner = adapt(model[0].auto_model, seed=seed)
    return save_adapter(learner, model.tokenizer, folder, base=base)


def save_scorer_adapter(base: str, folder: Path, *, layers: tuple[int, ...] = (), max_tokens: int | None = None) -> Any:
    """Save an adapter with a head and return the scores it gives before that."""
    torch.manual_seed(7)  # the head begins at random
    model, tokenizer = load_cross_encoder(base, layers=layers)
    learner = adapt(model, seed=2, head=True)
    save_adapter(learner, tokenizer, folder, base=base, layers=layers, max_tokens=max_tokens)
    texts = [text for _, text in DOCUMENTS]
    features = tokenizer(["mug"] * len(texts), texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        return learner(**features).logits[:, 0].numpy()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A tiny two-tower model of three layers."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(1)
    config = make_config()
    config.num_hidden_layers = 3
    BertModel(config).save_pretrained(folder / "transformer")
    make_tokenizer().save_pretrained(folder / "transformer")
    modules = [Transformer(str(folder / "transformer")), Pooling(32)]
    SentenceTransformer(modules=modules, device="cpu").save(str(folder / "tiny"), create_model_card=False)
    return folder / "tiny"


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    return save_tower_adapter(str(base), tmp_path_factory.mktemp("adapted") / "shop-1")


# --- saved and loaded ----------------------------------------------------------------------------------


def test_an_adapter_holds_only_what_it_changes_in_half_precision(adapter, base):
    assert sorted(path.name for path in adapter.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "searchsite.json",
    ]
    weights = load_file(adapter / sources.ADAPTER_WEIGHTS)
    assert {weight.dtype for weight in weights.values()} == {torch.float16}
    assert all("lora_" in name for name in weights)
    assert sources.read_adapter(adapter)["base_model_name_or_path"] == str(base)


def test_a_loaded_adapter_is_a_whole_model_with_the_weights_that_were_learned(adapter, base):
    model, plain = load_two_tower(str(adapter)), load_two_tower(str(base))
    assert not any("lora" in name for name, _ in model.named_parameters())
    learner = adapt(load_two_tower(str(base))[0].auto_model, seed=1)
    merged = dict(learner.merge_and_unload().named_parameters())
    transformer: Any = model[0].auto_model
    for name, weight in transformer.named_parameters():
        assert torch.allclose(weight, merged[name], atol=2e-3), name
    left, right = model.encode(["red mug"]), plain.encode(["red mug"])
    assert not np.allclose(left, right, atol=0.01)


def test_an_adapter_may_be_for_an_adapter(adapter, tmp_path):
    learned = save_tower_adapter(str(adapter), tmp_path / "second", seed=5)
    one, two = load_two_tower(str(adapter)), load_two_tower(str(learned))
    assert not np.allclose(one.encode(["red mug"]), two.encode(["red mug"]), atol=0.01)


def test_a_cross_encoder_learned_from_a_two_tower_keeps_its_head_in_the_adapter(base, tmp_path):
    expected = save_scorer_adapter(str(base), tmp_path / "judge")
    folder = export_reranker(str(tmp_path / "judge"), tmp_path / "models")
    scores = CrossEncoderReranker(folder, precision="f32").score("mug", DOCUMENTS)
    assert np.allclose(scores, expected, atol=0.02)
    assert folder.name.startswith("judge-")


def test_a_student_has_only_the_layers_it_kept_and_reads_as_much_as_it_learned_on(base, tmp_path):
    expected = save_scorer_adapter(str(base), tmp_path / "student", layers=(0, 2), max_tokens=24)
    model, tokenizer = load_cross_encoder(str(tmp_path / "student"), needs_head=True)
    assert (len(model.bert.encoder.layer), tokenizer.model_max_length) == (2, 24)
    folder = export_reranker(str(tmp_path / "student"), tmp_path / "models")
    assert ModelCard.read(folder).max_tokens == 24
    scores = CrossEncoderReranker(folder, precision="f32").score("mug", DOCUMENTS)
    assert np.allclose(scores, expected, atol=0.02)


def test_an_adapter_of_a_cross_encoder_goes_on_from_its_head(tmp_path):
    source = save_cross_encoder(tmp_path / "judge")
    expected = save_scorer_adapter(str(source), tmp_path / "adapted")
    model, tokenizer = load_cross_encoder(str(tmp_path / "adapted"), needs_head=True)
    features = tokenizer(["mug"] * 2, [text for _, text in DOCUMENTS], padding=True, return_tensors="pt")
    with torch.inference_mode():
        assert np.allclose(model(**features).logits[:, 0].numpy(), expected, atol=0.02)


def test_an_adapter_saved_by_peft_itself_is_one_too(base, tmp_path):
    learner = adapt(load_two_tower(str(base))[0].auto_model, seed=1)
    learner.peft_config["default"].base_model_name_or_path = str(base)
    learner.save_pretrained(str(tmp_path / "peft"), save_embedding_layers=False)
    assert load_two_tower(tmp_path / "peft").encode(["mug"]).shape == (1, 32)


@pytest.mark.parametrize("layers", [(3,), (-1,), (1, 1), (2, 0)])
def test_layers_the_model_does_not_have_are_refused(base, layers):
    with pytest.raises(EncoderError, match=r"layers .*: expected different ones from 0 to 2, in their order"):
        load_cross_encoder(str(base), layers=layers)


def test_a_model_without_a_list_of_layers_is_kept_whole(base):
    model, _ = load_cross_encoder(str(base))
    model.config.num_hidden_layers = 7
    with pytest.raises(EncoderError, match="has no list of 7 layers"):
        keep_layers(model, (0,))


@pytest.mark.slow
def test_an_adapter_of_the_default_model_is_exported(tmp_path):
    save_scorer_adapter("default", tmp_path / "judge", layers=(1, 3, 5), max_tokens=64)
    card = ModelCard.read(export_reranker(str(tmp_path / "judge"), tmp_path / "models"))
    assert (card.kind, card.max_tokens, card.precision) == ("cross-encoder", 64, "float")


# --- versions ------------------------------------------------------------------------------------------


def test_an_exported_adapter_encodes_as_in_pytorch(adapter, tmp_path):
    folder = export_encoder(str(adapter), tmp_path)
    assert folder.name.startswith("shop-1-")
    found = TwoTowerEncoder(folder, precision="f32").encode_queries(["red mug"])
    expected = load_two_tower(str(adapter)).encode(["red mug"], normalize_embeddings=True)
    assert float(found[0] @ expected[0]) > 0.999


def test_the_version_changes_with_the_adapter_and_with_what_it_is_for(base, tmp_path):
    own = shutil.copytree(base, tmp_path / "base")
    folder = save_tower_adapter(str(own), tmp_path / "adapter")
    versions, stamps = [sources.name_version(folder, "two-tower", "a")], [sources.stamp(folder)]
    save_tower_adapter(str(own), folder, seed=9)
    versions.append(sources.name_version(folder, "two-tower", "a"))
    stamps.append(sources.stamp(folder))
    tokenizer = own / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"sofa"', '"couch"'))
    versions.append(sources.name_version(folder, "two-tower", "a"))
    stamps.append(sources.stamp(folder))
    assert len(set(versions)) == len(set(stamps)) == 3


def test_the_version_does_not_change_with_where_the_adapter_lies(adapter, tmp_path):
    copy = shutil.copytree(adapter, tmp_path / "elsewhere")
    names = {sources.name_version(folder, "two-tower", "a") for folder in (adapter, copy)}
    assert len(names) == 1


# --- two towers ----------------------------------------------------------------------------------------


@pytest.fixture
def untied(base, tmp_path):
    folder = tmp_path / "untied"
    save_tower_adapter(str(base), folder / "adapter", seed=1)
    save_tower_adapter(str(base), folder / "query_adapter", seed=2)
    return folder


def test_untied_towers_are_two_networks_in_one_version(untied, tmp_path):
    folder = export_encoder(str(untied), tmp_path / "models")
    assert folder.name.startswith("untied-")
    assert ModelCard.read(folder).towers == "untied"
    encoder = TwoTowerEncoder(folder, precision="f32")
    for side, encode in (("product", encoder.encode_products), ("query", encoder.encode_queries)):
        expected = load_two_tower(untied, side=side).encode(["red mug"], normalize_embeddings=True)  # type: ignore[arg-type]
        assert float(encode(["red mug"])[0] @ expected[0]) > 0.999
    assert float(encoder.encode_products(["red mug"])[0] @ encoder.encode_queries(["red mug"])[0]) < 0.99
    assert encoder.is_word("mug")
    assert TwoTowerEncoder(folder, dims=8).encode_queries(["mug"]).shape == (1, 8)


def test_the_version_of_untied_towers_changes_with_that_of_the_queries(untied, base):
    before = sources.name_version(untied, "two-tower", "a"), sources.stamp(untied)
    save_tower_adapter(str(base), untied / "query_adapter", seed=3)
    after = sources.name_version(untied, "two-tower", "a"), sources.stamp(untied)
    assert not set(before) & set(after)


def test_an_untied_folder_that_lost_its_query_tower_is_exported_anew(untied, tmp_path):
    folder = export_encoder(str(untied), tmp_path / "models")
    (folder / "query" / NETWORK).unlink()
    with pytest.raises(EncoderError, match="has not been exported"):
        find_exported("two-tower", str(untied), tmp_path / "models")
    export_encoder(str(untied), tmp_path / "models")
    assert TwoTowerEncoder(folder).encode_queries(["mug"]).shape == (1, 32)


def test_towers_of_different_sizes_are_refused(base, tmp_path):
    shutil.copytree(base, tmp_path / "odd" / "model")
    config = make_config()
    config.hidden_size = 16
    BertModel(config).save_pretrained(tmp_path / "narrow")
    make_tokenizer().save_pretrained(tmp_path / "narrow")
    modules = [Transformer(str(tmp_path / "narrow")), Pooling(16)]
    narrow = SentenceTransformer(modules=modules, device="cpu")
    narrow.save(str(tmp_path / "odd" / "query_model"), create_model_card=False)
    with pytest.raises(EncoderError, match="towers of 16 and 32 numbers"):
        export_encoder(str(tmp_path / "odd"), tmp_path / "models")


def test_an_adapter_for_untied_towers_follows_each_of_them(untied, tmp_path):
    again = tmp_path / "again"
    for part in ("adapter", "query_adapter"):
        side: sources.Side = "query" if part == "query_adapter" else "product"
        model = load_two_tower(untied, side=side)
        save_adapter(adapt(model[0].auto_model, seed=4), model.tokenizer, again / part, base=str(untied))
    products, queries = load_two_tower(again), load_two_tower(again, side="query")
    assert not np.allclose(products.encode(["mug"]), queries.encode(["mug"]), atol=0.01)


def test_tied_towers_are_one_for_both_sides(adapter):
    left, right = load_two_tower(adapter, side="query"), load_two_tower(adapter)
    assert np.allclose(left.encode(["mug"]), right.encode(["mug"]))


# --- refused with the cure -----------------------------------------------------------------------------


@pytest.fixture
def damaged(adapter, tmp_path):
    return shutil.copytree(adapter, tmp_path / "damaged")


def change(folder: Path, **settings: Any) -> None:
    path = folder / sources.ADAPTER
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_a_pickled_adapter_is_refused_with_the_cure(damaged):
    (damaged / sources.ADAPTER_WEIGHTS).rename(damaged / "adapter_model.bin")
    with pytest.raises(EncoderError, match=r"adapter_model.bin is a pickle, .*model.save_pretrained\(folder\)"):
        load_two_tower(damaged)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "IA3"}, "is of type 'IA3', expected LORA"),
        ({"megatron_config": {"a": 1}, "megatron_core": "antigravity"}, "is for Megatron"),
        ({"base_model_name_or_path": None}, "does not say which model it is for"),
        ({"base_model_name_or_path": "/no/such/model"}, "there is no model folder '/no/such/model'"),
        ({"base_model_name_or_path": "."}, "is for itself"),
    ],
)
def test_an_adapter_of_no_use_is_refused_by_name(damaged, settings, message):
    change(damaged, **settings)
    with pytest.raises(EncoderError, match=message):
        load_two_tower(damaged)


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_damaged_settings_are_refused_by_name(damaged, content):
    (damaged / sources.ADAPTER).write_text(content)
    with pytest.raises(EncoderError, match=r"adapter_config.json .*; save the adapter again"):
        load_two_tower(damaged)


@pytest.mark.parametrize("content", ["", "[]", '{"layers": ["a"]}', '{"max_tokens": "many"}'])
def test_damaged_facts_are_refused_by_name(damaged, content):
    (damaged / "searchsite.json").write_text(content)
    with pytest.raises(EncoderError, match=r"searchsite.json cannot be read .*; save the adapter again"):
        load_two_tower(damaged)


def test_an_adapter_without_weights_is_refused(damaged):
    (damaged / sources.ADAPTER_WEIGHTS).unlink()
    with pytest.raises(EncoderError, match=r"has no weights: expected adapter_model\.safetensors"):
        load_two_tower(damaged)


def test_cut_weights_are_refused_by_name(damaged):
    weights = damaged / sources.ADAPTER_WEIGHTS
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(EncoderError, match=r"the two-tower model in .*damaged cannot be loaded"):
        load_two_tower(damaged)


def test_an_adapter_of_the_other_kind_of_model_is_refused(base, adapter, tmp_path):
    save_scorer_adapter(str(base), tmp_path / "judge")
    with pytest.raises(EncoderError, match="does not fit its model"):
        load_two_tower(tmp_path / "judge")
    with pytest.raises(EncoderError, match=r"is no cross-encoder: it has no classifier"):
        load_cross_encoder(adapter, needs_head=True)


# --- less work -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("texts", [("mug", "red kettle of blue steel"), ("mug", "sofa")], ids=["padded", "alike"])
def test_a_reranker_computes_its_last_layer_for_one_token_with_the_same_scores(tmp_path, attention, texts):
    model, tokenizer = load_cross_encoder(save_cross_encoder(tmp_path / "judge"))
    model.set_attn_implementation(attention)
    whole = PairScorer(model.eval())
    features = tokenizer(["red mug"] * len(texts), list(texts), padding=True, return_tensors="pt")
    lean = whole.to_trace()
    with torch.inference_mode():
        expected, found = whole(**features), lean(**features)
        last = lean.model.bert(**features).last_hidden_state
    assert torch.allclose(found, expected, atol=1e-6)
    assert last.shape[1] == 1
    assert not isinstance(whole.model.bert.encoder.layer[-1], FirstTokenLayer)


# --- int8 ----------------------------------------------------------------------------------------------

PAIRS = [("red mug", f"{colour} {thing} of steel") for colour in ("red", "blue") for thing in ("mug", "sofa")] * 5


def test_an_int8_model_is_a_version_of_its_own_that_scores_nearly_the_same(tmp_path, capsys):
    source = save_cross_encoder(tmp_path / "judge")
    whole = export_reranker(str(source), tmp_path / "models")
    small = export_reranker(str(source), tmp_path / "models", quantize_with=PAIRS)
    assert small.name.startswith("judge-int8-")
    assert ModelCard.read(small).precision == "int8"
    assert find_exported("cross-encoder", str(source), tmp_path / "models") == whole
    assert find_exported("cross-encoder", str(source), tmp_path / "models", "int8") == small
    left, right = (CrossEncoderReranker(folder, precision="f32").score("mug", DOCUMENTS) for folder in (whole, small))
    assert np.allclose(left, right, atol=0.3)  # random weights, 32 a layer: int8 is finer on trained ones
    assert export_reranker(str(source), tmp_path / "models", quantize_with=PAIRS[:10]) != small
    assert ModelCard.read(small).span == 0.0  # not measured
    assert capsys.readouterr().out == ""


def test_a_two_tower_s_register_is_its_own(tmp_path):
    source = save_two_tower(tmp_path / "tiny")
    export_encoder(str(source), tmp_path / "models")
    with pytest.raises(EncoderError, match=r"the int8 two-tower model .* has not been exported"):
        find_exported("two-tower", str(source), tmp_path / "models", "int8")
