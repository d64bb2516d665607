"""Adapters averaged: the mean of what each changes, and refused where they do not belong together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from retrieval.engine.exported import EncoderError
from retrieval.learning.adapters import load_cross_encoder, quiet, save_adapter
from retrieval.learning.averaging import average_adapters, check_averageable
from retrieval.learning.cross_encoder import TARGETS
from tests.tiny_models import save_cross_encoder


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    return str(save_cross_encoder(tmp_path_factory.mktemp("bases") / "reader"))


def make_adapter(
    base: str, folder: Path, *, rank: int = 4, alpha: int = 4, seed: int = 1, max_tokens: int = 16
) -> Path:
    """Return an adapter of random numbers."""
    torch.manual_seed(seed)
    model, tokenizer = load_cross_encoder(base)
    settings = LoraConfig(r=rank, lora_alpha=alpha, target_modules=TARGETS, modules_to_save=["classifier"])
    with quiet():
        learner = get_peft_model(model, settings)
    with torch.no_grad():
        for name, weight in learner.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                weight.normal_(std=0.1)
    return save_adapter(learner, tokenizer, folder, base=base, max_tokens=max_tokens)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    model, _ = load_cross_encoder(folder, needs_head=True)
    found: dict[str, torch.Tensor] = model.state_dict()
    return found


def test_every_weight_is_the_mean_of_the_models_whatever_their_ranks(base, tmp_path):
    first = make_adapter(base, tmp_path / "first", rank=2, alpha=8)
    second = make_adapter(base, tmp_path / "second", rank=4, alpha=4, seed=2)
    averaged = average_adapters([first, second], tmp_path / "both")
    assert json.loads((averaged / "adapter_config.json").read_text())["r"] == 6
    assert json.loads((averaged / "searchsite.json").read_text())["max_tokens"] == 16
    one, two, found = weights_of(first), weights_of(second), weights_of(averaged)
    assert found.keys() == one.keys()
    for name in found:
        torch.testing.assert_close(found[name], (one[name] + two[name]) / 2, atol=2e-3, rtol=2e-3)
    assert any(not torch.allclose(one[name], two[name], atol=0.05) for name in one)


def test_the_average_of_an_adapter_with_itself_is_itself(base, tmp_path):
    first = make_adapter(base, tmp_path / "first")
    averaged = average_adapters([first, first, first], tmp_path / "same")
    for name, weight in weights_of(averaged).items():
        torch.testing.assert_close(weight, weights_of(first)[name], atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("rank", [3, 20])  # 40 is more than the model's matrices have
def test_of_many_the_most_of_what_they_change_is_kept_in_twice_the_rank_of_one(base, tmp_path, rank):
    folders = [make_adapter(base, tmp_path / f"seed-{seed}", rank=rank, alpha=3, seed=seed) for seed in (1, 2, 3)]
    averaged = average_adapters(folders, tmp_path / "all")
    assert json.loads((averaged / "adapter_config.json").read_text())["r"] == 2 * rank
    found, plain = weights_of(averaged), weights_of(Path(base))
    for name, weight in found.items():
        if name in plain and weight.ndim == 2 and "classifier" not in name:
            change = torch.stack([weights_of(folder)[name] for folder in folders]).mean(dim=0) - plain[name]
            left, values, right = torch.linalg.svd(change, full_matrices=False)
            nearest = left[:, : 2 * rank] * values[: 2 * rank] @ right[: 2 * rank]  # Eckart and Young 1936
            torch.testing.assert_close(weight - plain[name], nearest, atol=2e-3, rtol=2e-3)


def test_adapters_of_another_kind_are_refused_by_name(base, tmp_path):
    first, other = make_adapter(base, tmp_path / "first"), make_adapter(base, tmp_path / "other", max_tokens=8)
    with pytest.raises(EncoderError, match=r"first and .*other differ in layers or max_tokens"):
        average_adapters([first, other], tmp_path / "both")
    assert not (tmp_path / "both").exists()
    with pytest.raises(EncoderError, match="holds no adapter, and only adapters"):
        check_averageable(Path(base), base)
    with pytest.raises(EncoderError, match=r"changes model .*reader', not 'default': train both from one base"):
        check_averageable(first, "default")
    check_averageable(first, base)
