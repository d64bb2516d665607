"""InfoNCE over large batches: every other product in the batch is a negative, unless it is known to be right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
from torch.nn.functional import cross_entropy, normalize


@dataclass(frozen=True)
class Rows:
    """What the rows of a training set are made of, to know what is right for whom.

    `queries`: the query of each row. `products`: the products of each row, the positive first, shape (rows, columns).
    `positives`: the products right for each query.
    """

    queries: np.ndarray[Any, np.dtype[np.int64]]
    products: np.ndarray[Any, np.dtype[np.int64]]
    positives: Sequence[frozenset[int]]

    def find_right(self, rows: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return which products of a batch are right for the query of each of its rows.

        Shape (batch, columns * batch), the products column by column as the loss has them.
        """
        products = self.products[rows].T.ravel()
        right = [self.positives[query] for query in self.queries[rows].tolist()]
        return np.array([[product in known for product in products.tolist()] for known in right], bool)


class MaskedInfoNCE(CachedMultipleNegativesRankingLoss):
    """InfoNCE (van den Oord et al. 2018) with cached gradients (Gao et al. 2021) at several Matryoshka sizes.

    Batches of any size fit in memory, for texts are embedded `mini_batch_size` at once. What `rows` knows to be right
    for a query is no negative of it, nor is a second copy of its positive.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        rows: Rows,
        *,
        temperature: float = 0.05,
        dims: Sequence[int] = (384,),
        mini_batch_size: int = 32,
    ) -> None:
        super().__init__(model, scale=1 / temperature, mini_batch_size=mini_batch_size)
        self.rows, self.dims = rows, tuple(dims)

    def calculate_loss(
        self, reps: list[list[torch.Tensor]], labels: torch.Tensor | None = None, *, with_backward: bool = False
    ) -> torch.Tensor:
        """Return the mean loss over the batch and the sizes; `labels` are the numbers of its rows."""
        assert labels is not None
        queries, products = torch.cat(reps[0]).float(), torch.cat([torch.cat(column) for column in reps[1:]]).float()
        targets = torch.arange(len(queries), device=queries.device)
        hidden = torch.from_numpy(self.rows.find_right(labels.cpu().numpy())).to(queries.device)
        hidden[targets, targets] = False  # the positive itself
        losses = [self._at_size(queries, products, hidden, targets, size) for size in self.dims]
        loss = torch.stack(losses).mean()
        if with_backward:
            loss.backward()  # type: ignore[no-untyped-call]
            loss = loss.detach()
        return loss

    def _at_size(
        self, queries: torch.Tensor, products: torch.Tensor, hidden: torch.Tensor, targets: torch.Tensor, size: int
    ) -> torch.Tensor:
        scores = normalize(queries[:, :size], dim=1) @ normalize(products[:, :size], dim=1).T
        return cross_entropy((scores * self.scale).masked_fill(hidden, -torch.inf), targets)
