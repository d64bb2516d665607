"""The first line of a report."""

from __future__ import annotations

import re

import numpy as np
import pytest

from experiments.analysis import Comparison, compare_all, draw_sample
from experiments.cumulative import SUMS
from experiments.preference import prefer
from experiments.verdicts import Facts, say, tell_percent


def compare_buyers(metric: str = "conversion", **buyers: int) -> list[Comparison]:
    """Return the metric of visitors, 1,000 a variant, so many of whom buy; the first variant is the champion."""
    arms = {
        name: {column: np.ones(1000) for column in SUMS} | {"purchases": (np.arange(1000) < count).astype(float)}
        for name, count in buyers.items()
    }
    champion, *others = buyers
    return [one for one in compare_all(draw_sample(arms), champion, others) if one.metric == metric]


def compare_few(*, a: int, c: int) -> list[Comparison]:
    """Return all metrics of a champion of 1,000 visitors and a variant of 100."""
    arms = {
        name: {column: np.ones(n) for column in SUMS} | {"purchases": (np.arange(n) < count).astype(float)}
        for name, n, count in (("a", 1000, a), ("c", 100, c))
    }
    return compare_all(draw_sample(arms), "a", ["c"])


def tell(comparisons: list[Comparison], **facts: object) -> Facts:
    return Facts(**{"metric": "conversion", "worthwhile_lift": 0.05, "is_broken": False, "comparisons": comparisons,
                    "days": 5, "stopped": {}} | facts)  # type: ignore[arg-type]  # fmt: skip


@pytest.mark.parametrize("champion", [4, 50, 100, 300])
def test_what_is_claimed_agrees_with_the_interval_that_is_told(champion):
    states = set()
    for bought in range(0, 500, 9):
        found = say(tell(compare_buyers(a=champion, b=bought)))
        told = re.search(r"interval (?:from )?(-?\d+\.\d+)(?: to (-?\d+\.\d+))?", found.sentence)
        assert told, found.sentence
        low, high = float(told[1]), float(told[2] or "inf")
        expected = "winner" if low > 0 else "loser" if high < 0 else "not yet"
        assert found.state == expected, found.sentence
        states.add(found.state)
    assert {"winner", "not yet"} <= states


def test_a_share_reads_zero_only_where_it_is():
    assert [tell_percent(share, "+") for share in (0.0314, 0.0002, -0.0002, 0.0)] == ["+3.1", "+0.02", "-0.02", "+0.0"]


def test_a_sure_winner_is_named_before_a_variant_that_is_ahead_by_chance():
    surely, *_ = compare_buyers(a=100, b=200)
    [noisy] = [one for one in compare_few(a=100, c=23) if one.metric == "conversion"]
    assert noisy.difference
    assert surely.difference
    assert noisy.difference.estimate > surely.difference.estimate
    assert say(tell([noisy, surely])).sentence.startswith("b sells more: ")


def test_a_sure_loser_hides_no_variant_that_is_undecided():
    undecided, worse = compare_buyers(a=100, b=95, c=20)
    assert say(tell([worse, undecided])).state == "not yet"
    assert say(tell([worse])).sentence.startswith("c is worse in visitors who buy: ")


def test_a_split_that_one_look_finds_wrong_is_warned_of_and_not_called_safe():
    found = say(tell(compare_buyers(a=100, b=200), ratio_p_value=0.0004))
    assert found.state == "winner"
    assert "safe to stop" not in found.sentence
    assert "the split of visitors looks wrong (chi-square, p = 0.0004): before acting on this, check" in found.sentence


def test_what_has_ended_promises_no_days_to_go():
    found = say(tell(compare_buyers(a=100, b=105), is_over=True))
    assert found.state == "ended"
    assert found.sentence.startswith("Ended without an answer: +5.0 % conversion, 95 % interval -")
    won = say(tell(compare_buyers(a=100, b=200), is_over=True))
    assert won.state == "winner"
    assert "safe to stop" not in won.sentence


def test_an_interleaving_that_has_ended_says_so():
    found = prefer(np.array([1.0, -1.0, 0.0, 1.0]), "a", "b", is_over=True)
    assert found.state == "ended"
    assert found.sentence.startswith("Ended without an answer: +25.0 % of visitors")
    assert prefer(np.zeros(9), "a", "b", is_over=True).sentence.startswith("Ended without an answer: nobody")
