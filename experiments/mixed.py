"""Two rankings of one query shown as one page, for experiments that interleave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter
from typing import Protocol

from experiments.interleaving import draft_teams
from retrieval.engine.types import Ids, Query, Results, Sort

DEPTH = 300  # of the champion's ranking: the rival's is of these products alone, so that counts stay those of one set
DEEPEST = 200  # results that are interleaved; whoever goes on sees the champion's


class Ranking(Protocol):
    """A pipeline, as far as it is asked here."""

    @property
    def notice(self) -> str: ...

    def rank(self, query: Query, most: int) -> Ids: ...

    def search(self, query: Query, shown: Sequence[int] | None = None) -> Results: ...


def is_mixable(query: Query) -> bool:
    """Return whether the order is for rankings to decide, and the page not too far down."""
    return bool(query.text.strip()) and query.sort is Sort.RELEVANCE and query.page * query.page_size <= DEEPEST


def search_mixed(query: Query, ours: Ranking, theirs: Ranking, seed: str) -> tuple[Results, dict[int, str]]:
    """Return a page of both rankings interleaved, and the team of each product on it: a for `ours`, the champion's.

    Products that both put first are of neither team: chosen, they tell nothing, and given to a team by chance, they
    made a test need three times as many visitors. The same seed gives the same order on every page. Where one side
    gives a lesser answer, the champion's own page comes back, without teams.
    """
    if ours.notice or theirs.notice:
        return ours.search(query), {}
    started_at = perf_counter()
    champions = ours.rank(query, DEPTH).tolist()
    known = set(champions)
    rivals = [product_id for product_id in theirs.rank(query, DEPTH).tolist() if product_id in known]
    start = (query.page - 1) * query.page_size
    draft = draft_teams(champions, rivals, limit=start + query.page_size, seed=seed, skips_shared_prefix=True)
    results = ours.search(query, draft.product_ids[start:])
    timings = dict(results.timings_ms) | {"total": round((perf_counter() - started_at) * 1000, 3)}
    teams = {product_id: str(team) for product_id, team in zip(draft.product_ids, draft.teams, strict=True)}
    return replace(results, timings_ms=timings), {hit.product_id: teams[hit.product_id] for hit in results.hits}
