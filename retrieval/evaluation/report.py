"""What an evaluation found, and the ways to tell it: one object, rows per query, tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table

from retrieval.evaluation.compare import Difference, Estimate, compare_pairs, estimate_scores
from retrieval.evaluation.judgements import JudgementSet
from retrieval.evaluation.metrics import JUDGED, JUDGED_ENOUGH, Scores, score_rankings

# Fits a terminal of 80 columns.
_LOOK: dict[str, Any] = {
    "box": box.SIMPLE,
    "show_edge": False,
    "pad_edge": False,
    "padding": (0, 1, 0, 0),
    "title_justify": "left",
    "title_style": "bold",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What one query found: SKUs, best first, and how many products in all."""

    skus: tuple[str, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Answers of every config, by its name and the query's id, and how good they are."""

    judgements: JudgementSet
    relevant_from: int
    missing_skus: tuple[str, ...]  # rated, but not on sale
    answers: Mapping[str, Mapping[str, Answer]]
    scores: Mapping[str, Scores]
    estimates: Mapping[str, Mapping[str, Estimate]]  # by config, by metric
    pairs: tuple[Difference, ...]


def evaluate_answers(
    answers: Mapping[str, Mapping[str, Answer]],
    judgements: JudgementSet,
    relevant_from: int,
    missing_skus: tuple[str, ...] = (),
) -> Evaluation:
    """Return the measured answers: every query of the judgements counts, answered or not."""
    scores = {
        name: score_rankings({query_id: answer.skus for query_id, answer in found.items()}, judgements, relevant_from)
        for name, found in answers.items()
    }
    estimates = {name: estimate_scores(values) for name, values in scores.items()}
    pairs = tuple(compare_pairs(scores))
    return Evaluation(judgements, relevant_from, missing_skus, answers, scores, estimates, pairs)


def find_notes(evaluation: Evaluation) -> list[str]:
    """Return what a reader of the figures must know."""
    return [*_note_missing(evaluation), *_note_unrated(evaluation), *_note_empty(evaluation)]


def _note_missing(evaluation: Evaluation) -> Iterator[str]:
    if missing := evaluation.missing_skus:
        yield (
            f"{len(missing)} of {len(evaluation.judgements.skus)} rated SKUs are not on sale in this shop, for example "
            f"{missing[0]}: they stay in the ideal rankings and can only lower the figures."
        )


def _note_unrated(evaluation: Evaluation) -> Iterator[str]:
    for name, estimates in evaluation.estimates.items():
        if (judged := estimates[JUDGED].mean) < JUDGED_ENOUGH:
            yield (
                f"{JUDGED} of {name} is {judged:.3f}, below {JUDGED_ENOUGH}: trust its condensed nDCG@10, "
                "also in comparisons: it leaves unrated products out."
            )


def _note_empty(evaluation: Evaluation) -> Iterator[str]:
    for name, found in evaluation.answers.items():
        if empty := sum(not answer.skus for answer in found.values()):
            yield f"{name} finds nothing for {empty} of {len(found)} queries."


def to_dict(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "queries": len(evaluation.judgements.queries),
        "judgements": len(evaluation.judgements),
        "relevant_from": evaluation.relevant_from,
        "missing_skus": len(evaluation.missing_skus),
        "configs": {
            name: {metric: _estimate_to_dict(estimate) for metric, estimate in estimates.items()}
            for name, estimates in evaluation.estimates.items()
        },
        "pairs": [_difference_to_dict(pair) for pair in evaluation.pairs],
        "notes": find_notes(evaluation),
    }


def _estimate_to_dict(estimate: Estimate) -> dict[str, float]:
    return {name: round(value, 6) for name, value in asdict(estimate).items()}


def _difference_to_dict(pair: Difference) -> dict[str, Any]:
    return {
        "config": pair.config,
        "baseline": pair.baseline,
        "metric": pair.metric,
        **_estimate_to_dict(pair.estimate),
        "wins": pair.wins,
        "losses": pair.losses,
        "ties": pair.ties,
        "detectable": None if pair.detectable is None else round(pair.detectable, 6),
    }


def to_rows(evaluation: Evaluation) -> Iterator[list[str]]:
    """Yield the per-query table: its header, then a row for each config and query."""
    metrics = list(next(iter(evaluation.scores.values())).values)
    yield ["query_id", "query", "config", *metrics, "results"]
    for name, scores in evaluation.scores.items():
        for row, query_id in enumerate(scores.query_ids):
            values = [f"{scores.values[metric][row]:.6f}" for metric in metrics]
            total = str(evaluation.answers[name][query_id].total)
            yield [query_id, evaluation.judgements.queries[query_id], name, *values, total]


def to_tables(evaluation: Evaluation) -> RenderableType:
    """Return the means, and a table of differences for each pair of configs, for a terminal."""
    pairs = groupby(evaluation.pairs, key=lambda pair: f"{pair.config} − {pair.baseline}")
    tables = [_table_of_means(evaluation), *(_table_of_differences(names, each) for names, each in pairs)]
    return Group(*(Padding(table, (1, 0, 0, 0)) for table in tables))


def _table_of_means(evaluation: Evaluation) -> Table:
    table = Table("config", title="Means and 95 % intervals", **_LOOK)
    for metric in next(iter(evaluation.estimates.values())):
        table.add_column(metric.replace(" ", "\n").replace(")@", ")\n@"), justify="right", no_wrap=True)
    for name, estimates in evaluation.estimates.items():
        table.add_row(name, *(f"{each.mean:.3f}\n{_format_interval(each)}" for each in estimates.values()))
    return table


def _table_of_differences(names: str, pairs: Iterable[Difference]) -> Table:
    table = Table("metric", title=f"{names}: mean differences and 95 % intervals", **_LOOK)
    for heading in ("difference", "interval", "won/lost/tied", "detectable"):
        table.add_column(heading, justify="right", no_wrap=True)
    for pair in pairs:
        counts = f"{pair.wins}/{pair.losses}/{pair.ties}"
        detectable = "" if pair.detectable is None else f"{pair.detectable:.3f}"
        table.add_row(
            pair.metric, f"{pair.estimate.mean:+.3f}", _format_interval(pair.estimate, "+"), counts, detectable
        )
    return table


def _format_interval(estimate: Estimate, sign: str = "") -> str:
    return f"{estimate.low:{sign}.3f} {estimate.high:{sign}.3f}"
