"""What an experiment says: made from the roll-ups after each of them, stored, and shown without counting again."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from django.core.cache import cache
from django.db import models
from django.utils import timezone

from experiments import control
from experiments.analysis import METRICS, Comparison, Sample, Visitors, compare, compare_all, draw_sample, guard
from experiments.cumulative import SUMS, VisitorDays, collect
from experiments.models import Experiment, StoredReport, Variant, VisitorDay
from experiments.preference import Preferred, prefer
from experiments.queries import find_gains
from experiments.rollups import Rules, roll_up
from experiments.stats.corrections import find_bonferroni_alpha
from experiments.stats.guardrails import HARMED, Guardrail
from experiments.stats.ratio_mismatch import ALARM, check_sample_ratio
from experiments.stats.sums import NotMeasurable
from experiments.verdicts import Facts, say

GUARD_ALPHA = 0.05
logger = logging.getLogger(__name__)
LOCK, LOCK_S = "experiments.refreshing", 600


def refresh(experiment: Experiment) -> StoredReport:
    """Count what came since the last time, make the report anew, and stop a variant that does harm."""
    roll_up(experiment)
    content, guards = make_report(experiment)
    report, _ = StoredReport.objects.update_or_create(
        experiment=experiment, defaults={"content": content, "made_at": timezone.now()}
    )
    if experiment.is_running and not content["ratio"].get("is_broken"):
        stop_harmful(experiment, guards)
    return report


def refresh_running() -> int:
    """Make anew the reports of running experiments, and of those stopped since theirs was made; return how many.

    Where another process is at it, it is left to that one.
    """
    if not cache.add(LOCK, 1, LOCK_S):
        return 0
    try:
        wanted = models.Q(status=Experiment.Status.RUNNING) | models.Q(stopped_at__gt=models.F("report__made_at"))
        wanted |= models.Q(stopped_at__isnull=False, report=None)
        found = list(Experiment.objects.filter(wanted))
        return sum(_refresh_alone(experiment) for experiment in found)
    finally:
        cache.delete(LOCK)


def _refresh_alone(experiment: Experiment) -> bool:
    """Make one report anew; an error is told, and keeps no other experiment from its guardrails."""
    try:
        refresh(experiment)
    except Exception:
        logger.exception("the report of experiment %s was not made", experiment.name)
        return False
    return True


def stop_harmful(experiment: Experiment, guards: Mapping[str, Mapping[str, Guardrail]]) -> None:
    """Stop each variant that a guardrail has found to do harm, with the guardrail's own words."""
    for variant in experiment.variants.filter(is_champion=False, stopped_at=None):
        harm = next((f"{key}: {one.reason}" for key, one in guards[variant.name].items() if one.state == HARMED), "")
        if harm:
            control.stop_variant(variant, f"guardrail {harm}")


def make_report(experiment: Experiment) -> tuple[dict[str, Any], dict[str, dict[str, Guardrail]]]:
    """Return the report as JSON can hold it, and the guardrails by variant and metric. Writes nothing."""
    variants = sorted(experiment.variants.all(), key=lambda variant: (not variant.is_champion, variant.pk))
    if experiment.kind == Experiment.Kind.INTERLEAVING:
        return _report_interleaving(experiment, variants)
    names = [variant.name for variant in variants]
    days = read_days(experiment, names)
    sample = draw_sample(days.find_last())
    champion, others = names[0], names[1:]
    comparisons = compare_all(sample, champion, others)
    alpha = find_bonferroni_alpha(max(len(others), 1), alpha=GUARD_ALPHA)
    guards = {name: guard(sample, champion, name, experiment.guardrail_margin, alpha) for name in others}
    ratio = check_ratio(sample, variants)
    facts = gather_facts(experiment, variants, comparisons, ratio, len(days.days))
    return _blank_if_broken(
        {
            **asdict(say(facts)),
            "variants": names,
            **count_visitors(sample),
            "stopped": dict(facts.stopped),
            "simulated": VisitorDay.objects.filter(experiment=experiment, is_simulated=True).exists(),
            "ratio": ratio,
            "comparisons": [_to_json(one) for one in comparisons],
            "slow_ms": Rules.of(experiment).slow_ms,
            "guardrails": {name: {key: _to_json(one) for key, one in each.items()} for name, each in guards.items()},
            "days": list_days(days, experiment.metric, champion, others),
            "queries": find_gains(experiment, champion, others, sample.most_searches),
            "funnel": {name: count_funnel(columns) for name, columns in sample.visitors.items()},
        }
    ), guards


