"""What two towers are taught by: InfoNCE over large batches, and how far apart a cross-encoder sees two products.

In InfoNCE every other product in the batch is a negative, unless it is known to be right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn.functional import cross_entropy, mse_loss, normalize

from retrieval.learning.rows import Batch
from retrieval.learning.towers import MiniBatch, Tower


def masked_infonce(
    queries: torch.Tensor, products: torch.Tensor, batch: Batch, *, temperature: float, dims: Sequence[int]
) -> torch.Tensor:
    """Return InfoNCE (van den Oord et al. 2018), the mean over rows and over Matryoshka sizes (Kusupati et al. 2022).

    `queries` and `products` are the vectors of the batch's, of any length.
    """
    asked, targets = (torch.from_numpy(places).to(queries.device) for places in (batch.asked, batch.answers))
    hidden = torch.from_numpy(batch.hidden).to(queries.device)
    losses = []
    for size in dims:
        scores = normalize(queries[:, :size], dim=1) @ normalize(products[:, :size], dim=1).T / temperature
        losses.append(cross_entropy(scores[asked].masked_fill(hidden, -torch.inf), targets))
    return torch.stack(losses).mean()


def margin_loss(
    queries: torch.Tensor, products: torch.Tensor, batch: Batch, *, temperature: float, dims: Sequence[int]
) -> torch.Tensor:
    """Return MarginMSE (Hofstätter et al. 2020): the squared difference of the towers' margins from the teacher's.

    A margin is the score of a row's positive less that of its negative, the towers' as cosines over the temperature.
    The mean is over rows and Matryoshka sizes; without a teacher it is 0.
    """
    if batch.margins is None:
        return queries.new_zeros(())
    wanted = torch.from_numpy(batch.margins).to(queries.device)
    losses = []
    for size in dims:
        asked, found = normalize(queries[:, :size], dim=1)[batch.asked], normalize(products[:, :size], dim=1)
        margins = (asked * (found[batch.answers] - found[batch.wrong])).sum(dim=1) / temperature
        losses.append(mse_loss(margins, wanted))
    return torch.stack(losses).mean()


def backpropagate(
    query_tower: Tower,
    product_tower: Tower,
    queries: Sequence[str],
    products: Sequence[str],
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Add the gradients of a loss over all these texts to the towers' weights and return the loss.

    Gradients are cached at the vectors (Gao et al. 2021), so that batches of any size fit in memory: texts are read
    once to know the loss, then again, a mini-batch at a time, to carry it back.
    """
    sides = [(query_tower, query_tower.prepare(queries)), (product_tower, product_tower.prepare(products))]
    vectors = [tower.embed(batches).requires_grad_() for tower, batches in sides]
    loss = loss_of(*vectors)
    loss.backward()  # type: ignore[no-untyped-call]
    for (tower, batches), found in zip(sides, vectors, strict=True):
        _carry_back(tower, batches, found)
    return loss.detach()


def _carry_back(tower: Tower, batches: Sequence[MiniBatch], vectors: torch.Tensor) -> None:
    assert vectors.grad is not None
    for batch in batches:
        tower(batch).backward(vectors.grad[batch.positions])
