"""Telling searches from typing: a client that searches at every key has one intent, not ten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

PAUSE_S = 5.0  # who types on has searched nothing yet


@dataclass(frozen=True, slots=True)
class TypedSearch:
    """One search of a client. `at_s`: when, in seconds; `is_clicked`: whether one of its results was clicked."""

    query_id: str
    text: str
    at_s: float
    is_clicked: bool = False


def collapse_keystrokes(searches: Sequence[TypedSearch], *, pause_s: float = PAUSE_S) -> dict[str, str]:
    """Return which of one client's searches, in the order of time, were typing: their ids, and the search they became.

    A search is typing when within `pause_s` the next one's text goes on from its own, or takes some of it back, and
    none of its results was clicked. Empty texts browse and are never typing.
    """
    became = {
        earlier.query_id: later.query_id
        for earlier, later in pairwise(searches)
        if _is_typing(earlier, later, pause_s) and earlier.query_id != later.query_id
    }
    for query_id in reversed(list(became)):  # the last of a word typed stands for all of it
        became[query_id] = became.get(became[query_id], became[query_id])
    return became


def _is_typing(earlier: TypedSearch, later: TypedSearch, pause_s: float) -> bool:
    if earlier.is_clicked or not (earlier.text and later.text) or later.at_s - earlier.at_s > pause_s:
        return False
    return later.text.startswith(earlier.text) or earlier.text.startswith(later.text)
