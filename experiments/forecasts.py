"""How long a draft will take, in words: from what a sample of the last four weeks' visitors did."""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from zlib import crc32

import numpy as np
from django.core.cache import cache
from django.db.models import Min
from django.utils import timezone

from experiments.analysis import METRICS, MetricPlan, Visitors
from experiments.assignment import SLOTS
from experiments.cumulative import SUMS
from experiments.models import Experiment, SearcherDay, SearchLog
from experiments.planning import (
    NOBODY,
    PREFERRED,
    WEEK,
    Forecast,
    Period,
    Question,
    count_visitors_to_prefer,
    forecast,
    measure_visitors,
)
from experiments.report_pages import show
from experiments.rollups import Search, Sums, read_searches, sum_visitors
from experiments.segments import find_segment
from experiments.stats.power import count_days_to_go
from experiments.stats.sums import NotMeasurable

WEEKS = (1, 2, 4)  # up to yesterday
DAYS = WEEKS[-1] * WEEK
MOST_VISITORS = 3_000  # looked at: what they did is read in less than a second, however many there were
KEPT_S = 3600
BATCH = 500  # visitors whose searches are fetched together
CHOICES = ("clicks", "adds", "purchases")


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a draft's page says: a sentence, a line for so many weeks (visitors, lift), and what to know of both."""

    sentence: str
    weeks: Sequence[tuple[int, str, str]] = ()
    remarks: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Past:
    """Whole days before today, at most DAYS: how many visitors searched, and what those looked at did, by weeks."""

    days: int
    visitors: int
    looked_at: int
    sums: Mapping[int, Visitors]
    is_simulated: bool

    def to_periods(self, metric: MetricPlan) -> list[Period]:
        """Return the weeks that there were, and of the days that make no such number of weeks yet what is known."""
        begun = [weeks for before, weeks in zip((0, *WEEKS), WEEKS, strict=False) if before * WEEK < self.days]
        arms = {weeks: measure_visitors(self.sums[weeks], metric) for weeks in begun}
        return [
            Period(weeks, min(weeks * WEEK, self.days), self.visitors * arm.n / self.looked_at, arm)
            for weeks, arm in arms.items()
        ]


def look_ahead(experiment: Experiment) -> Outlook:
    """Return how long a draft will take to find what is worth finding, and what it can find in some weeks."""
    question = ask(experiment)
    if question.lack:
        return Outlook(f"Not known: {question.lack}.")
    past = recall_past(experiment.segments)
    if isinstance(past, NotMeasurable):
        return Outlook(f"Not known: {past.reason}.")
    remarks = _list_remarks(experiment, past)
    if experiment.kind == Experiment.Kind.INTERLEAVING:
        return Outlook(_tell_preference(past, question.share), remarks=remarks)
    found = forecast(question, past.to_periods(question.metric))
    if isinstance(found, NotMeasurable):
        return Outlook(f"Not known: {found.reason}.", remarks=remarks)
    return Outlook(_say(question, found), list(_list_weeks(found)), remarks)


def ask(experiment: Experiment) -> Question:
    """Return what an experiment is to find; its layer and its traffic share say how many visitors take part."""
    variants = sorted(experiment.variants.all(), key=lambda variant: (not variant.is_champion, variant.pk))
    layer = (experiment.layer_to - experiment.layer_from) / SLOTS if experiment.layer else 1.0
    return Question(
        next(metric for metric in METRICS if metric.key == experiment.metric),
        experiment.worthwhile_lift,
        tuple(variant.weight for variant in variants),
        experiment.traffic_share * layer,
    )


def _say(question: Question, found: Forecast) -> str:
    metric = question.metric
    change = f"{'+' if metric.is_higher_better else '-'}{100 * question.lift:g} %"
    return (
        f"About {found.visitors:,} visitors, {_count_days(found.days)}, to find "
        f"{change} {metric.noun} with a chance of 80 %. Now: {show(metric, found.value)} {metric.label}."
    )


def _list_weeks(found: Forecast) -> Iterator[tuple[int, str, str]]:
    for weeks, (visitors, lift) in found.lifts.items():
        yield weeks, f"{visitors:,.0f}", f"{100 * lift:.3g} %" if math.isfinite(lift) else "no change that could happen"


def _tell_preference(past: Past, share: float) -> str:
    """Return how long interleaving takes; products that both rankings show alike choose neither, so at the least."""
    sums = past.sums[WEEKS[-1]]
    searching = len(sums["searches"])  # in the segments
    if not searching:
        return f"Not known: {NOBODY}."
    choosing = int(np.any([sums[name] > 0 for name in CHOICES], axis=0).sum()) / searching
    if not choosing:
        return f"Not known: none of {searching:,} visitors looked at has chosen a product."
    visitors = count_visitors_to_prefer(choosing)
    days = count_days_to_go(visitors, 0, past.visitors / past.days * searching / past.looked_at * share)
    if isinstance(days, NotMeasurable):
        return f"Not known: {days.reason}."
    told = f"At least {visitors:,} visitors, {_count_days(days)}, to find with a chance of 80 %"
    return f"{told} that {100 * PREFERRED:g} of 100 visitors who choose a product prefer one ranking."


