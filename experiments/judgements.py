"""Judgements from behaviour: what shoppers were shown and clicked, as grades that models learn from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from django.db import transaction
from django.utils import timezone

from experiments.click_counts import MOST_SEARCHES_A_DAY, ClickCounts, Progress, count_clicks
from experiments.clicks.coec import estimate_coec
from experiments.clicks.grades import MINIMUM_CLICKS, MINIMUM_EXAMINED, Grades, grade_by_best
from experiments.clicks.log import Cells, Ints, keep_shown, sum_log
from experiments.clicks.pbm import MINIMUM_IMPRESSIONS, fit_pbm
from experiments.clicks.propensity import estimate_ipw
from experiments.clicks.relevance import Relevance
from experiments.models import SearchLog
from experiments.stats.outliers import MOST_CLICKS
from retrieval.evaluation.judgements import JudgementsError
from retrieval.models import Judgement, JudgementSet

MODELS = {
    "pbm": "position-based click model",
    "coec": "clicks over expected clicks",
    "ipw": "inverse-propensity weighting, with the position-based model's propensities",
}
BATCH = 2_000
LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class JudgedClicks:
    """What was judged. `left_out` products of a query were seen, or the query clicked, too seldom for a grade.

    `simulated` counts the searches that were, `programs` visitors that no shopper can be. `warnings` are the model's.
    """

    name: str
    model: str
    searches: int
    clicks: int
    queries: int
    judgements: int
    left_out: int
    simulated: int
    programs: int
    first: datetime
    last: datetime
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(f"{sentence}." for sentence in self._tell())

    def _tell(self) -> Iterator[str]:
        yield f"{MODELS[self.model].capitalize()}: {self.judgements:,} judgements of {self.queries:,} queries"
        period = f"{self.first:%Y-%m-%d} to {self.last:%Y-%m-%d}"
        simulated = f", {self.simulated:,} of them simulated" if self.simulated else ""
        yield f"From {self.searches:,} searches{simulated}, with {self.clicks:,} clicks, {period}"
        if self.left_out:
            yield f"{self.left_out:,} products of queries were seen or clicked too seldom and have none"
        if self.programs:
            rules = f"over {MOST_SEARCHES_A_DAY} searches a day or {MOST_CLICKS} clicks a search"
            yield f"{self.programs:,} visitors with {rules} were left out as programs"
        yield from (f"Warning: {warning}" for warning in self.warnings)


@dataclass(frozen=True, slots=True)
class Graded:
    """What a model makes of the clicks; `warnings` are what its reader must know."""

    relevance: Relevance
    grades: Grades
    warnings: tuple[str, ...]


def judge_clicks(
    name: str,
    *,
    model: str = "pbm",
    since: datetime | None = None,
    until: datetime | None = None,
    minimum_examined: float = MINIMUM_EXAMINED,
    minimum_clicks: int = MINIMUM_CLICKS,
    on_progress: Progress | None = None,
) -> JudgedClicks:
    """Put grades from the period's clicks in place of all that the judgement set of this name had.

    A product needs `minimum_examined` looks, as the model estimates them, and a query `minimum_clicks`. Raises
    JudgementsError, and changes nothing, for a set of ratings and where there is nothing to judge by.
    """
    _check(name, model)
    searches = SearchLog.objects.between(since, until)
    least = min(MINIMUM_IMPRESSIONS, minimum_examined)
    counts = count_clicks(searches, least, on_progress)
    if not counts.searches:
        raise JudgementsError(_tell_what_is_missing(searches.count(), least))
    graded = grade(counts, model, least, minimum_examined, minimum_clicks)
    done = _describe(name, model, counts, graded)
    _write(done, list(make_judgements(counts, graded)))
    return done


def grade(counts: ClickCounts, model: str, least: float, minimum_examined: float, minimum_clicks: int) -> Graded:
    """Return estimates and grades; raises JudgementsError without any."""
    try:
        relevance, warnings = estimate(sum_log(counts.to_log()), model, least)
    except ValueError as error:
        raise JudgementsError(f"{error}; or name a longer period, or fewer looks as --minimum-examined") from error
    grades = grade_by_best(relevance, minimum_examined=minimum_examined, minimum_clicks=minimum_clicks)
    if len(grades.grade):
        return Graded(relevance, grades, warnings)
    raise JudgementsError(
        f"no product was looked at {minimum_examined:g} times for a query with {minimum_clicks} clicks, at most "
        f"{relevance.examined.max():.0f} times, {relevance.clicks.sum():,.0f} clicks in all: wait for more, name a "
        "longer period, or ask for less with --minimum-examined and --minimum-clicks"
    )


def estimate(cells: Cells, model: str, least: float) -> tuple[Relevance, tuple[str, ...]]:
    """Return relevance by the model, and what its reader must know; raises ValueError where nothing can be learned.

    Products shown for a query fewer than `least` times are left out.
    """
    kept = keep_shown(cells, least)
    if model == "coec":
        return estimate_coec(kept), ()
    fit = fit_pbm(cells, minimum_impressions=least)
    return fit.relevance if model == "pbm" else estimate_ipw(kept, fit.examination), fit.warnings


def make_judgements(counts: ClickCounts, graded: Graded) -> Iterator[Judgement]:
    """Yield the graded products with their counts; intervals are shares of what the grades are shares of."""
    texts, skus, relevance, grades = list(counts.texts), list(counts.skus), graded.relevance, graded.grades
    rows = np.searchsorted(_to_keys(relevance, len(skus)), _to_keys(grades, len(skus)))
    columns = {
        "grade": grades.grade,
        "impressions": relevance.impressions[rows].astype(np.int64),
        "clicks": relevance.clicks[rows].astype(np.int64),
        "low": relevance.low[rows] / grades.best,
        "high": relevance.high[rows] / grades.best,
    }
    pairs = zip(grades.query.tolist(), grades.product.tolist(), strict=True)
    values = zip(*(column.tolist() for column in columns.values()), strict=True)
    for (text, sku), facts in zip(pairs, values, strict=True):
        yield Judgement(query=texts[text], sku=skus[sku], **dict(zip(columns, facts, strict=True)))


def _to_keys(pairs: Relevance | Grades, products: int) -> Ints:
    """Return a number for each query and product, ascending as they are."""
    return pairs.query * products + pairs.product


def _check(name: str, model: str) -> None:
    if model not in MODELS:
        raise JudgementsError(f"unknown click model {model!r}, expected one of: {', '.join(MODELS)}")
    if not 1 <= len(name) <= LONGEST_NAME or name != name.strip():
        raise JudgementsError(f"name {name!r:.120}: expected 1 to {LONGEST_NAME} characters, no spaces around them")
    _check_source(JudgementSet.objects.filter(name=name).first())


def _check_source(judgement_set: JudgementSet | None) -> None:
    if judgement_set and judgement_set.source != JudgementSet.Source.CLICKS:
        raise JudgementsError(
            f"judgement set {judgement_set.name!r} is made of {judgement_set.source}; give what clicks say another name"
        )


def _tell_what_is_missing(searches: int, least: float) -> str:
    if not searches:
        return "there are no searches in this period: name another, or wait until shoppers have searched"
    return (
        f"no text was searched {least:g} times with results among {searches:,} searches, bots and filtered lists "
        "aside: wait for more, name a longer period, or fewer looks as --minimum-examined"
    )


def _describe(name: str, model: str, counts: ClickCounts, graded: Graded) -> JudgedClicks:
    return JudgedClicks(
        name,
        model,
        counts.searches,
        int(graded.relevance.clicks.sum()),
        len(np.unique(graded.grades.query)),
        len(graded.grades.grade),
        graded.grades.left_out,
        counts.simulated,
        counts.programs,
        counts.first,
        counts.last,
        graded.warnings,
    )


@transaction.atomic
def _write(done: JudgedClicks, judgements: list[Judgement]) -> None:
    source = {"source": JudgementSet.Source.CLICKS}
    judgement_set, _ = JudgementSet.objects.get_or_create(name=done.name, defaults=source)
    _check_source(judgement_set)
    judgement_set.judgements.all().delete()
    for one in judgements:
        one.judgement_set = judgement_set
    Judgement.objects.bulk_create(judgements, batch_size=BATCH)
    JudgementSet.objects.filter(pk=judgement_set.pk).update(note=str(done), created_at=timezone.now())
