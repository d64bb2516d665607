"""Search configurations: what is checked, and how they are kept."""

import json
from dataclasses import replace
from typing import Any

import pytest

from retrieval.engine.config import CONFIGS, SearchConfig, get_config
from retrieval.engine.types import EngineError

FILLED: dict[str, Any] = {"model": "tower-1", "reranker": "reader-1", "rerank_depth": 12, "rerank_blend": 0.8}


def test_the_default_is_hybrid():
    assert get_config("hybrid") == SearchConfig()
    assert SearchConfig().uses_lexical
    assert SearchConfig().uses_dense


def test_one_sided_configs_say_so():
    assert not get_config("dense").uses_lexical
    assert not get_config("lexical").uses_dense


def test_unknown_config_is_refused_with_the_choices():
    with pytest.raises(EngineError, match=r"unknown config 'hybird', expected one of: hybrid, lexical, dense"):
        get_config("hybird")


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_survive_being_kept_as_json(name):
    assert SearchConfig.from_dict(json.loads(json.dumps(CONFIGS[name].to_dict()))) == CONFIGS[name]
    assert CONFIGS[name].name == name


def test_only_one_built_in_config_reranks_and_leaves_depth_and_blend_to_the_card():
    assert [name for name, config in CONFIGS.items() if config.rerank_depth != 0] == ["hybrid-rerank"]
    open_config = get_config("hybrid-rerank")
    assert (open_config.rerank_depth, open_config.rerank_blend) == (None, None)
    assert open_config.settle(**FILLED) == SearchConfig("hybrid-rerank", **FILLED)
    assert replace(open_config, rerank_depth=7).settle(**FILLED).rerank_depth == 7


def test_what_is_left_out_has_its_default():
    assert SearchConfig.from_dict({"name": "deep", "depth": 2000}) == SearchConfig(name="deep", depth=2000)


def test_unknown_setting_is_refused_with_the_choices():
    with pytest.raises(EngineError, match=r"unknown search setting 'dept', expected one of: .*depth"):
        SearchConfig.from_dict({"dept": 10})


def test_unknown_fusion_is_refused_with_the_choices():
    with pytest.raises(EngineError, match=r"unknown fusion 'rff', expected one of: adaptive, weighted, rrf"):
        SearchConfig(fusion="rff")


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("dense_weight", 1.01, "0 to 1"),
        ("dense_weight", -0.01, "0 to 1"),
        ("dense_weight", float("nan"), "0 to 1"),
        ("depth", 9, "10 to 10000"),
        ("depth", 10_001, "10 to 10000"),
        ("ef", 7, "8 to 10000"),
        ("semantic_cutoff", 5.1, "0 to 5"),
        ("semantic_share", float("inf"), "0 to 1"),
        ("lexical_share", -1, "0 to 1"),
        ("rerank_depth", 201, "0 to 200"),
        ("rerank_blend", 2, "0 to 1"),
        ("model", "../secrets", "a model's version"),
        ("reranker", ".hidden", "a model's version"),
    ],
)
def test_values_out_of_range_are_refused_with_the_range(setting, value, expected):
    with pytest.raises(EngineError, match=rf"{setting}=.* of config 'mine': expected {expected}"):
        SearchConfig(name="mine", **{setting: value})


@pytest.mark.parametrize(("setting", "value"), [("dense_weight", 0), ("dense_weight", 1), ("depth", 10), ("ef", 8)])
def test_the_ends_of_a_range_belong_to_it(setting, value):
    assert getattr(SearchConfig(**{setting: value}), setting) == value


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("depth", "1000", "int"),
        ("depth", 1000.5, "int"),
        ("depth", True, "int"),
        ("dense_weight", "0.5", "float"),
        ("dense_weight", None, "float"),
        ("correct_spelling", "no", "bool"),
        ("correct_spelling", 0, "bool"),
        ("fusion", ["rrf"], "str"),
        ("name", 7, "str"),
        ("rerank_depth", 2.5, "int \\| None"),
        ("rerank_blend", "half", "float \\| None"),
        ("model", None, "str"),
    ],
)
def test_values_of_another_type_are_refused_with_the_type(setting, value, expected):
    with pytest.raises(EngineError, match=rf"{setting}=.* of config .*: expected {expected}"):
        SearchConfig.from_dict({setting: value})
