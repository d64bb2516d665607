"""Who sees which variant: pinned, uniform, independent, and the rules of traffic, layers and targeting."""

import json
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from experiments.assignment import (
    SLOTS,
    Arm,
    Assignment,
    Plan,
    Reason,
    Targeting,
    Visitor,
    assign,
    check_layers,
    draw_point,
    find_slot,
    make_salt,
)

TABLE = json.loads((Path(__file__).parents[1] / "data" / "assignment.json").read_text(encoding="utf-8"))
HALVES = (Arm("control"), Arm("hybrid"))
PLAN = Plan("salt", HALVES)
VISITORS = [Visitor(f"visitor-{number}") for number in range(20_000)]


def make_plan(salt: str, arms: list[tuple[str, float]], layer_range: tuple[int, int] = (0, SLOTS), **options) -> Plan:
    start, end = layer_range
    return Plan(salt, tuple(Arm(*arm) for arm in arms), layer_range=(start, end), **options)


def assign_all(plan: Plan) -> list[str | None]:
    return [assign(plan, visitor).arm for visitor in VISITORS]


def draw_points(namespace: str, salt: str) -> np.ndarray:
    return np.array([draw_point(namespace, salt, visitor.id) for visitor in VISITORS])


# --- the hash -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("visitor", "name", "arm", "reason"), TABLE["rows"])
def test_visitors_see_what_they_always_saw(visitor, name, arm, reason):
    found = assign(make_plan(**TABLE["plans"][name]), Visitor(visitor))
    assert found == Assignment(arm, False, reason), (
        "this table is what visitors of running experiments see: if it fails, all of them would change variant. "
        "Mend the code, not the table."
    )


def test_the_point_is_the_first_53_bits_of_sha_256():
    # printf 'arm\0salt\0visitor' | sha256sum
    digest = "e9e373fa5d4fc013ff16b236684ce437a7ad5812536051e1e6e6ebd956eab0dd"
    assert draw_point("arm", "salt", "visitor") == int(digest[:16], 16) // 2**11 / 2**53
    assert draw_point("arm", "salt", "visitor") == pytest.approx(0.9136269079438639, abs=0)


@pytest.mark.parametrize("namespace", ["layer", "traffic", "arm"])
def test_points_are_uniform(namespace):
    points = draw_points(namespace, "salt")
    assert points.min() >= 0
    assert points.max() < 1
    assert stats.chisquare(np.histogram(points, bins=50, range=(0, 1))[0]).pvalue > 0.01


@pytest.mark.parametrize(
    "other",
    [("arm", "salt2"), ("traffic", "salt"), ("layer", "salt")],
    ids=["two salts", "arm and traffic", "arm and layer"],
)
def test_points_of_two_salts_or_namespaces_are_independent(other):
    counts, _, _ = np.histogram2d(draw_points("arm", "salt"), draw_points(*other), bins=8, range=[(0, 1), (0, 1)])
    assert stats.chi2_contingency(counts).pvalue > 0.01


def test_arms_of_two_experiments_are_independent_and_those_of_a_restart_are_drawn_anew():
    pairs = Counter(zip(assign_all(PLAN), assign_all(replace(PLAN, salt="anew")), strict=True))
    counts = np.array([[pairs[one.name, other.name] for other in HALVES] for one in HALVES])
    assert stats.chi2_contingency(counts).pvalue > 0.01
    assert counts[0, 1] + counts[1, 0] == pytest.approx(10_000, abs=300)


def test_new_salts_differ():
    salts = {make_salt() for _ in range(100)}
    assert len(salts) == 100
    assert all(Plan(salt, HALVES) for salt in salts)


# --- weights and traffic ------------------------------------------------------------------------------


def test_arms_get_their_weights():
    arms = (Arm("a", 70), Arm("b", 20), Arm("c", 10))
    counts = Counter(assign_all(Plan("weights", arms)))
    expected = [arm.weight / 100 * len(VISITORS) for arm in arms]
    assert stats.chisquare([counts[arm.name] for arm in arms], expected).pvalue > 0.01


def test_only_proportions_of_weights_count():
    thirds = Plan("salt", (Arm("a", 1), Arm("b", 2)))
    assert assign_all(thirds) == assign_all(replace(thirds, arms=(Arm("a", 0.25), Arm("b", 0.5))))


