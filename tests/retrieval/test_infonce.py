"""InfoNCE checked against its formula, and its cached gradients against plain ones."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from retrieval.learning.infonce import backpropagate, margin_loss, masked_infonce
from retrieval.learning.rows import Batch, Rows
from retrieval.learning.towers import TowerSettings, load_towers
from tests.tiny_models import save_two_tower

RNG = np.random.default_rng(3)
# Rows 0 and 2 ask the same; product 11 is right for query 1 too, though it is row 0's positive.
ROWS = Rows(
    queries=np.array([0, 1, 0]),
    products=np.array([[11, 21], [12, 22], [13, 21]]),
    spared=(frozenset({11, 13}), frozenset({12, 11})),
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(save_two_tower(tmp_path_factory.mktemp("models") / "tiny"))


def test_each_text_of_a_batch_is_there_once_and_what_is_right_is_hidden():
    batch = ROWS.take(0, 3)
    assert batch.queries.tolist() == [0, 1]
    assert batch.products.tolist() == [11, 12, 13, 21, 22]
    assert (batch.asked.tolist(), batch.answers.tolist()) == ([0, 1, 0], [0, 1, 2])
    assert batch.hidden.tolist() == [
        [False, False, True, False, False],
        [True, False, False, False, False],
        [True, False, False, False, False],
    ]


def test_products_of_another_shop_are_no_negatives():
    rows = Rows(np.array([0, 1]), np.array([[1, 2], [-1, -2]]), (frozenset({1}), frozenset({-1})))
    batch = rows.take(0, 2)
    assert batch.products.tolist() == [-2, -1, 1, 2]
    assert batch.hidden.tolist() == [[True, True, False, False], [False, False, True, True]]


@pytest.mark.parametrize("dims", [(8,), (4,), (8, 4)])
def test_the_loss_is_the_formula(dims):
    queries, products = RNG.standard_normal((2, 8)), RNG.standard_normal((5, 8))
    rows = [(0, [0, 1, 3, 4]), (1, [1, 2, 3, 4]), (0, [2, 1, 3, 4])]  # the query, and products: the positive first
    expected = []
    for size in dims:
        unit = [
            texts[:, :size] / np.linalg.norm(texts[:, :size], axis=1, keepdims=True) for texts in (queries, products)
        ]
        scores = unit[0] @ unit[1].T / 0.07
        expected += [
            np.log(np.exp(scores[query, columns]).sum()) - scores[query, columns[0]] for query, columns in rows
        ]
    found = masked_infonce(torch.tensor(queries), torch.tensor(products), ROWS.take(0, 3), temperature=0.07, dims=dims)
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-5)


def test_margins_are_compared_with_the_teachers():
    rows = replace(ROWS, margins=np.array([2.0, -1.0, 0.5], np.float32))
    queries, products = RNG.standard_normal((2, 8)), RNG.standard_normal((5, 8))
    unit = [texts / np.linalg.norm(texts, axis=1, keepdims=True) for texts in (queries, products)]
    scores = unit[0] @ unit[1].T / 0.5
    batch = rows.take(0, 3)
    found = [scores[asked, right] - scores[asked, wrong]
             for asked, right, wrong in zip(batch.asked, batch.answers, batch.wrong, strict=True)]  # fmt: skip
    expected = np.mean((np.array(found) - [2.0, -1.0, 0.5]) ** 2)
    loss = margin_loss(torch.tensor(queries), torch.tensor(products), batch, temperature=0.5, dims=(8,))
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(margin_loss(torch.zeros(2, 8), torch.zeros(5, 8), ROWS.take(0, 3), temperature=1, dims=(8,))) == 0


QUERIES = ["red mug", "steel kettle"]
PRODUCTS = ["a red mug for travel", "a kettle of steel", "mug", "green sofa", "cup, blue"]


def measure_gradients(towers, batch: Batch) -> np.ndarray:
    towers.zero_grad()
    loss_of = partial(masked_infonce, batch=batch, temperature=0.1, dims=(32, 16))
    backpropagate(towers.query, towers.product, QUERIES, PRODUCTS, loss_of)
    return torch.cat([weight.grad.flatten() for weight in towers.learned().values() if weight.grad is not None]).numpy()


@pytest.mark.parametrize("towers", ["tied", "untied"])
@pytest.mark.parametrize("lora_rank", [0, 4])
def test_cached_gradients_are_those_of_one_pass(base, towers, lora_rank, monkeypatch):
    monkeypatch.setattr(
        "retrieval.learning.towers.computes_in_bf16", lambda device_type: False
    )  # to compare in full precision
    settings = TowerSettings(towers=towers, lora_rank=lora_rank, max_tokens=16, mini_batch_tokens=16)
    torch.manual_seed(1)
    model, batch = load_towers(base, settings), ROWS.take(0, 3)
    with torch.no_grad():
        for weight in model.learned().values():
            weight.add_(torch.randn_like(weight) * 0.1)  # adapters begin at 0, where half of them have no gradient
    cached = measure_gradients(model, batch)
    model.zero_grad()
    vectors = []
    for tower, texts in ((model.query, QUERIES), (model.product, PRODUCTS)):
        parts = [(batch.positions, tower(batch)) for batch in tower.prepare(texts)]
        order = np.argsort(np.concatenate([positions for positions, _ in parts]))
        vectors.append(torch.cat([part for _, part in parts])[order])
    masked_infonce(vectors[0], vectors[1], batch, temperature=0.1, dims=(32, 16)).backward()
    plain = torch.cat([weight.grad.flatten() for weight in model.learned().values() if weight.grad is not None]).numpy()
    assert np.abs(plain).max() > 0
    np.testing.assert_allclose(cached, plain, atol=1e-5)


def test_alike_lengths_are_read_together(base):
    tower = load_towers(base, TowerSettings(max_tokens=32, mini_batch_tokens=48)).product
    batches = tower.prepare(["mug", "mug " * 30, "red mug", "mug of steel for travel of blue"])
    assert [batch.positions.tolist() for batch in batches] == [[1], [3, 2, 0]]
    assert [tuple(batch.input_ids.shape) for batch in batches] == [(1, 32), (3, 16)]
    assert batches[0].attention_mask.all()


def test_vectors_come_in_the_order_of_the_texts(base):
    towers = load_towers(base, TowerSettings(mini_batch_tokens=16, max_tokens=16))
    together = towers.encode_products(PRODUCTS)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    for text, vector in zip(PRODUCTS, together, strict=True):
        np.testing.assert_allclose(towers.encode_products([text])[0], vector, atol=0.02)  # bf16
    assert towers.encode_queries([]).shape == (0, 32)
