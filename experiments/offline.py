"""How good configs' rankings are on a judgement set, before shoppers see them: kept, so that there is a history."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.conf import settings

from experiments.click_counts import in_batches
from experiments.models import Experiment, OfflineEvaluation
from experiments.models.experiments import change_config
from retrieval.engine.config import SearchConfig, get_config
from retrieval.engine.pipeline import Pipeline
from retrieval.engine.types import EngineError
from retrieval.evaluation.compare import TIE, compare, estimate_scores
from retrieval.evaluation.judgements import JudgementsError
from retrieval.evaluation.judgements import JudgementSet as Graded
from retrieval.evaluation.metrics import DEEPEST_CUTOFF, NDCG, Scores, build_report_measures, score_rankings
from retrieval.evaluation.report import Answer, Evaluation, to_dict
from retrieval.management.commands.evaluate import find_missing, search_all
from retrieval.models import JudgementSet
from retrieval.setup import get_pipeline, make_plan

STEPS = 100  # of a grade: the measures take whole ones, and gain in proportion to them
EXACT = 3.0
MOST_CHANGED = 10  # queries won, and lost, that are told of
STRETCH = 20  # queries searched between two reports of progress
Progress = Callable[[int, int], object]  # is told of queries done, and of all; 0 of 0 while pipelines are opened


def list_configs(names: Iterable[str]) -> dict[str, SearchConfig]:
    """Return the built-in configs of these names, the shop's own without any; raises EngineError for an unknown one."""
    return {name: get_config(name) for name in names or (settings.SEARCHSITE["CONFIG"],)}


def list_variants(experiment: Experiment) -> dict[str, SearchConfig]:
    """Return the configs that an experiment's variants search with, the champion's first, by the variants' names.

    Raises EngineError for an experiment without variants.
    """
    own = get_config(settings.SEARCHSITE["CONFIG"])
    variants = experiment.variants.order_by("-is_champion", "pk")
    if not variants:
        raise EngineError(f"experiment {experiment.name!r} has no variants to evaluate: add two or more in the admin")
    return {variant.name: change_config(own, variant.changes, variant.name) for variant in variants}


def evaluate(
    judgement_set: JudgementSet,
    configs: Mapping[str, SearchConfig],
    experiment: Experiment | None = None,
    on_progress: Progress | None = None,
) -> OfflineEvaluation:
    """Search every query of the set with every config, and keep how good each is and how it compares with the first.

    Only queries with a relevant product count: one of the grade 3, or of the highest there is. Raises JudgementsError
    for a set without such queries or without products on sale, EngineError for a config that cannot be searched with.
    """
    graded, relevant_from = read_graded(judgement_set)
    pipelines = {}
    for name, config in configs.items():
        pipelines[name] = get_complete(config)
        if on_progress:  # a reranker may be exported first, which takes minutes
            on_progress(0, 0)
    content = measure(graded, relevant_from, pipelines, on_progress)
    return OfflineEvaluation.objects.create(
        judgement_set=judgement_set,
        experiment=experiment,
        configs=[make_plan(config).config.to_dict() | {"name": name} for name, config in configs.items()],
        content=content,
    )


def measure(
    graded: Graded, relevant_from: int, pipelines: Mapping[str, Pipeline], on_progress: Progress | None = None
) -> dict[str, Any]:
    """Return how good the pipelines' rankings are and how each compares with the first, as JSON holds it."""
    counted = graded.with_relevant(relevant_from)
    missing = find_missing(counted)
    answers = search_in_stretches(pipelines, counted.queries, on_progress)
    scores = {name: _score(found, counted, relevant_from) for name, found in answers.items()}
    first, *others = scores
    pairs = tuple(pair for name in others for pair in compare(name, scores[name], first, scores[first]))
    estimates = {name: estimate_scores(found) for name, found in scores.items()}
    return to_dict(Evaluation(counted, relevant_from, missing, answers, scores, estimates, pairs)) | {
        "metrics": list(build_report_measures(relevant_from)),
        "relevant_from": relevant_from / STEPS,
        "left_out": len(graded.queries) - len(counted.queries),
        "changed": {name: find_changed(scores[first], scores[name], counted.queries) for name in others},
    }


