"""Measure rankings on a judgement set, and keep the result for the reports."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from experiments import offline
from experiments.models import OfflineEvaluation
from retrieval.engine.config import CONFIGS
from retrieval.engine.types import EngineError
from retrieval.evaluation.judgements import JudgementsError


class Command(BaseCommand):
    help = (
        "Search every query of a judgement set with each config and keep how good the rankings are, with 95 % paired "
        "bootstrap intervals against the first, for the page Offline of the reports and for the experiment's own."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("judgement_set", metavar="SET", help="its name")
        choice = parser.add_mutually_exclusive_group()
        choice.add_argument("--experiment", metavar="NAME", help="compare its variants, the champion first")
        choice.add_argument(
            "--config",
            action="append",
            dest="configs",
            metavar="NAME",
            help=f"one of: {', '.join(CONFIGS)}; may be given several times (default: the site's)",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, judgement_set: str, **options: Any) -> None:
        try:
            evaluation = evaluate(judgement_set, options["experiment"], options["configs"] or [])
        except (EngineError, JudgementsError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(json.dumps(to_facts(evaluation), ensure_ascii=False) if options["json"] else tell(evaluation))


def evaluate(judgement_set: str, experiment_name: str | None, names: list[str]) -> OfflineEvaluation:
    """Return the evaluation of the experiment's variants, or of the configs of these names."""
    found = offline.find_set(judgement_set)
    if experiment_name is None:
        return offline.evaluate(found, offline.list_configs(names))
    experiment = offline.find_experiment(experiment_name)
    return offline.evaluate(found, offline.list_variants(experiment), experiment)


def to_facts(evaluation: OfflineEvaluation) -> dict[str, Any]:
    return {
        "judgement_set": evaluation.judgement_set.name,
        "made_at": evaluation.made_at.isoformat(),
        "settings": evaluation.configs,
        **evaluation.content,
    }


def tell(evaluation: OfflineEvaluation) -> str:
    """Return the evaluation in a few lines."""
    content = evaluation.content
    lines = [f"{content['queries']:,} queries with {content['judgements']:,} ratings"]
    for name, metrics in content["configs"].items():
        lines.append(f"{name}: " + ", ".join(f"{metric} {one['mean']:.3f}" for metric, one in metrics.items()))
    for pair in content["pairs"]:
        told = f"{pair['config']} - {pair['baseline']}, {pair['metric']}: {pair['mean']:+.3f}"
        lines.append(f"{told} [{pair['low']:+.3f}, {pair['high']:+.3f}], won {pair['wins']}, lost {pair['losses']}")
    return "\n".join([*lines, *(f"Note: {note}" for note in content["notes"])])
