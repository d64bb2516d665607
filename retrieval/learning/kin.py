"""Products that nobody rated and that may be right all the same: the kin of what was.

People rate, click and buy a few products of each query. What else would have answered it lies mostly in the same
category, and a model that is taught to tell it from the answer learns what is not so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from retrieval.engine.types import Document
from retrieval.learning.examples import LabelledQuery

MOST_KIN = 250  # products of a category; a larger one says too little about what its products are


def spare_kin(queries: Sequence[LabelledQuery], documents: Mapping[int, Document]) -> list[LabelledQuery]:
    """Return the queries, the other products of the one category that all of a query's answers are in `unsure`."""
    shelves: dict[str, list[int]] = defaultdict(list)
    for product_id, document in documents.items():
        shelves[document.category_path].append(product_id)
    kin = {path: frozenset(found) for path, found in shelves.items() if path and len(found) <= MOST_KIN}
    return [replace(query, unsure=kin.get(_find_path(query, documents), frozenset())) for query in queries]


def _find_path(query: LabelledQuery, documents: Mapping[int, Document]) -> str:
    """Return the category path of the query's answers, '' where there is not one."""
    paths = {documents[product_id].category_path for product_id in query.positives if product_id in documents}
    return paths.pop() if len(paths) == 1 else ""
