"""From the event log to sums per visitor and day, for every experiment, again for each day that something came for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby, islice
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone

from experiments.cumulative import BEFORE
from experiments.interleaving import CREDITS, Draft, Team, credit_impression, find_winner
from experiments.keystrokes import TypedSearch, collapse_keystrokes
from experiments.latencies import FIRST_SEARCHES, find_slow_ms
from experiments.models import Event, Experiment, SearchLog, StoredReport, VisitorDay
from experiments.revenue import add_cents

BATCH = 500  # searches whose events are fetched together
COLUMNS = (
    "query_id", "client_id", "variant", "total", "latency_ms", "notice", "is_simulated", "text", "timestamp",
    "query_attributes",
)  # fmt: skip
PAST = timedelta(days=28)  # before an experiment: what visitors do then tells of what they will do
OVERLAP = timedelta(minutes=1)  # rows written by a transaction that began before others ended


@dataclass(slots=True)
class Sums:
    """A visitor's day as it is added up; the fields are VisitorDay's."""

    searches: int = 0
    clicked_searches: int = 0
    abandoned_searches: int = 0
    zero_searches: int = 0
    degraded_searches: int = 0
    slow_searches: int = 0
    impressions: int = 0
    clicks: int = 0
    adds: int = 0
    purchases: int = 0
    revenue_cents: int = 0
    click_rr: float = 0.0
    net_wins: int = 0
    is_simulated: bool = False


@dataclass(frozen=True, slots=True)
class Search:
    """A search of the log as far as sums need it."""

    query_id: str
    client_id: str
    variant: str
    total: int | None
    notice: str
    is_simulated: bool
    text: str = ""
    at_s: float = 0.0
    teams: Mapping[str, str] = field(default_factory=dict)
    is_late: bool = False
    is_slow: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """What searches are held to: when variants were stopped, and the latency beyond which a search is slow, if known.

    What was done after the stop, and saw the champion's ranking, is nobody's.
    """

    stops: Mapping[str, datetime] = field(default_factory=dict)
    slow_ms: float | None = None

    @classmethod
    def of(cls, experiment: Experiment) -> Rules:
        """Return those of an experiment, as its report keeps them."""
        slow_ms = StoredReport.objects.filter(experiment=experiment).values_list("slow_ms", flat=True).first()
        return cls(find_stops(experiment), slow_ms)

    def is_late(self, variant: str, at: datetime) -> bool:
        return variant in self.stops and at >= self.stops[variant]

    def is_slow(self, latency_ms: float | None) -> bool:
        return self.slow_ms is not None and latency_ms is not None and latency_ms > self.slow_ms


@dataclass(slots=True)
class Deeds:
    """What was done with the products of one search."""

    impressions: int = 0
    clicks: int = 0
    adds: int = 0
    purchases: int = 0
    revenue_cents: int = 0
    first_position: int = 0
    actions: list[tuple[str, str]] = field(default_factory=list)  # SKU and action


def roll_up(experiment: Experiment) -> int:
    """Sum up the days for which something came since the last time, and return how many that were."""
    now = timezone.now()
    if experiment.started_at is None:
        return 0
    report, _ = StoredReport.objects.get_or_create(experiment=experiment)
    if report.rolled_up_to is None:
        day_before = (experiment.started_at - timedelta(days=1)).astimezone(UTC).date()
        past = VisitorDay.objects.filter(variant=BEFORE)
        past.replace_day(experiment, day_before, list(sum_past(experiment.started_at)), now)
    days = find_stale_days(experiment, report.rolled_up_to if not learn_what_is_slow(experiment, report) else None)
    # The day before may be one of its own by now, if the experiment was made to begin earlier.
    seen = VisitorDay.objects.exclude(variant=BEFORE)
    for day in days:
        seen.replace_day(experiment, day, list(sum_day(experiment, day)), now)
    StoredReport.objects.filter(pk=report.pk).update(rolled_up_to=now - OVERLAP)
    return len(days)


def learn_what_is_slow(experiment: Experiment, report: StoredReport) -> bool:
    """Keep the latency beyond which searches are slow once it is known; return whether that is now: count all anew."""
    if report.slow_ms is not None or experiment.kind == Experiment.Kind.INTERLEAVING:
        return False
    slow_ms = find_slow_ms(list(islice(read_champion_latencies(experiment), FIRST_SEARCHES)))
    return slow_ms is not None and bool(StoredReport.objects.filter(pk=report.pk).update(slow_ms=slow_ms))


def read_champion_latencies(experiment: Experiment) -> Iterator[float]:
    """Yield how long the champion's searches took, in ms and from the first on, without lesser answers."""
    champion = experiment.variants.filter(is_champion=True).values_list("name", flat=True).first()
    rows = SearchLog.objects.of_experiment(experiment.name, experiment.started_at).filter(notice="")
    rows = rows.exclude(latency_ms=None).order_by("timestamp", "query_id")
    for label, latency_ms in rows.values_list("variant", "latency_ms").iterator():
        if latency_ms is not None and find_variant(label, experiment.name) == champion:
            yield latency_ms


