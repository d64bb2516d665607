"""What the admin shows of trainings: how far they are, their curves, and in what they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.utils.safestring import SafeString

from retrieval import plots, training_runs
from retrieval.evaluation.gate import HELD_OUT
from retrieval.models import TrainingRun


def name_state(run: TrainingRun) -> str:
    return "interrupted" if run.is_interrupted else str(run.state)


def percent(run: TrainingRun) -> int:
    """Return how much is done; after the last step it is still to be exported and judged."""
    return 100 if run.state == TrainingRun.State.FINISHED else min(round(run.share_done * 100), 99)


def name_sources(run: TrainingRun) -> str:
    return ", ".join(f"{name} × {weight:g}" for name, weight in run.sources)


def describe(run: TrainingRun) -> dict[str, Any]:
    """Return what changes while a training goes."""
    phase = run.phase
    if run.state == TrainingRun.State.QUEUED and (ahead := training_runs.find_ahead(run)):
        phase = f"waits for training {ahead.pk}"
    if run.is_cancel_requested and run.state == TrainingRun.State.RUNNING:
        phase = "stops"
    return {
        "state": name_state(run),
        "percent": percent(run),
        "phase": phase,
        "steps": f"{run.steps_done:,} of {run.steps_total:,} steps" if run.steps_total else "",
        "error": run.error,
        "gain": describe_gain(run),
    }


def describe_gain(run: TrainingRun) -> str:
    """Return nDCG@10 on held-out queries before and after: the gate's figures, the curve's while there are none."""
    sets = run.result.verdict.get("sets", []) if run.result else []
    for each in sets:
        if each["name"] == HELD_OUT:
            return f"{each['champion']:.3f} → {each['challenger']:.3f}"
    return f"{run.scores[0][1]:.3f} → {run.scores[-1][1]:.3f}" if len(run.scores) > 1 else ""


def draw_curves(runs: Sequence[TrainingRun]) -> list[SafeString]:
    """Return the curves of loss and of nDCG@10, a line for each training."""
    many = len(runs) > 1
    return [
        plots.draw_lines(
            title,
            description,
            [
                plots.Line(f"training {run.pk}" if many else label, [(at, value) for at, value in getattr(run, name)])
                for run in runs
            ],
            x_label="step",
            y_label=label,
        )
        for title, description, label, name in CURVES
    ]


CURVES = (
    ("Loss", "Mean loss by step: it falls while there is something to learn.", "loss", "losses"),
    ("nDCG@10", "nDCG@10 by step, on at most 200 queries held out of the training.", "nDCG@10", "scores"),
)


def differ(runs: Sequence[TrainingRun]) -> list[tuple[str, list[str]]]:
    """Return the facts in which trainings differ, each with its value for every one, empty where it has none."""
    facts = [
        {"kind": run.kind, "state": name_state(run), "sources": name_sources(run), "nDCG@10": describe_gain(run)}
        | {name: str(value) for name, value in run.settings.items()}
        for run in runs
    ]
    names = list(dict.fromkeys(name for each in facts for name in each))
    rows = [(name, [each.get(name, "") for each in facts]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]
