"""Which queries an experiment's variants differ on: won and lost, with what each showed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Sum

from experiments.cumulative import BEFORE
from experiments.models import Event, Experiment, SearchLog, VisitorDay
from experiments.rollups import find_stops, find_variant
from experiments.stats.outliers import MANY_CLICKS, MOST_CLICKS

LEAST_SEARCHES = 5  # of a query in either variant: one click less is nothing there
MOST_QUERIES = 10
SHOWN = 10  # products of a result list
PRIOR_SEARCHES = 5  # at the rate of all queries: a query asked five times cannot lead the list by luck alone


@dataclass(frozen=True, slots=True)
class QueryGain:
    """One query's click rate with the champion and with a variant, and how much of it the variant gains."""

    text: str
    champion_searches: int
    variant_searches: int
    champion_rate: float
    variant_rate: float
    gain: float  # rates drawn towards that of all queries


def find_gains(
    experiment: Experiment, champion: str, others: Sequence[str], most_searches: float = math.inf
) -> dict[str, dict[str, Any]]:
    """Return by variant the queries that gained most and lost most clicks, with what each variant last showed for them.

    Who searched more than `most_searches`, programs, and what came after a variant was stopped are left out. The log is
    read once for all variants.
    """
    stops = find_stops(experiment)
    counts = count_searches(experiment, (champion, *others), stops, list_odd_visitors(experiment, most_searches))
    chosen = {variant: _choose(counts[champion], counts[variant]) for variant in others}
    texts = {one.text for found in chosen.values() for gains in found.values() for one in gains}
    lists = read_lists(experiment, (champion, *others), texts, stops)
    return {
        variant: {
            name: [
                asdict(one) | {"champion_list": lists[one.text, champion], "variant_list": lists[one.text, variant]}
                for one in gains
            ]
            for name, gains in found.items()
        }
        for variant, found in chosen.items()
    }


def _choose(ours: Mapping[str, tuple[int, int]], theirs: Mapping[str, tuple[int, int]]) -> dict[str, list[QueryGain]]:
    """Return the queries that gained most and lost most, of those that both variants were asked."""
    rate = _rate_of_all(ours, theirs)
    gains = [_compare(text, ours[text], theirs[text], rate) for text in ours.keys() & theirs.keys()]
    gains.sort(key=lambda one: (-one.gain, one.text))
    return {
        "gained": [one for one in gains[:MOST_QUERIES] if one.gain > 0],
        "lost": [one for one in gains[::-1][:MOST_QUERIES] if one.gain < 0],
    }


def list_odd_visitors(experiment: Experiment, most_searches: float) -> QuerySet[VisitorDay, str]:
    """Return the ids of the visitors whom the report leaves out, as `analysis.draw_sample` does."""
    rows = VisitorDay.objects.filter(experiment=experiment).exclude(variant=BEFORE).values("client_id", "variant")
    summed = rows.annotate(all_searches=Sum("searches"), all_clicks=Sum("clicks"))
    is_program = Q(all_clicks__gt=MANY_CLICKS, all_clicks__gte=MOST_CLICKS * F("all_searches") + 1)
    is_outlier = Q(all_searches__gt=most_searches) if math.isfinite(most_searches) else Q(pk__in=[])
    return summed.filter(is_program | is_outlier).values_list("client_id", flat=True)


def count_searches(
    experiment: Experiment,
    variants: Collection[str],
    stops: Mapping[str, datetime],
    odd_visitors: QuerySet[VisitorDay, str],
) -> dict[str, dict[str, tuple[int, int]]]:
    """Return by variant and text how many searches there were, and how many of them had a click."""
    clicks = Event.objects.filter(query_id=OuterRef("query_id"), action_name__in=("click", "click_through"))
    late = {variant: f"is_late_{number}" for number, variant in enumerate(stops)}
    found: dict[str, dict[str, tuple[int, int]]] = {variant: {} for variant in variants}
    counted = (
        SearchLog.objects.of_experiment(experiment.name, experiment.started_at)
        .exclude(client_id__in=odd_visitors)
        .alias(is_clicked=Exists(clicks))
        .annotate(**{late[variant]: Q(timestamp__gte=at) for variant, at in stops.items()})
        .values("variant", "text", *late.values())
        .annotate(searches=Count("pk"), clicked=Count("pk", filter=Q(is_clicked=True)))
        .order_by("variant", "text")
    )
    for row in counted:
        variant = find_variant(row["variant"], experiment.name)
        is_late = variant in late and row[late[variant]]
        if variant in found and row["text"] and row["searches"] and not is_late:
            before = found[variant].get(row["text"], (0, 0))
            found[variant][row["text"]] = before[0] + row["searches"], before[1] + row["clicked"]
    return {
        name: {text: pair for text, pair in texts.items() if pair[0] >= LEAST_SEARCHES} for name, texts in found.items()
    }


def read_lists(
    experiment: Experiment, variants: Collection[str], texts: Collection[str], stops: Mapping[str, datetime]
) -> dict[tuple[str, str], list[str]]:
    """Return the SKUs that each variant last showed for each text, best first, [] where nothing was kept."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    searches = SearchLog.objects.of_experiment(experiment.name, experiment.started_at)
    rows = searches.filter(text__in=texts).order_by("timestamp")
    for text, label, skus, at in rows.values_list("text", "variant", "hit_skus", "timestamp").iterator():
        variant = find_variant(label, experiment.name)
        if variant in variants and skus and not (variant in stops and at >= stops[variant]):
            found[text, variant] = skus[:SHOWN]
    return found


def _rate_of_all(*counts: Mapping[str, tuple[int, int]]) -> float:
    pairs = [pair for each in counts for pair in each.values()]
    return sum(clicked for _, clicked in pairs) / max(sum(searches for searches, _ in pairs), 1)


def _compare(text: str, ours: tuple[int, int], theirs: tuple[int, int], rate: float) -> QueryGain:
    before, after = (
        (clicked + PRIOR_SEARCHES * rate) / (searches + PRIOR_SEARCHES) for searches, clicked in (ours, theirs)
    )
    return QueryGain(text, ours[0], theirs[0], ours[1] / ours[0], theirs[1] / theirs[0], after - before)