def find_stale_days(experiment: Experiment, since: datetime | None) -> list[date]:
    """Return the days (UTC) of the experiment whose searches, or what was done with them, came since then."""
    if experiment.started_at is None:
        return []
    searches = SearchLog.objects.of_experiment(experiment.name, experiment.started_at)
    if since is None:
        found = list(searches.values_list("timestamp", flat=True))
    else:
        touched = Event.objects.filter(received_at__gte=since, query_id__isnull=False).values("query_id")
        came = searches.filter(received_at__gte=since).values_list("timestamp", flat=True)
        found = [*came, *searches.filter(query_id__in=touched).values_list("timestamp", flat=True)]
    return sorted({each.astimezone(UTC).date() for each in found})


def sum_day(experiment: Experiment, day: date) -> Iterator[dict[str, Any]]:
    """Yield the sums of every visitor who searched in the experiment on this day; zeros of who came after a stop."""
    start = datetime.combine(day, time(), UTC)
    searches = SearchLog.objects.of_experiment(experiment.name, experiment.started_at)
    rows = searches.between(start, start + timedelta(days=1))
    found = read_searches(rows, lambda label: find_variant(label, experiment.name), Rules.of(experiment))
    for client_id, sums in sum_visitors(found):
        for variant, each in sums.items():
            yield {"client_id": client_id, "variant": variant, **asdict(each)}


def find_stops(experiment: Experiment) -> dict[str, datetime]:
    """Return when each variant was stopped, of those that were."""
    stopped = experiment.variants.exclude(stopped_at=None).values_list("name", "stopped_at")
    return {name: at for name, at in stopped if at}


def sum_past(started_at: datetime) -> Iterator[dict[str, Any]]:
    """Yield what visitors did in the weeks before an experiment, whichever ranking they saw: CUPED's covariates."""
    rows = SearchLog.objects.filter(is_bot=False, timestamp__gte=started_at - PAST, timestamp__lt=started_at)
    for client_id, sums in sum_visitors(read_searches(rows, lambda label: BEFORE), started_at):
        yield {"client_id": client_id, "variant": BEFORE, **asdict(sums[BEFORE])}


def sum_visitors(searches: Iterable[Search], until: datetime | None = None) -> Iterator[tuple[str, dict[str, Sums]]]:
    """Yield each visitor with the sums by variant, of what was done before `until`.

    Searches come visitor by visitor, each's in the order of time.
    """
    for client_id, found in groupby(_with_deeds(searches, until), key=lambda pair: pair[0].client_id):
        sums: dict[str, Sums] = defaultdict(Sums)
        for search, deeds in leave_out_typing(list(found)):
            add_search(sums[search.variant], search, deeds)
        yield client_id, sums


def _with_deeds(searches: Iterable[Search], until: datetime | None) -> Iterator[tuple[Search, Deeds]]:
    found = iter(searches)
    while batch := list(islice(found, BATCH)):
        deeds = read_deeds([search.query_id for search in batch], until)
        yield from ((search, deeds.get(search.query_id, Deeds())) for search in batch)


