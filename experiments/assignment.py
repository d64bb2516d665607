"""Who sees which variant: a pure function of the visitor and the plan, the same in every process and after restarts.

Layer, traffic and arm are hashed apart, so that none says anything about the others. Layers of numbered slots: Tang,
Agarwal, O'Brien and Meyer 2010, "Overlapping Experiment Infrastructure".
"""

from __future__ import annotations

import hashlib
import math
import secrets
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate, combinations

SLOTS = 1000  # of a layer
EVERY_SLOT = (0, SLOTS)


class Reason(StrEnum):
    ASSIGNED = "assigned"
    FORCED = "forced"
    NOT_TARGETED = "not targeted"
    OTHER_SLOT = "in another slot of the layer"
    NO_TRAFFIC = "outside the traffic share"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whom to assign. `language`: a tag such as 'de-AT'; `segment`: of the query asked, None without one."""

    id: str
    device: str = ""
    language: str = ""
    segment: str | None = None

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("visitor id '': expected an id, all without one would see the same variant")


@dataclass(frozen=True, slots=True)
class Targeting:
    """Which visitors an experiment is for; an empty set admits all.

    A language admits its narrower ones, case aside: 'de' admits 'de-AT', not the other way round (basic filtering,
    RFC 4647, section 3.3.1).
    """

    devices: frozenset[str] = frozenset()
    languages: frozenset[str] = frozenset()
    segments: frozenset[str] = frozenset()

    def admits(self, visitor: Visitor) -> bool:
        return (
            (not self.devices or visitor.device in self.devices)
            and (not self.languages or any(_is_within(visitor.language, each) for each in self.languages))
            and (not self.segments or visitor.segment in self.segments)
        )


def _is_within(language: str, wider: str) -> bool:
    return f"{language}-".lower().startswith(f"{wider}-".lower())


EVERYBODY = Targeting()


@dataclass(frozen=True, slots=True)
class Arm:
    """One of the rankings compared. `weight`: its share of the visitors relative to the other arms', 0 or more."""

    name: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How one run of an experiment divides its visitors.

    `salt`: of this run; a new one assigns everybody anew. `traffic_share`: how many of those it could have take
    part, 0 to 1. `layer`: the salt of its layer, '' outside of any. `layer_range`: its slots of the layer, from and
    to (not included), within 0 to SLOTS; experiments of a layer that share no slot share no visitor.

    A larger traffic share brings visitors in and moves none. Other weights, another order of arms, one arm more or
    less move some: start anew with a new salt. To stop an arm, keep it here and show its visitors the first one.

    Raises ValueError for what divides nobody.
    """

    salt: str
    arms: tuple[Arm, ...]
    traffic_share: float = 1.0
    layer: str = ""
    layer_range: tuple[int, int] = EVERY_SLOT
    targeting: Targeting = EVERYBODY

    def __post_init__(self) -> None:
        _check_salts(self)
        _check_arms(self.arms)
        _check_layer(self)
        if not 0 <= self.traffic_share <= 1:
            raise ValueError(f"traffic_share={self.traffic_share}: expected a share of the visitors, 0 to 1")


@dataclass(frozen=True, slots=True)
class Assignment:
    """The arm's name, None for visitors who do not take part, and why."""

    arm: str | None
    is_forced: bool
    reason: Reason

    @property
    def is_counted(self) -> bool:
        """Return whether what the visitor does belongs in the results: not outside, nor with a forced arm."""
        return self.arm is not None and not self.is_forced


def assign(plan: Plan, visitor: Visitor, *, forced: str | None = None) -> Assignment:
    """Return what the visitor sees. `forced` wins over all rules if it names an arm, and is not counted."""
    if any(arm.name == forced for arm in plan.arms):
        return Assignment(forced, True, Reason.FORCED)
    if reason := _find_obstacle(plan, visitor):
        return Assignment(None, False, reason)
    return Assignment(_pick_arm(plan, visitor.id), False, Reason.ASSIGNED)


def _find_obstacle(plan: Plan, visitor: Visitor) -> Reason | None:
    if not plan.targeting.admits(visitor):
        return Reason.NOT_TARGETED
    start, end = plan.layer_range
    if plan.layer and not start <= find_slot(plan.layer, visitor.id) < end:
        return Reason.OTHER_SLOT
    if draw_point("traffic", plan.salt, visitor.id) >= plan.traffic_share:
        return Reason.NO_TRAFFIC
    return None


def _pick_arm(plan: Plan, visitor_id: str) -> str:
    bounds = list(accumulate(arm.weight for arm in plan.arms))
    return plan.arms[bisect_right(bounds, draw_point("arm", plan.salt, visitor_id) * bounds[-1])].name


def find_slot(layer: str, visitor_id: str) -> int:
    """Return the visitor's slot of the layer, 0 to SLOTS - 1."""
    return int(draw_point("layer", layer, visitor_id) * SLOTS)


def draw_point(namespace: str, salt: str, visitor_id: str) -> float:
    """Return where the visitor falls, uniform on [0, 1): the first 53 bits of SHA-256 over the three, NUL between them.

    SHA-256, for a shop's own front end can compute it in any language; 53 bits, for 64 round up to 1.0 in a float.
    """
    digest = hashlib.sha256(f"{namespace}\0{salt}\0{visitor_id}".encode()).digest()
    return (int.from_bytes(digest[:8]) >> 11) / 2**53


def make_salt() -> str:
    """Return a new salt, for an experiment that starts or starts anew."""
    return secrets.token_hex(8)


def check_layers(plans: Mapping[str, Plan]) -> None:
    """Raise ValueError if two of the experiments, given by name, own the same slot of a layer."""
    for (name, plan), (other, its_plan) in combinations(plans.items(), 2):
        start = max(plan.layer_range[0], its_plan.layer_range[0])
        end = min(plan.layer_range[1], its_plan.layer_range[1])
        if plan.layer and plan.layer == its_plan.layer and start < end:
            raise ValueError(
                f"{name} and {other} both own slots {start} to {end - 1} of layer {plan.layer!r}: give each its own"
            )


def _check_salts(plan: Plan) -> None:
    if not plan.salt:
        raise ValueError("salt '': expected a text that no other experiment has, make_salt() gives one")
    for name, value in (("salt", plan.salt), ("layer", plan.layer)):
        if "\0" in value:
            raise ValueError(f"{name} {value!r}: expected text without NUL, which ends it in what is hashed")


def _check_arms(arms: tuple[Arm, ...]) -> None:
    names = [arm.name for arm in arms]
    if not all(names) or len(set(names)) != len(names):
        raise ValueError(f"arms {', '.join(map(repr, names))}: expected names, each once")
    for arm in arms:
        if not 0 <= arm.weight < math.inf:
            raise ValueError(f"weight {arm.weight} of arm {arm.name!r}: expected a number, 0 or more")
    if not 0 < sum(arm.weight for arm in arms) < math.inf:
        raise ValueError(f"weights {[arm.weight for arm in arms]}: expected one above 0, and a finite sum")


def _check_layer(plan: Plan) -> None:
    start, end = plan.layer_range
    if not 0 <= start < end <= SLOTS:
        raise ValueError(f"layer_range={plan.layer_range}: expected slots from and to, within 0 to {SLOTS}")
    if not plan.layer and plan.layer_range != EVERY_SLOT:
        raise ValueError(f"layer_range={plan.layer_range} of no layer: name the layer, or leave out the range")
