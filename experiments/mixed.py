"""Two rankings of one query shown as one page, for experiments that interleave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from experiments.interleaving import draft_teams
from retrieval.engine.config import SearchConfig
from retrieval.engine.types import Query, Results, Sort

DEPTH = 300  # of the champion's ranking: the rival's is of these products alone, so that counts stay those of one set
DEEPEST = 200  # results that are interleaved; whoever goes on sees the champion's

Search = Callable[[Query, SearchConfig], Results]


def is_mixable(query: Query) -> bool:
    """Return whether the order is for rankings to decide, and the page not too far down."""
    return bool(query.text.strip()) and query.sort is Sort.RELEVANCE and query.page * query.page_size <= DEEPEST


def search_mixed(
    query: Query, config: SearchConfig, rival: SearchConfig, seed: str, search: Search
) -> tuple[Results, dict[int, str]]:
    """Return a page of both rankings interleaved, and the team of each product on it: a for `config`'s.

    The same seed gives the same order on every page. Where one side cannot be searched, the champion's own page
    comes back, without teams.
    """
    whole = replace(query, page=1, page_size=DEPTH)
    ours, theirs = search(whole, config), search(whole, rival)
    start = (query.page - 1) * query.page_size
    if ours.notice or theirs.notice:
        return replace(ours, hits=ours.hits[start : start + query.page_size]), {}
    hits = {hit.product_id: hit for hit in ours.hits}
    rivals = [hit.product_id for hit in theirs.hits if hit.product_id in hits]
    draft = draft_teams(list(hits), rivals, limit=start + query.page_size, seed=seed)
    shown = draft.product_ids[start:]
    teams = {product_id: str(team) for product_id, team in zip(shown, draft.teams[start:], strict=True)}
    return replace(ours, hits=tuple(hits[product_id] for product_id in shown)), teams
