"""InfoNCE checked against its formula, and its cached gradients against plain ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from retrieval.learning.infonce import MaskedInfoNCE, Rows
from tests.tiny_models import save_two_tower

RNG = np.random.default_rng(3)
# Rows 0 and 2 ask the same; product 11 is right for query 1 too, though it is row 0's positive.
ROWS = Rows(
    queries=np.array([0, 1, 0]),
    products=np.array([[11, 21], [12, 22], [13, 23]]),
    positives=(frozenset({11, 13}), frozenset({12, 11})),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return SentenceTransformer(str(save_two_tower(tmp_path_factory.mktemp("models") / "tiny")), device="cpu")


def test_right_products_are_found_column_by_column():
    found = ROWS.find_right(np.array([0, 1, 2]))
    # columns: 11 12 13 21 22 23
    assert found.tolist() == [
        [True, False, True, False, False, False],
        [True, True, False, False, False, False],
        [True, False, True, False, False, False],
    ]


@pytest.mark.parametrize("dims", [(8,), (4,), (8, 4)])
def test_the_loss_is_the_formula(model, dims):
    queries, products = RNG.standard_normal((3, 8)), RNG.standard_normal((6, 8))
    allowed = [[0, 3, 4, 5, 1], [1, 2, 3, 4, 5], [2, 1, 3, 4, 5]]  # the positive first, then what is not right
    expected = []
    for size in dims:
        unit = [rows[:, :size] / np.linalg.norm(rows[:, :size], axis=1, keepdims=True) for rows in (queries, products)]
        scores = unit[0] @ unit[1].T / 0.07
        expected.append(
            np.mean([np.log(np.exp(scores[row, columns]).sum()) - scores[row, columns[0]]
                     for row, columns in enumerate(allowed)])
        )  # fmt: skip
    loss = MaskedInfoNCE(model, ROWS, temperature=0.07, dims=dims)
    reps = [[torch.tensor(queries)], [torch.tensor(products[:3])], [torch.tensor(products[3:])]]
    found = loss.calculate_loss(reps, torch.tensor([0, 1, 2]))
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-5)


def test_gradients_do_not_depend_on_how_many_texts_are_embedded_at_once(model):
    columns = [["red mug", "steel kettle", "mug"], ["a red mug", "a kettle", "mug for travel"], ["sofa", "cup", "blue"]]
    gradients = []
    for size in (1, 3):
        model.zero_grad()
        loss = MaskedInfoNCE(model, ROWS, dims=(32, 16), mini_batch_size=size)
        features = [model.preprocess(column) for column in columns]
        loss(features, torch.tensor([0, 1, 2])).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).numpy())
    assert np.abs(gradients[0]).max() > 0
    np.testing.assert_allclose(gradients[0], gradients[1], atol=1e-5)
