"""The rows two towers learn from: a query, what answers it, what does not; and what is right for whom in a batch."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from retrieval.learning.examples import LabelledQuery
from retrieval.learning.negatives import find_spared, find_wrong, is_of_sample
from retrieval.learning.training import TrainingError

LEAST_QUERIES = 8
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """The distinct `queries` and `products` of some rows, so that each is embedded once.

    `asked`, `answers` and `wrong` give the places of each row's query, positive and negative in them. `hidden`, shape
    (rows, products), marks what is no negative of a row. `margins` are a teacher's, as of `Rows`.
    """

    queries: Integers
    products: Integers
    asked: Integers
    answers: Integers
    wrong: Integers
    hidden: npt.NDArray[np.bool_]
    margins: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Rows:
    """What the rows of a training set are made of, to know what is right for whom.

    `queries`: the query of each row. `products`: the products of each row, the positive first, shape (rows, 2).
    `spared`: for each query the products that are no negatives of it, its positives among them. `margins`: how far
    a teacher's score of each row's positive lies above that of its negative, none without a teacher.
    """

    queries: Integers
    products: Integers
    spared: Sequence[frozenset[int]]
    margins: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.queries)

    def take(self, start: int, count: int) -> Batch:
        """Return the batch of `count` rows from `start`."""
        rows = slice(start, start + count)
        queries, asked = np.unique(self.queries[rows], return_inverse=True)
        products, places = np.unique(self.products[rows], return_inverse=True)
        answers, wrong = places.reshape(self.products[rows].shape)[:, :2].T
        hidden = self._find_spared(queries, products)[asked]
        # Whether a product of another shop would answer a query is not known.
        hidden |= is_of_sample(products)[None, :] != is_of_sample(self.products[rows, :1])
        hidden[np.arange(len(asked)), answers] = False
        margins = None if self.margins is None else self.margins[rows]
        return Batch(queries, products, asked, answers, wrong, hidden, margins)

    def _find_spared(self, queries: Integers, products: Integers) -> npt.NDArray[np.bool_]:
        spared = [self.spared[query] for query in queries.tolist()]
        return np.array([[product in known for product in products.tolist()] for known in spared], bool)


@dataclass(frozen=True)
class TrainingSet:
    """Rows, with the queries by number and the products' texts by id that they speak of."""

    rows: Rows
    queries: Sequence[str]
    texts: Mapping[int, str]

    def digest(self) -> str:
        """Return what changes with anything that is learned from."""
        products = self.rows.products
        spoken = [self.texts[product_id] for product_id in np.unique(products).tolist()]
        margins = None if self.rows.margins is None else self.rows.margins.tolist()
        facts = (self.rows.queries.tolist(), products.tolist(), list(self.queries), spoken, margins)
        return hashlib.blake2b(repr(facts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def build_training_set(
    queries: Sequence[LabelledQuery],
    texts: Mapping[int, str],
    negatives: Mapping[str, Sequence[int]],
    *,
    count: int,
    seed: int,
) -> TrainingSet:
    """Return `count` rows of a query, one of its positives and one hard negative, queries drawn by their weight.

    `negatives`: mined products by the query's text; where there are none, those known to be wrong. Raises
    TrainingError when there are too few queries to learn from.
    """
    usable = find_usable(queries, texts, negatives)
    rng = random.Random(f"rows-{seed}")
    drawn = rng.choices(range(len(usable)), [query.weight for query in usable], k=count)
    positives = [query.positives for query in usable]
    wrong = [negatives.get(query.text) or find_wrong(query) for query in usable]
    products = [[rng.choice(positives[at]), rng.choice(wrong[at])] for at in drawn]
    rows = Rows(np.array(drawn, np.int64), np.array(products, np.int64), [find_spared(query) for query in usable])
    return TrainingSet(rows, [query.text for query in usable], texts)


def find_usable(
    queries: Sequence[LabelledQuery],
    known: Container[int],
    negatives: Mapping[str, Sequence[int]] | None = None,
    *,
    are_mined: bool = False,
) -> list[LabelledQuery]:
    """Return the queries that have products to learn from, a positive and a negative, with only those graded.

    `are_mined`: negatives are yet to be found, so that none need be known. Products not `known` are left out.
    Raises TrainingError when there are too few queries.
    """
    found = []
    for query in queries:
        grades = {product_id: grade for product_id, grade in query.grades.items() if product_id in known}
        usable = replace(query, grades=grades)
        if usable.positives and (are_mined or find_wrong(usable) or (negatives or {}).get(query.text)):
            found.append(usable)
    if len(found) < LEAST_QUERIES:
        raise TrainingError(
            f"{len(found)} of {len(queries)} queries have both a product that answers them and one that does not; "
            f"at least {LEAST_QUERIES} are needed: add ratings, or learn from the catalogue"
        )
    return found