def gather_facts(
    experiment: Experiment,
    variants: Sequence[Variant],
    comparisons: Sequence[Comparison],
    ratio: Mapping[str, Any],
    days: int,
) -> Facts:
    """Return what the first line follows from; variants that were stopped are named there, not compared."""
    stopped = {variant.name: variant.stop_reason for variant in variants if variant.stopped_at}
    return Facts(
        metric=experiment.metric,
        worthwhile_lift=experiment.worthwhile_lift,
        is_broken=ratio["is_broken"],
        comparisons=[one for one in comparisons if one.metric == experiment.metric and one.variant not in stopped],
        days=days,
        stopped=stopped,
        is_over=experiment.status == Experiment.Status.STOPPED,
        ratio_p_value=ratio["p_value"] if ratio.get("is_alarm") else None,
    )


def _blank_if_broken(content: dict[str, Any]) -> dict[str, Any]:
    """Return the report, without any figure that a wrong split makes untrue."""
    if not content["ratio"]["is_broken"]:
        return content
    days = [{"day": day["day"], "visitors": day["visitors"], "lifts": {}} for day in content["days"]]
    return content | {"comparisons": [], "guardrails": {}, "queries": {}, "funnel": {}, "days": days}


def read_days(experiment: Experiment, variants: Sequence[str]) -> VisitorDays:
    """Return the experiment's visitor days."""
    rows = VisitorDay.objects.filter(experiment=experiment).order_by("pk")
    return collect(rows.values_list("variant", "client_id", "day", *SUMS).iterator(chunk_size=20_000), variants)


def count_visitors(sample: Sample) -> dict[str, dict[str, int]]:
    """Return how many visitors of each variant count, and how many were left out for what reason."""
    return {
        "visitors": {name: len(columns["searches"]) for name, columns in sample.visitors.items()},
        "outliers": dict(sample.outliers),
        "programs": dict(sample.programs),
        "late": dict(sample.late),
    }


def check_ratio(sample: Sample, variants: Sequence[Variant]) -> dict[str, Any]:
    """Return whether the variants got the visitors their weights promise, those left out included."""
    weighed = [variant for variant in variants if variant.weight > 0]
    seen = [sample.count_assigned(one.name) for one in weighed]
    found = check_sample_ratio(seen, [one.weight for one in weighed]) if len(weighed) > 1 else None
    if found is None or isinstance(found, NotMeasurable):
        return {"is_broken": False, "note": str(found or "only one variant has visitors")}
    return {
        "is_broken": found.always_valid_p_value < ALARM,
        "is_alarm": found.is_alarm,
        "p_value": found.p_value,
        "always_valid_p_value": found.always_valid_p_value,
        "observed": seen,
        "expected": list(found.expected),
    }


def list_days(days: VisitorDays, metric: str, champion: str, others: Sequence[str]) -> list[dict[str, Any]]:
    """Return what was known at the end of each day: visitors so far, and the lift of the deciding metric."""
    plan = next(one for one in METRICS if one.key == metric)
    alpha, found = find_bonferroni_alpha(max(len(others), 1)), []
    for day, visitors in days.up_to_each_day():
        sample = draw_sample(visitors)
        each = {name: _lift(compare(sample, champion, name, plan, alpha)) for name in others}
        counts = count_visitors(sample)["visitors"]
        found.append({"day": day.isoformat(), "visitors": counts, "lifts": each})
    return found


def _lift(one: Comparison) -> list[float | None] | None:
    """Return the lift with the ends of its interval, None for an end that nobody knows yet."""
    if one.lift is None or one.lift_interval is None:
        return None
    return [_finite(each) for each in (one.lift, one.lift_interval.low, one.lift_interval.high)]


def count_funnel(columns: Visitors) -> dict[str, int]:
    """Return how many visitors searched, clicked, added and bought."""
    steps = {"searched": "searches", "clicked": "clicks", "added": "adds", "bought": "purchases"}
    return {step: int((columns[name] > 0).sum()) for step, name in steps.items()}


def _report_interleaving(
    experiment: Experiment, variants: Sequence[Variant]
) -> tuple[dict[str, Any], dict[str, dict[str, Guardrail]]]:
    names = [variant.name for variant in variants]
    days = read_days(experiment, ["interleaved"])

    def prefer_from(seen: Mapping[str, Visitors]) -> Preferred:
        net_wins = draw_sample(seen).visitors["interleaved"]["net_wins"]
        return prefer(net_wins, names[0], names[-1], is_over=experiment.status == Experiment.Status.STOPPED)

    found = prefer_from(days.find_last())
    series = [{"day": day.isoformat(), **asdict(prefer_from(seen))} for day, seen in days.up_to_each_day()]
    return {
        "state": found.state,
        "sentence": found.sentence,
        "variants": names,
        "preference": asdict(found),
        "days": series,
        **count_visitors(draw_sample(days.find_last())),
        "ratio": {"is_broken": False, "note": "every visitor sees both rankings"},
        "simulated": VisitorDay.objects.filter(experiment=experiment, is_simulated=True).exists(),
    }, {name: {} for name in names}


def _to_json(value: Any) -> dict[str, Any]:
    """Return a dataclass as JSON holds it: without numbers that are not finite."""
    found: dict[str, Any] = _finite(asdict(value))
    return found


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
