"""Which ranking a visitor's search is done with: the shop's own, changed by the experiments the visitor is in."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from threading import Lock
from time import monotonic
from typing import Any

from django.conf import settings
from django.db import DatabaseError

from experiments.assignment import Plan, Visitor, assign
from experiments.models import Experiment
from experiments.models.experiments import change_config
from experiments.segments import find_segment
from retrieval.engine.config import SearchConfig, get_config
from retrieval.engine.types import EngineError

REFRESH_S = 1.0  # a stopped experiment has no more visitors after this
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Side:
    """A variant as searches need it. `changes` are those of the search config."""

    name: str
    changes: Mapping[str, Any] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Running:
    """A running experiment, or a draft looked at, as searches need it, the champion's side first."""

    name: str
    kind: str
    plan: Plan
    sides: tuple[Side, ...]

    def has_side(self, name: str | None) -> bool:
        return any(side.name == name for side in self.sides)

    def find_side(self, name: str | None) -> Side:
        return next((side for side in self.sides if side.name == name), self.sides[0])


@dataclass(frozen=True, slots=True)
class Arm:
    """A visitor's place in an experiment. What was forced or simulated away is not counted."""

    experiment: str
    variant: str
    is_counted: bool = True

    def __str__(self) -> str:
        return f"{self.experiment}:{self.variant}"


@dataclass(frozen=True, slots=True)
class Choice:
    """How one search is done: with `config`, or with both it and `rival`, interleaved."""

    config: SearchConfig
    arms: tuple[Arm, ...] = ()
    rival: SearchConfig | None = None

    @property
    def label(self) -> str:
        """The arms, as the log of searches keeps them: 'depth:deep ranking:b'.

        None where one was forced: it changes what the others would have shown.
        """
        return " ".join(map(str, self.arms)) if all(arm.is_counted for arm in self.arms) else ""


def choose(
    visitor: Visitor | None, text: str, forced: Mapping[str, str] | None = None, *, takes_part: bool = True
) -> Choice:
    """Return the config for this visitor's query, changed by each running experiment the visitor takes part in.

    Experiments change the config in the order they were started in; one whose change is not possible leaves the
    config as it was. `forced`: variants by experiment, of drafts too, for staff; who does not take part sees these
    alone. No visitor gets the shop's own ranking.
    """
    choice, forced = Choice(get_config(settings.SEARCHSITE["CONFIG"])), forced or {}
    joined = list(find_joined(forced, takes_part)) if visitor else []
    if visitor is None or not joined:
        return choice
    asking = replace(visitor, segment=find_segment(text))
    for experiment in joined:
        choice = _join(choice, experiment, asking, forced.get(experiment.name))
    return choice


def find_joined(forced: Mapping[str, str], takes_part: bool) -> Iterator[Running]:
    """Yield what runs, where the visitor takes part, and what a variant is forced of; drafts last."""
    running = _running.get()
    yield from (one for one in running if takes_part or one.has_side(forced.get(one.name)))
    if others := forced.keys() - {one.name for one in running}:
        drafts = prepare(Experiment.objects.drafts(others))
        yield from (one for one in drafts if one.has_side(forced.get(one.name)))


def _join(choice: Choice, experiment: Running, visitor: Visitor, forced: str | None) -> Choice:
    found = assign(experiment.plan, visitor, forced=forced)
    if found.arm is None:
        return choice
    arm = Arm(experiment.name, found.arm, found.is_counted)
    try:
        if experiment.kind == Experiment.Kind.INTERLEAVING and not found.is_forced:
            return _interleave(choice, experiment, arm)
        side = experiment.find_side(found.arm)
        name = f"{experiment.name}-{side.name}"
        config = take_side(choice.config, side, name)
        # Of two rankings that are interleaved, both change, or the change would be credited to one of them.
        rival = None if choice.rival is None else take_side(choice.rival, side, f"{name}-rival")
    except EngineError as error:
        logger.error("experiment %s is passed over: %s", experiment.name, error)
        return choice
    return replace(choice, config=config, rival=rival, arms=(*choice.arms, arm))


def _interleave(choice: Choice, experiment: Running, arm: Arm) -> Choice:
    """Return the choice with both sides searched; of two experiments that interleave, the first one does."""
    if choice.rival is not None:
        return choice
    ours, theirs = (take_side(choice.config, side, f"{experiment.name}-{side.name}") for side in experiment.sides[:2])
    return replace(choice, config=ours, rival=theirs, arms=(*choice.arms, replace(arm, variant="interleaved")))


@lru_cache(maxsize=256)  # made and checked anew, it would take each search of an experiment up to a millisecond
def take_side(config: SearchConfig, side: Side, name: str) -> SearchConfig:
    """Return the config with the variant's changes, made once in a process; raises EngineError for a wrong one."""
    return change_config(config, side.changes, name)


class RunningExperiments:
    """The running experiments, read from the database at most once in REFRESH_S. Safe to share between threads."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Know none yet, with a lock that nobody holds: what a forked child needs."""
        self._lock, self._found, self._until = Lock(), tuple[Running, ...](), 0.0

    def get(self) -> tuple[Running, ...]:
        """Return them, oldest first. While the database does not answer, those last known go on."""
        if monotonic() >= self._until and self._lock.acquire(blocking=False):
            try:
                self._found = tuple(read_running())
            except DatabaseError as error:
                logger.error("the experiments last known go on: %s", error)
            finally:
                self._until = monotonic() + REFRESH_S
                self._lock.release()
        return self._found

    def forget(self) -> None:
        """Read them anew at the next search."""
        self._until = 0.0


def read_running() -> Iterator[Running]:
    """Yield the running experiments."""
    return prepare(Experiment.objects.running())


def prepare(experiments: Iterable[Experiment]) -> Iterator[Running]:
    """Yield experiments as searches need them, those left out that divide nobody.

    A variant that was stopped keeps its place and shows what the champion shows.
    """
    for experiment in experiments:
        variants = sorted(experiment.variants.all(), key=lambda variant: (not variant.is_champion, variant.pk))
        sides = [Side(one.name, one.changes if one.stopped_at is None else variants[0].changes) for one in variants]
        try:
            plan = experiment.to_plan(tuple(variant.to_arm() for variant in variants))
        except ValueError as error:
            logger.error("experiment %s is passed over: %s", experiment.name, error)
            continue
        yield Running(experiment.name, experiment.kind, plan, tuple(sides))


_running = RunningExperiments()
os.register_at_fork(after_in_child=_running.begin_anew)


def forget_running() -> None:
    """Have the next search of this process read the experiments anew."""
    _running.forget()