def search_in_stretches(
    pipelines: Mapping[str, Pipeline], queries: Mapping[str, str], on_progress: Progress | None
) -> dict[str, dict[str, Answer]]:
    """Return the answers by config and query id, telling how far it is."""
    answers: dict[str, dict[str, Answer]] = {}
    done = 0
    for stretch in in_batches(queries.items(), STRETCH):
        for name, found in search_all(pipelines, dict(stretch), DEEPEST_CUTOFF).items():
            answers.setdefault(name, {}).update(found)
        done += len(stretch)
        if on_progress:
            on_progress(done, len(queries))
    return answers


def _score(answers: Mapping[str, Answer], graded: Graded, relevant_from: int) -> Scores:
    rankings = {query_id: answer.skus for query_id, answer in answers.items()}
    return score_rankings(rankings, graded, relevant_from, build_report_measures)


def get_complete(config: SearchConfig) -> Pipeline:
    """Return the config's pipeline; raises EngineError where it would quietly be a lesser one."""
    pipeline = get_pipeline(config)
    if make_plan(config).config.rerank_depth and pipeline.reranker is None:
        raise EngineError(f"config {config.name!r} reranks, but its reranker cannot be loaded: name another one")
    return pipeline


def read_graded(judgement_set: JudgementSet) -> tuple[Graded, int]:
    """Return the set's queries with grades in hundredths, and the least of them that is relevant.

    Raises JudgementsError for a set without a grade above 0.
    """
    queries: dict[str, str] = {}
    grades: dict[str, dict[str, int]] = {}
    rows = judgement_set.judgements.order_by("query", "sku").values_list("query", "sku", "grade")
    for query, sku, grade in rows.iterator():
        queries[query] = query
        grades.setdefault(query, {})[sku] = round(grade * STEPS)
    given = {grade for graded in grades.values() for grade in graded.values()}
    if not any(grade > 0 for grade in given):
        raise JudgementsError(
            f"judgement set {judgement_set.name!r} has no product graded above 0: import ratings, or grade some"
        )
    exact = round(EXACT * STEPS)
    return Graded(queries, grades), exact if exact in given else max(given)


def find_changed(before: Scores, after: Scores, queries: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    """Return the queries whose nDCG@10 rose most and fell most, at most MOST_CHANGED of each."""
    values = zip(before.query_ids, before.values[NDCG].tolist(), after.values[NDCG].tolist(), strict=True)
    rows = [
        {"query": queries[key], "before": round(old, 4), "after": round(new, 4), "difference": round(new - old, 4)}
        for key, old, new in values
        if abs(new - old) > TIE
    ]
    rows.sort(key=lambda row: (-row["difference"], row["query"]))
    return {
        "won": [row for row in rows[:MOST_CHANGED] if row["difference"] > 0],
        "lost": [row for row in rows[::-1][:MOST_CHANGED] if row["difference"] < 0],
    }


def find_set(name: str) -> JudgementSet:
    """Return the judgement set of this name; raises JudgementsError naming those there are."""
    found = JudgementSet.objects.filter(name=name).first()
    if found is None:
        names = ", ".join(JudgementSet.objects.values_list("name", flat=True)) or "none yet: import one"
        raise JudgementsError(f"unknown judgement set {name!r}, expected one of: {names}")
    return found


def find_experiment(name: str) -> Experiment:
    """Return the experiment of this name; raises EngineError naming those there are."""
    found = Experiment.objects.filter(name=name).first()
    if found is None:
        names = ", ".join(Experiment.objects.values_list("name", flat=True)) or "none yet: make one in the admin"
        raise EngineError(f"unknown experiment {name!r}, expected one of: {names}")
    return found
