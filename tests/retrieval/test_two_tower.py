"""Training on a tiny model: it learns, it can be stopped and goes on, and it says why it cannot."""

from __future__ import annotations

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from retrieval.learning.examples import LabelledQuery
from retrieval.learning.training import Step, TrainingCancelledError, TrainingError
from retrieval.learning.two_tower import TwoTowerSettings, build_training_set, train
from tests.tiny_models import save_two_tower

TEXTS = {1: "red mug of steel", 2: "blue kettle", 3: "green sofa", 4: "travel cup", 5: "steel kettle", 6: "blue sofa"}
ASKED = {"red": [1], "kettle": [2, 5], "sofa": [3, 6], "travel": [4], "mug": [1], "blue": [2, 6], "steel": [1, 5],
         "green": [3], "cup": [4]}  # fmt: skip
QUERIES = [
    LabelledQuery(text, {product_id: 3.0 if product_id in right else 0.0 for product_id in TEXTS}, "test")
    for text, right in ASKED.items()
]
SETTINGS = TwoTowerSettings(
    rows=96, batch_size=8, mini_batch_size=8, learning_rate=3e-3, dims=(32, 16), max_tokens=16, checkpoint_steps=4
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_two_tower(tmp_path_factory.mktemp("models") / "tiny")


def learn(base, folder, settings=SETTINGS, **hooks):
    learned = build_training_set(QUERIES, TEXTS, {}, count=settings.rows, seed=settings.seed)
    return train(base, learned, settings, folder, **hooks)


def count_right(model_folder) -> int:
    model = SentenceTransformer(str(model_folder), device="cpu")
    products = model.encode(list(TEXTS.values()), normalize_embeddings=True)
    best = (model.encode(list(ASKED), normalize_embeddings=True) @ products.T).argmax(axis=1)
    return sum(list(TEXTS)[at] in right for at, right in zip(best, ASKED.values(), strict=True))


def read_weights(model_folder):
    model = SentenceTransformer(str(model_folder), device="cpu")
    return np.concatenate([value.float().numpy().ravel() for value in model.state_dict().values()])


def test_it_learns_what_answers_what(base, tmp_path):
    steps: list[Step] = []
    found = learn(base, tmp_path, on_step=steps.append)
    assert count_right(found) > count_right(base)
    assert [step.number for step in steps] == list(range(1, 13))
    assert steps[-1].total == 12
    assert np.mean([step.loss for step in steps[-3:]]) < np.mean([step.loss for step in steps[:3]])


def test_a_cancelled_training_goes_on_to_the_same_end(base, tmp_path):
    whole = read_weights(learn(base, tmp_path / "whole"))
    steps: list[Step] = []
    with pytest.raises(TrainingCancelledError, match="cancelled at step 6 of 12"):
        learn(base, tmp_path / "cut", on_step=steps.append, is_cancelled=lambda: len(steps) >= 5)
    assert not (tmp_path / "cut" / "model").exists()
    again: list[Step] = []
    resumed = learn(base, tmp_path / "cut", on_step=again.append)
    assert again[0].number > 4
    np.testing.assert_allclose(read_weights(resumed), whole, atol=1e-5)


def test_a_diverging_training_stops_with_the_reason(base, tmp_path):
    with pytest.raises(TrainingError, match="lower the learning rate"):
        learn(base, tmp_path, TwoTowerSettings(
            rows=200, batch_size=8, mini_batch_size=8, learning_rate=1e30, dims=(32,), max_tokens=16
        ))  # fmt: skip
    assert not (tmp_path / "model").exists()


def test_too_few_queries_are_refused_with_the_cure():
    with pytest.raises(TrainingError, match=r"3 of 4 queries .* at least 8 are needed: add ratings"):
        build_training_set([*QUERIES[:3], LabelledQuery("lamp", {9: 3}, "test")], TEXTS, {}, count=10, seed=1)


def test_rows_hold_a_right_and_a_wrong_product_and_mined_ones_count():
    queries = [*QUERIES, LabelledQuery("lamp", {9: 3}, "test")]
    learned = build_training_set(queries, TEXTS, {"lamp": [7]}, count=500, seed=1)
    rows = learned.rows
    assert learned.queries[-1] == "lamp"
    for query, (right, wrong) in zip(rows.queries, rows.products, strict=True):
        assert right in rows.positives[query]
        assert wrong not in rows.positives[query]
    assert [9, 7] in rows.products.tolist()
