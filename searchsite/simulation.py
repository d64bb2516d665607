"""Simulated days at the shop: made through the code that serves real visitors, counted, and removed without a trace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from django.apps import apps
from django.conf import settings
from django.db import models, transaction
from django.utils import timezone

from experiments.analytics import renew_summaries
from experiments.events import SEARCH_LASTS_S, flush_recorded
from experiments.models import Event, Experiment, SearchLog, VisitorDay
from experiments.reports import refresh
from experiments.shoppers import DAY_S, Population, ShopperModel, draw_queries, draw_visits
from experiments.turns import take_turn
from experiments.visitors import ShopVisitor
from retrieval.evaluation.judgements import JudgementsError
from retrieval.models import JudgementSet
from retrieval.setup import get_pipeline
from searchsite.simulated_counts import Simulated, count_searches_and_events
from searchsite.simulated_shopper import LONGEST_S, Crowd, Intent
from searchsite.simulated_truth import Truth

FLUSH_EVERY = 200  # searches
LOGS = (SearchLog, Event)
DELETED_AT_ONCE = 5_000  # rows of one transaction: writers wait for none longer
DEVICES = {"mobile": 0.58, "desktop": 0.38, "tablet": 0.04}
LANGUAGES = {"en-US": 0.6, "en-GB": 0.2, "de-DE": 0.1, "fr-FR": 0.1}


class SimulationError(Exception):
    """A simulation that would record nothing; the message names the cause and the cure."""


def find_last_half_hour() -> datetime:
    """Return when it began: what belongs to one search then does not hang on the minute of the simulation."""
    now = int(timezone.now().timestamp())
    return datetime.fromtimestamp(now - now % SEARCH_LASTS_S, UTC)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to happen: so many visitors within so many days up to `until`, by default the last full half hour.

    The same plan at the same index, catalogue and experiments gives the same events.
    """

    visitors: int
    seed: int
    days: float = 7.0
    until: datetime = field(default_factory=find_last_half_hour)
    model: ShopperModel = field(default_factory=ShopperModel)
    population: Population = field(default_factory=Population)

    @property
    def since(self) -> datetime:
        return self.until - timedelta(days=self.days)

    @property
    def prefix(self) -> str:
        """What the ids of its visitors begin with."""
        return f"simulated-{self.seed}-"


def simulate_shoppers(truth: Truth, plan: Plan, on_search: Callable[[int, int], None] | None = None) -> Simulated:
    """Let shoppers search, click and buy in the real code, and return what the event log then has of them.

    `on_search` is told how many searches are done, of how many. Bots are not known to the site as such: those that say
    what they are leave nothing to record. Raises EngineError without an index, SimulationError where the shop records
    nothing, ValueError for a plan that cannot be.
    """
    if not settings.SEARCHSITE["EVENTS"]:
        raise SimulationError("the shop records nothing: set SEARCHSITE_EVENTS=1")
    get_pipeline()
    crowd, intents = Crowd(plan.model, plan.population), draw_intents(truth, plan)
    for number, intent in enumerate(intents, 1):
        crowd.search(intent)
        if number % FLUSH_EVERY == 0:
            flush_recorded()
        if on_search:
            on_search(number, len(intents))
    flush_recorded()
    return count_simulated(plan)


def draw_intents(truth: Truth, plan: Plan) -> list[Intent]:
    """Return the searches in the order of time; those that would last beyond the plan's days are left out.

    The truth's first query is asked most.
    """
    rng = np.random.default_rng(plan.seed)
    visits = draw_visits(plan.population, plan.visitors, plan.days, rng)
    codes = draw_queries(len(visits.visitor), len(truth.queries), rng).tolist()
    visitors = _draw_visitors(plan, rng)
    total = int(np.searchsorted(visits.at_s, plan.days * DAY_S - LONGEST_S))
    return [
        Intent(
            visitors[person],
            truth.queries[code],
            truth.relevance[code],
            plan.since + timedelta(seconds=at_s),
            (plan.seed, number),
            bool(visits.is_bot[person]),
        )
        for number, (person, at_s, code) in enumerate(zip(visits.visitor[:total], visits.at_s, codes, strict=False))
    ]


def _draw_visitors(plan: Plan, rng: np.random.Generator) -> list[ShopVisitor]:
    devices = rng.choice(list(DEVICES), plan.visitors, p=list(DEVICES.values())).tolist()
    languages = rng.choice(list(LANGUAGES), plan.visitors, p=list(LANGUAGES.values())).tolist()
    return [
        ShopVisitor(f"{plan.prefix}{number}", device, language)
        for number, (device, language) in enumerate(zip(devices, languages, strict=True))
    ]


def count_simulated(plan: Plan) -> Simulated:
    """Return what the event log has of the plan's visitors, with what experiments' reports will leave out."""
    searches = SearchLog.objects.between(plan.since, plan.until)
    events = Event.objects.between(plan.since, plan.until)
    mine = {"is_simulated": True, "client_id__startswith": plan.prefix}
    found = count_searches_and_events(searches.filter(**mine), events.filter(**mine))
    return replace(found, notes=tuple(find_notes(plan.since)))


def find_notes(since: datetime) -> Iterator[str]:
    """Yield what must be known of running experiments whose reports do not count all that happened since."""
    for experiment in Experiment.objects.running().filter(started_at__gt=since):
        yield (
            f"experiment {experiment.name} began at {experiment.started_at:%Y-%m-%d %H:%M} UTC, its report leaves out "
            "what was simulated before; with --backdate it begins with the simulated days"
        )


def backdate(since: datetime) -> int:
    """Have running experiments that began later begin at that time, and return how many those were."""
    return Experiment.objects.running().filter(started_at__gt=since).update(started_at=since)


def remove_simulated(judgement_sets: Sequence[str] = ()) -> dict[str, int]:
    """Delete all that is marked as simulated, and these judgement sets made of clicks; return how many rows of what.

    Reports and summaries that counted it are made anew. Raises JudgementsError, before anything is deleted, for a set
    that is not there or holds ratings.
    """
    sets = _find_sets(judgement_sets)
    flush_recorded()
    counted = VisitorDay.objects.filter(is_simulated=True).values("experiment")
    experiments = list(Experiment.objects.filter(pk__in=counted))
    counts: Counter[str] = Counter()
    logs_first = sorted(apps.get_app_config("experiments").get_models(), key=lambda model: model not in LOGS)
    for model in logs_first:  # or sums would be made of them again meanwhile
        if any(column.name == "is_simulated" for column in model._meta.concrete_fields):
            counts[str(model._meta.verbose_name_plural)] += _delete_simulated(model._default_manager)
    for one in sets:
        counts["judgements"] += one.judgements.count()
        one.delete()
    for experiment in experiments:
        refresh(experiment)
    renew_summaries()
    return dict(counts)


def _find_sets(names: Sequence[str]) -> list[JudgementSet]:
    of_clicks = JudgementSet.objects.filter(source=JudgementSet.Source.CLICKS)
    found = {one.name: one for one in of_clicks.filter(name__in=names)}
    for name in names:
        if name not in found:
            known = ", ".join(of_clicks.values_list("name", flat=True)) or "none yet"
            raise JudgementsError(f"no judgement set {name!r} is made of clicks, expected one of: {known}")
    return list(found.values())


def _delete_simulated(rows: models.Manager[Any]) -> int:
    deleted = 0
    while keys := list(rows.filter(is_simulated=True).values_list("pk", flat=True)[:DELETED_AT_ONCE]):
        with transaction.atomic():
            take_turn()
            deleted += rows.filter(pk__in=keys).delete()[0]
    return deleted