def leave_out_typing(searches: Sequence[tuple[Search, Deeds]]) -> list[tuple[Search, Deeds]]:
    """Return one visitor's searches without those that were half of a longer one, as a search at every key makes."""
    typed = collapse_keystrokes(
        [TypedSearch(search.query_id, search.text, search.at_s, bool(deeds.actions)) for search, deeds in searches]
    )
    return [pair for pair in searches if pair[0].query_id not in typed]


def add_search(sums: Sums, search: Search, deeds: Deeds) -> None:
    """Add one search and what came of it to the visitor's sums."""
    sums.is_simulated |= search.is_simulated
    if search.is_late:
        return
    sums.searches += 1
    sums.clicked_searches += deeds.clicks > 0
    sums.zero_searches += search.total == 0
    sums.abandoned_searches += bool(search.total) and deeds.clicks == 0
    sums.degraded_searches += bool(search.notice)
    sums.slow_searches += search.is_slow
    sums.impressions += deeds.impressions
    sums.clicks += deeds.clicks
    sums.adds += deeds.adds
    sums.purchases += deeds.purchases
    sums.revenue_cents = add_cents(sums.revenue_cents, deeds.revenue_cents)
    sums.click_rr += 1 / deeds.first_position if deeds.first_position else 0
    sums.net_wins += credit_teams(search.teams, deeds.actions) if search.teams else 0


def credit_teams(teams: Mapping[str, str], actions: Iterable[tuple[str, str]]) -> int:
    """Return 1 where the variant's products were chosen over the champion's in one search, -1 the other way round.

    `teams`: of each SKU shown, a for the champion's. What was shown on no interleaved page counts for nobody.
    """
    numbers = {sku: number for number, sku in enumerate(teams)}
    draft = Draft(tuple(numbers.values()), tuple(Team(team) for team in teams.values()))
    chosen = [(numbers[sku], action) for sku, action in actions if sku in numbers and action in CREDITS]
    return {Team.A: -1, Team.B: 1, Team.NEITHER: 0}[find_winner(credit_impression(draft, chosen))]


def read_searches(
    rows: models.QuerySet[SearchLog], name_variant: Callable[[str], str], rules: Rules | None = None
) -> Iterator[Search]:
    """Yield the searches whose label names a variant, each visitor's together in the order of time."""
    rules = rules or Rules()
    for row in rows.order_by("client_id", "timestamp").values(*COLUMNS).iterator():
        if variant := name_variant(row.pop("variant")):
            attributes, at = row.pop("query_attributes"), row.pop("timestamp")
            teams = attributes.get("teams", {}) if isinstance(attributes, dict) else {}
            is_late, is_slow = rules.is_late(variant, at), rules.is_slow(row.pop("latency_ms"))
            yield Search(variant=variant, at_s=at.timestamp(), teams=teams, is_late=is_late, is_slow=is_slow, **row)


def find_variant(label: str, experiment: str) -> str:
    """Return the variant that a search's label names for the experiment, '' for none: 'depth:deep ranking:b'."""
    pairs = (part.partition(":") for part in label.split())
    return next((variant for name, _, variant in pairs if name == experiment), "")


def read_deeds(query_ids: Sequence[str], until: datetime | None = None) -> dict[str, Deeds]:
    """Return what was done with the products of each search, before `until`; revenue is the shop's own currency's."""
    found: dict[str, Deeds] = defaultdict(Deeds)
    columns = ("query_id", "action_name", "object_id", "position", "value_cents", "currency")
    events, own = Event.objects.filter(query_id__in=query_ids), ("", settings.SEARCHSITE["CURRENCY"])
    events = events if until is None else events.filter(timestamp__lt=until)
    for query_id, action, sku, position, cents, currency in events.values_list(*columns):
        _add_deed(found[str(query_id)], action, sku, position, cents if currency in own else 0)
    return found


def _add_deed(deeds: Deeds, action: str, sku: str, position: int | None, cents: int) -> None:
    if action == "impression":
        deeds.impressions += 1
        return
    deeds.actions.append((sku, action))
    if action in ("click", "click_through"):
        deeds.clicks += 1
        if position:
            deeds.first_position = min(deeds.first_position or position, position)
    elif action == "add_to_cart":
        deeds.adds += 1
    elif action == "purchase":
        deeds.purchases += 1
        deeds.revenue_cents += cents
