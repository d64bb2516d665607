"""Queries asked of a catalogue whose answers a cross-encoder chooses: for a shop where nobody has clicked or rated yet.

Queries made from a catalogue's own texts teach towers to please who made them. These are asked as people ask, and what
answers them is said by a model that reads each with the products the search finds for it: pseudo-labels, as in Wang et
al. 2022, "GPL: Generative Pseudo Labeling for Unsupervised Domain Adaptation of Dense Retrieval".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from retrieval.engine.fusion import Floats, order_by_blend
from retrieval.engine.types import Ranking
from retrieval.learning.examples import EXACT, LabelledQuery
from retrieval.learning.memory_search import MemorySearch
from retrieval.learning.negatives import SUBSTITUTE, Corpus, Teacher

WRONG = 0.0  # the grade of products that the search takes for an answer and the teacher does not


@dataclass(frozen=True, slots=True)
class PseudoSettings:
    """How the teacher's log-odds become grades.

    `depth` products are read of each query, the first `glance` to see whether it is answered here at all: that takes
    one of `answered` or more. The `most` best are answers, unless they lie more than `doubt` below the best one;
    products more than `margin` below it are wrong, those between may be either. `blend` is the teacher's share in
    which are best, the search has the rest.
    """

    depth: int = 30
    glance: int = 6
    answered: float = 1.0
    most: int = 4
    doubt: float = 1.0
    margin: float = 2.0
    blend: float = 0.6


def label_queries(
    queries: Sequence[LabelledQuery],
    search: MemorySearch,
    teacher: Teacher,
    settings: PseudoSettings | None = None,
    *,
    on_query: Callable[[int, int], None] = lambda done, total: None,
) -> list[LabelledQuery]:
    """Return those of the queries that the search's products answer, with grades for what it finds, and no others.

    `teacher`: one whose scores are log-odds. `on_query` is told how many queries are read, and of how many.
    """
    settings = settings or PseudoSettings()
    rankings = search.search([query.text for query in queries], settings.depth)
    found = []
    for done, (query, ranking) in enumerate(zip(queries, rankings, strict=True)):
        on_query(done, len(queries))
        if grades := _grade(query.text, ranking, search.corpus, teacher, settings):
            found.append(replace(query, grades=grades, is_complete=False))
    return found


def _grade(text: str, ranking: Ranking, corpus: Corpus, teacher: Teacher, settings: PseudoSettings) -> dict[int, float]:
    """Return the grades of the products found, none where no product answers the query."""
    first = _read(text, ranking.product_ids[: settings.glance].tolist(), corpus, teacher)
    if not len(first) or first.max() < settings.answered:
        return {}
    rest = _read(text, ranking.product_ids[settings.glance :].tolist(), corpus, teacher)
    scores = np.concatenate([first, rest])
    best = float(scores.max())
    order = order_by_blend(ranking.scores.astype(np.float64), scores, settings.blend)[: settings.most]
    answers = order[scores[order] >= max(settings.answered, best - settings.doubt)]
    grades = np.where(scores < best - settings.margin, WRONG, SUBSTITUTE)
    grades[answers] = EXACT
    return dict(zip(ranking.product_ids.tolist(), grades.tolist(), strict=True)) if len(answers) else {}


def _read(text: str, product_ids: Sequence[int], corpus: Corpus, teacher: Teacher) -> Floats:
    return teacher.score(text, [corpus.text_of(product_id) for product_id in product_ids]).astype(np.float64)
