"""The cross-encoder's training: which products a list has, losses by hand, an adapter that orders, resumed."""

import math
import random
from dataclasses import replace

import pytest
import torch

from retrieval.engine.types import Document
from retrieval.learning import cross_encoder
from retrieval.learning.adapters import load_cross_encoder
from retrieval.learning.cross_encoder import (
    CrossEncoderSettings,
    GradedList,
    build_lists,
    choose,
    distillation_loss,
    listwise_loss,
    pointwise_loss,
    train,
)
from retrieval.learning.examples import LabelledQuery
from retrieval.learning.training import TrainingCancelledError, TrainingError
from tests.tiny_models import save_cross_encoder

QUERIES = [
    LabelledQuery(f"{colour} mug", {1: 3.0, 2: 1.0, 3: 0.0}, "test", is_complete=True)
    for colour in ("red", "blue", "green", "steel", "travel", "mug red", "mug blue", "cup")
]
DOCUMENTS = {
    number: Document(number, f"S{number}", title)
    for number, title in enumerate(("red mug", "cup", "sofa", "kettle"), 1)
}
SETTINGS = CrossEncoderSettings(
    steps=6, lists=2, list_size=4, lora_rank=2, learning_rate=0.05, max_tokens=32, checkpoint_steps=2, variety=0.0
)


def test_a_list_has_answers_near_misses_and_wrong_ones_that_were_found():
    query = LabelledQuery("mug", {1: 3.0, 2: 1.0}, "test", is_complete=True)
    assert sorted(choose(query, [2, 3, 1], [9], 5, random.Random(1))) == [1, 2, 3, 9, 9]


@pytest.mark.parametrize("size", [4, 5, 6, 8])
def test_a_short_list_has_a_wrong_product_too(size):
    query = LabelledQuery("mug", {1: 3.0, 2: 3.0, 3: 1.0, 4: 1.0, 5: 1.0, 6: 0.0}, "test", is_complete=True)
    chosen = choose(query, [1, 2, 3, 4, 5, 6], [1], size, random.Random(1))
    assert (len(chosen), 6 in chosen, {1, 2} <= set(chosen)) == (size, True, True)


def test_what_is_found_first_and_has_no_grade_is_not_taken_for_wrong_unless_all_are_graded():
    found = list(range(10, 30))
    known = LabelledQuery("mug", {1: 3.0}, "test")
    drawn = {product for seed in range(50) for product in choose(known, found, [1], 8, random.Random(seed))}
    assert drawn == {1, *range(20, 30)}
    complete = replace(known, is_complete=True)
    drawn = {product for seed in range(50) for product in choose(complete, found, [1], 8, random.Random(seed))}
    assert drawn == {1, *found}


def test_lists_are_as_many_as_the_steps_read_and_the_same_every_time():
    lists = build_lists(QUERIES, DOCUMENTS, {}, SETTINGS)
    assert len(lists) == 12
    assert {len(one.texts) for one in lists} == {4}
    assert lists == build_lists(QUERIES, DOCUMENTS, {}, SETTINGS)
    assert {target for one in lists for target in one.targets} == {1.0, 1 / 9, 0.0}


def test_too_few_queries_are_refused():
    with pytest.raises(TrainingError, match=r"7 of 7 queries .* at least 8 are needed"):
        build_lists(QUERIES[:7], DOCUMENTS, {}, SETTINGS)


def test_an_unknown_loss_is_refused():
    with pytest.raises(TrainingError, match="unknown loss 'hinge', expected one of: pointwise"):
        CrossEncoderSettings(loss="hinge")  # type: ignore[arg-type]


def test_losses_worked_by_hand():
    logits, targets = torch.tensor([[math.log(3), 0.0]]), torch.tensor([[1.0, 0.0]])
    # sigmoid(ln 3) = 3/4, sigmoid(0) = 1/2
    assert float(pointwise_loss(logits, targets)) == pytest.approx((-math.log(0.75) - math.log(0.5)) / 2)
    # softmax = 3/4, 1/4, and all of the grades lie in the first
    assert float(listwise_loss(logits, targets)) == pytest.approx(-math.log(0.75))
    # margins ±(ln 3) against the teacher's ±1, over four pairs of which two are a product with itself
    assert float(distillation_loss(logits, targets)) == pytest.approx((math.log(3) - 1) ** 2 / 2)


def test_a_list_without_any_relevant_product_has_no_listwise_loss():
    assert float(listwise_loss(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2))) == 0.0


def score(folder, text):
    model, tokenizer = load_cross_encoder(folder, needs_head=True)
    with torch.inference_mode():
        return float(model(**tokenizer("red mug", text, return_tensors="pt")).logits[0, 0])


@pytest.fixture
def base(tmp_path):
    return str(save_cross_encoder(tmp_path / "base"))


LISTS = [GradedList("red mug", ("red mug", "sofa", "steel kettle", "cup of steel"), (1.0, 0.0, 0.0, 0.0))] * 40


def test_it_learns_to_put_what_was_asked_for_first(base, tmp_path):
    losses = []
    settings = replace(SETTINGS, steps=20)
    adapter = train(base, LISTS, settings, tmp_path / "run", on_step=lambda step: losses.append(step.loss))
    assert losses[-1] < losses[0] / 2
    assert score(adapter, "red mug") > score(adapter, "sofa") + 1


def test_a_training_goes_on_from_where_it_was_cancelled_to_the_same_weights(base, tmp_path):
    whole = train(base, LISTS[:12], SETTINGS, tmp_path / "whole")
    steps = []
    with pytest.raises(TrainingCancelledError, match="step 4 of 6"):
        train(base, LISTS[:12], SETTINGS, tmp_path / "part", on_step=lambda step: steps.append(step.number),
              is_cancelled=lambda: len(steps) == 3)  # fmt: skip
    resumed = train(base, LISTS[:12], SETTINGS, tmp_path / "part", on_step=lambda step: steps.append(step.number))
    assert steps == [1, 2, 3, 4, 5, 6]
    assert score(resumed, "red mug") == pytest.approx(score(whole, "red mug"), abs=2e-3)


def test_a_gpu_without_bf16_is_trained_on_in_float32(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    monkeypatch.setattr(cross_encoder, "TrainingArguments", lambda **options: asked.append(options))
    cross_encoder._to_arguments(SETTINGS, tmp_path)
    assert [(options["bf16"], options["use_cpu"]) for options in asked] == [(False, False)]