def test_an_arm_of_no_weight_gets_nobody():
    for arms in [(Arm("none", 0), *HALVES), (HALVES[0], Arm("none", 0), HALVES[1]), (*HALVES, Arm("none", 0))]:
        assert assign_all(Plan("salt", arms)) == assign_all(PLAN)


def test_one_arm_gets_everybody():
    assert set(assign_all(Plan("salt", (Arm("only"),)))) == {"only"}


def test_a_larger_share_of_traffic_brings_visitors_in_and_moves_none():
    shares = [assign_all(replace(PLAN, traffic_share=share)) for share in (0.0, 0.1, 0.5, 1.0)]
    taking_part = [sum(arm is not None for arm in arms) for arms in shares]
    assert taking_part[0] == 0
    assert taking_part[1] == pytest.approx(2000, abs=130)  # three standard deviations
    assert taking_part[2] == pytest.approx(10_000, abs=213)
    assert taking_part[3] == len(VISITORS)
    for before, after in pairwise(shares):
        assert all(old in (None, new) for old, new in zip(before, after, strict=True))


def test_a_share_of_traffic_draws_from_both_arms_alike():
    counts = Counter(assign_all(replace(PLAN, traffic_share=0.2)))
    assert stats.chisquare([counts["control"], counts["hybrid"]]).pvalue > 0.01


def test_other_weights_move_only_those_between_the_bounds():
    heavier = replace(PLAN, arms=(Arm("control", 2), Arm("hybrid", 1)))
    moved = Counter(zip(assign_all(PLAN), assign_all(heavier), strict=True))
    assert moved["control", "hybrid"] == 0
    assert moved["hybrid", "control"] == pytest.approx(len(VISITORS) / 6, abs=160)


def test_outside_the_traffic_share_nobody_is_counted():
    found = assign(replace(PLAN, traffic_share=0), VISITORS[0])
    assert found == Assignment(None, False, Reason.NO_TRAFFIC)
    assert not found.is_counted


# --- layers -------------------------------------------------------------------------------------------


def test_experiments_of_a_layer_share_no_visitor_and_leave_none_out():
    bounds = [(0, 250), (250, 251), (251, SLOTS)]
    plans = [Plan(f"salt-{low}", HALVES, layer="page", layer_range=(low, high)) for low, high in bounds]
    takers = np.array([[arm is not None for arm in assign_all(plan)] for plan in plans])
    assert (takers.sum(axis=0) == 1).all()
    assert takers[0].sum() == pytest.approx(5000, abs=184)
    check_layers({plan.salt: plan for plan in plans})


def test_an_experiment_of_another_layer_does_not_see_the_first():
    in_layer = Plan("one", HALVES, layer="page", layer_range=(0, 500))
    elsewhere = Plan("two", HALVES, layer="prices", layer_range=(0, 500))
    pairs = Counter(
        (one is None, other is None) for one, other in zip(assign_all(in_layer), assign_all(elsewhere), strict=True)
    )
    counts = np.array([[pairs[one, other] for other in (False, True)] for one in (False, True)])
    assert stats.chi2_contingency(counts).pvalue > 0.01


def test_a_layer_leaves_arms_as_they_are():
    with_layer = assign_all(replace(PLAN, layer="page", layer_range=(100, 900)))
    assert all(arm in (None, before) for arm, before in zip(with_layer, assign_all(PLAN), strict=True))


def test_slots_are_uniform():
    slots = [find_slot("page", visitor.id) for visitor in VISITORS]
    counts = np.bincount(slots, minlength=SLOTS)
    assert len(counts) == SLOTS
    assert stats.chisquare(counts).pvalue > 0.01


def test_experiments_that_share_a_slot_are_found():
    plans = {
        "colours": Plan("a", HALVES, layer="page", layer_range=(0, 500)),
        "ranking": Plan("b", HALVES, layer="page", layer_range=(499, 600)),
        "elsewhere": Plan("c", HALVES, layer="prices"),
        "free": Plan("d", HALVES),
        "free too": Plan("e", HALVES),
    }
    with pytest.raises(ValueError, match=r"colours and ranking both own slots 499 to 499 of layer 'page'"):
        check_layers(plans)
    check_layers(plans | {"ranking": replace(plans["ranking"], layer_range=(500, 600))})


# --- targeting and forced variants --------------------------------------------------------------------

GERMAN_PHONE = Visitor("1", device="phone", language="de-AT", segment="head")