def _count_days(days: int) -> str:
    return f"{days:,} day{'' if days == 1 else 's'}"


def _list_remarks(experiment: Experiment, past: Past) -> list[str]:
    days = "day" if past.days == 1 else f"{past.days} days"
    found = [
        f"From what {past.looked_at:,} of {past.visitors:,} visitors did in the last {days}. Intervals hold at every "
        "look and allow for the number of variants; looked at daily, the chance is higher."
    ]
    if past.days < WEEK:
        found.append("That is less than a week: who returns is not known yet, and it may take longer.")
    if experiment.devices or experiment.languages:
        found.append("That it is for some devices or languages alone is not counted: it takes longer.")
    if past.is_simulated:
        found.append("Simulated visitors are among those looked at.")
    return found


# --- the log ------------------------------------------------------------------------------------------


def recall_past(segments: Collection[str]) -> Past | NotMeasurable:
    """Return the same as `read_past`, read once an hour."""
    key = f"experiments.past:{timezone.now():%Y-%m-%d}:{','.join(sorted(segments))}"
    kept: Past | None = cache.get(key)
    found = kept or read_past(segments)
    if isinstance(found, Past) and kept is None:
        cache.set(key, found, KEPT_S)
    return found


def read_past(segments: Collection[str]) -> Past | NotMeasurable:
    """Return what was done up to yesterday with searches of these segments, of all for none."""
    today = timezone.now().astimezone(UTC).date()
    first = SearcherDay.objects.filter(day__lt=today).aggregate(first=Min("day"))["first"]
    if first is None:
        is_empty = not SearchLog.objects.filter(is_bot=False).exists()
        return NotMeasurable(
            "nobody has searched yet" if is_empty else "no whole day of searches has been summed up yet, ask tomorrow"
        )
    days = min((today - first).days, DAYS)
    visitors = list_visitors(today - timedelta(days), today - timedelta(1))
    if not visitors:
        return NotMeasurable(f"nobody has searched in the last {DAYS} days")
    chosen = heapq.nsmallest(
        MOST_VISITORS, visitors, key=lambda client_id: crc32(client_id.encode())
    )  # as good as random
    sums, is_simulated = sum_up(chosen, datetime.combine(today, time(), UTC), frozenset(segments))
    return Past(days, len(visitors), len(chosen), sums, is_simulated)


def list_visitors(first: date, last: date) -> list[str]:
    """Return the visitors who searched on these days (UTC), each once; bots are none."""
    rows = SearcherDay.objects.between(first, last).exclude(client_id="")
    return list(rows.order_by().values_list("client_id", flat=True).distinct())


def sum_up(client_ids: Sequence[str], end: datetime, segments: Collection[str]) -> tuple[dict[int, Visitors], bool]:
    """Return the sums of those who came, by weeks before `end`, and whether some are simulated."""
    rows: dict[int, list[list[float]]] = {weeks: [] for weeks in WEEKS}
    is_simulated = False
    for start in range(0, len(client_ids), BATCH):
        for _, sums in sum_visitors(_read(client_ids[start : start + BATCH], end, segments)):
            is_simulated |= any(one.is_simulated for one in sums.values())
            for weeks, row in _accumulate(sums):
                rows[weeks].append(row)
    return {weeks: _to_columns(found) for weeks, found in rows.items()}, is_simulated


def _read(client_ids: Sequence[str], end: datetime, segments: Collection[str]) -> Iterator[Search]:
    """Yield the visitors' searches, in place of the variant the fewest weeks that they lie in."""
    found = SearchLog.objects.between(end - timedelta(DAYS), end).filter(is_bot=False, client_id__in=client_ids)
    for search in read_searches(found, lambda label: "any"):
        if not segments or find_segment(search.text) in segments:
            age_s = end.timestamp() - search.at_s
            weeks = next((weeks for weeks in WEEKS if age_s <= weeks * WEEK * 86_400), DAYS)
            yield replace(search, variant=str(weeks))


def _accumulate(sums: Mapping[str, Sums]) -> Iterator[tuple[int, list[float]]]:
    """Yield a visitor's sums for each number of weeks in which there are any."""
    row = [0.0] * len(SUMS)
    for weeks in WEEKS:
        if found := sums.get(str(weeks)):
            row = [before + getattr(found, name) for before, name in zip(row, SUMS, strict=True)]
        if any(row):
            yield weeks, row


def _to_columns(rows: Sequence[Sequence[float]]) -> Visitors:
    table = np.array(rows, np.float64).reshape(-1, len(SUMS))
    return {name: table[:, place] for place, name in enumerate(SUMS)}
