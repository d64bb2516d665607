"""A report as one table of plain rows, for spreadsheets: all figures that its page shows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

from experiments.analytics_tables import quote_formula

COLUMNS = (
    "table", "variant", "name", "day", "champion", "value", "low", "high", "difference", "difference_low",
    "difference_high", "lift", "lift_low", "lift_high", "p_value", "adjusted_p_value", "note",
)  # fmt: skip
LEFT_OUT = ("outliers", "programs", "late")
Row = dict[str, Any]


def to_rows(report: dict[str, Any]) -> Iterator[list[Any]]:
    """Yield the header, and a report as `ReportPage.to_dict` has it; `table` says what a row is of.

    `low` and `high` are the ends of `value`'s interval, of a guardrail those of the room that is left.
    """
    yield list(COLUMNS)
    tables = (_tell_verdict, _list_metrics, _list_preference, _list_days, _list_guardrails, _list_funnel, _list_queries,
              _list_visitors, _list_ratio, _list_offline)  # fmt: skip
    for row in chain.from_iterable(list_rows(report) for list_rows in tables):
        yield [quote_formula(row.get(column)) for column in COLUMNS]


def _tell_verdict(report: dict[str, Any]) -> Iterator[Row]:
    yield {"table": "verdict", "name": report["state"], "note": report["sentence"]}


def _list_metrics(report: dict[str, Any]) -> Iterator[Row]:
    for one in report.get("comparisons", []):
        interval, ends, effect = one["interval"] or {}, one["lift_interval"] or {}, one["difference"] or {}
        yield {
            "table": "metrics", "variant": one["variant"], "name": one["metric"], "champion": one["champion_value"],
            "value": one["variant_value"], "difference": effect.get("estimate"), "difference_low": interval.get("low"),
            "difference_high": interval.get("high"), "lift": one["lift"], "lift_low": ends.get("low"),
            "lift_high": ends.get("high"), "p_value": interval.get("p_value"),
            "adjusted_p_value": one["adjusted_p_value"], "note": one["note"],
        }  # fmt: skip


def _list_preference(report: dict[str, Any]) -> Iterator[Row]:
    if found := report.get("preference"):
        mine = {"table": "preference", "variant": report["variants"][-1]}
        yield mine | {"name": "share", "value": found["share"]} | {
            name: found[name] for name in ("low", "high", "p_value")
        }  # fmt: skip
        yield from (mine | {"name": name, "value": found[name]} for name in ("wins", "losses", "ties"))


def _list_days(report: dict[str, Any]) -> Iterator[Row]:
    for day in report.get("days", []):
        of_day = {"table": "days", "day": day["day"]}
        for variant, count in day.get("visitors", {}).items():
            lift = dict(zip(("lift", "lift_low", "lift_high"), day["lifts"].get(variant) or (), strict=False))
            yield of_day | {"variant": variant, "name": "visitors", "value": count} | lift
        if "share" in day:
            ends = {"value": day["share"], "low": day["low"], "high": day["high"]}
            yield of_day | {"variant": report["variants"][-1], "name": "preference"} | ends


def _list_guardrails(report: dict[str, Any]) -> Iterator[Row]:
    for variant, found in report.get("guardrails", {}).items():
        for metric, one in found.items():
            room = one["interval"] or {}
            ends = {"low": room.get("low"), "high": room.get("high"), "note": f"{one['state']}: {one['reason']}"}
            yield {"table": "guardrails", "variant": variant, "name": metric} | ends
    if report.get("slow_ms"):
        yield {"table": "guardrails", "name": "slow_ms", "value": report["slow_ms"]}


def _list_funnel(report: dict[str, Any]) -> Iterator[Row]:
    for variant, steps in report.get("funnel", {}).items():
        yield from ({"table": "funnel", "variant": variant, "name": step, "value": n} for step, n in steps.items())


def _list_queries(report: dict[str, Any]) -> Iterator[Row]:
    for variant, found in report.get("queries", {}).items():
        for what, queries in found.items():
            for one in queries:
                searches = f"{one['champion_searches']} and {one['variant_searches']} searches"
                rates = {"champion": one["champion_rate"], "value": one["variant_rate"], "difference": one["gain"]}
                row = {"table": "queries", "variant": variant, "name": one["text"], "note": f"{what} of {searches}"}
                yield row | rates


def _list_visitors(report: dict[str, Any]) -> Iterator[Row]:
    for kind in ("visitors", *LEFT_OUT):
        for variant, count in report.get(kind, {}).items():
            yield {"table": "visitors", "variant": variant, "name": kind, "value": count}
    for variant, reason in report.get("stopped", {}).items():
        yield {"table": "visitors", "variant": variant, "name": "stopped", "note": reason}


def _list_ratio(report: dict[str, Any]) -> Iterator[Row]:
    found = report.get("ratio", {})
    for name in ("p_value", "always_valid_p_value"):
        if name in found:
            yield {"table": "ratio", "name": name, "p_value": found[name]}
    if "note" in found:
        yield {"table": "ratio", "note": found["note"]}


def _list_offline(report: dict[str, Any]) -> Iterator[Row]:
    found = report.get("offline") or {}
    pairs = {(pair["config"], pair["metric"]): pair for pair in found.get("pairs", [])}
    for config, metrics in found.get("configs", {}).items():
        for metric in found["metrics"]:
            one, pair = metrics[metric], pairs.get((config, metric), {})
            row = {"table": "offline", "variant": config, "name": metric, "note": found["judgement_set"]}
            ends = {"value": one["mean"], "low": one["low"], "high": one["high"]}
            against = {"difference": "mean", "difference_low": "low", "difference_high": "high"}
            yield row | ends | {name: pair.get(key) for name, key in against.items()}