@pytest.mark.parametrize(
    ("targeting", "is_admitted"),
    [
        (Targeting(), True),
        (Targeting(devices=frozenset({"phone", "tablet"})), True),
        (Targeting(devices=frozenset({"desktop"})), False),
        (Targeting(languages=frozenset({"de"})), True),
        (Targeting(languages=frozenset({"DE-at"})), True),
        (Targeting(languages=frozenset({"de-CH"})), False),
        (Targeting(languages=frozenset({"d"})), False),
        (Targeting(segments=frozenset({"head", "codes"})), True),
        (Targeting(segments=frozenset({"tail"})), False),
        (Targeting(frozenset({"phone"}), frozenset({"de"}), frozenset({"head"})), True),
        (Targeting(frozenset({"phone"}), frozenset({"en"}), frozenset({"head"})), False),
    ],
)
def test_targeting_asks_for_all_that_is_named(targeting, is_admitted):
    assert targeting.admits(GERMAN_PHONE) is is_admitted
    found = assign(replace(PLAN, targeting=targeting), GERMAN_PHONE)
    assert found.reason == (Reason.ASSIGNED if is_admitted else Reason.NOT_TARGETED)


def test_who_is_not_known_is_not_targeted():
    unknown = Visitor("1")
    for targeting in [
        Targeting(devices=frozenset({"phone"})),
        Targeting(languages=frozenset({"de"})),
        Targeting(segments=frozenset({"head"})),
    ]:
        assert assign(replace(PLAN, targeting=targeting), unknown).arm is None


def test_device_language_and_segment_choose_no_arm():
    for visitor in VISITORS[:200]:
        other = replace(visitor, device="phone", language="de", segment="head")
        assert assign(PLAN, visitor) == assign(PLAN, other)


def test_a_forced_arm_wins_over_every_rule_and_is_not_counted():
    nowhere = Plan(
        "salt",
        HALVES,
        traffic_share=0,
        layer="page",
        layer_range=(0, 1),
        targeting=Targeting(devices=frozenset({"desktop"})),
    )
    for name in ("control", "hybrid"):
        found = assign(nowhere, GERMAN_PHONE, forced=name)
        assert found == Assignment(name, True, Reason.FORCED)
        assert not found.is_counted


@pytest.mark.parametrize("forced", [None, "", "of another experiment"])
def test_what_names_no_arm_forces_nothing(forced):
    found = assign(PLAN, VISITORS[0], forced=forced)
    assert found == assign(PLAN, VISITORS[0])
    assert found.is_counted


# --- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"salt": ""}, "salt '': expected a text"),
        ({"salt": "a\0b"}, r"salt 'a\\x00b': expected text without NUL"),
        ({"layer": "a\0b"}, r"layer 'a\\x00b': expected text without NUL"),
        ({"arms": ()}, r"weights \[\]: expected one above 0"),
        ({"arms": (Arm(""),)}, "arms '': expected names"),
        ({"arms": (Arm("a"), Arm("a"))}, "arms 'a', 'a': expected names, each once"),
        ({"arms": (Arm("a"), Arm("b", -1))}, "weight -1 of arm 'b'"),
        ({"arms": (Arm("a", float("nan")),)}, "weight nan of arm 'a'"),
        ({"arms": (Arm("a", float("inf")),)}, "weight inf of arm 'a'"),
        ({"arms": (Arm("a", 0), Arm("b", 0))}, r"weights \[0, 0\]: expected one above 0"),
        ({"arms": (Arm("a", 1e308), Arm("b", 1e308))}, "and a finite sum"),
        ({"traffic_share": 1.1}, "traffic_share=1.1: expected a share"),
        ({"traffic_share": -0.1}, "traffic_share=-0.1: expected a share"),
        ({"traffic_share": float("nan")}, "traffic_share=nan: expected a share"),
        ({"layer": "page", "layer_range": (5, 5)}, r"layer_range=\(5, 5\): expected slots"),
        ({"layer": "page", "layer_range": (-1, 5)}, r"layer_range=\(-1, 5\): expected slots"),
        ({"layer": "page", "layer_range": (0, SLOTS + 1)}, r"layer_range=\(0, 1001\): expected slots"),
        ({"layer_range": (0, 5)}, r"layer_range=\(0, 5\) of no layer: name the layer"),
    ],
)
def test_plans_that_divide_nobody_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(PLAN, **changes)


def test_a_visitor_has_an_id():
    with pytest.raises(ValueError, match="visitor id ''"):
        Visitor("")
