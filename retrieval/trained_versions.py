"""What a training leaves: its weights as a model version, with a card, under a name that no other has."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from itertools import chain, count
from pathlib import Path
from typing import Any

from retrieval import registry, training_files
from retrieval.engine.files import write_atomically
from retrieval.evaluation.gate import Verdict
from retrieval.generations import recipe_version
from retrieval.learning import versions
from retrieval.learning.versions import VersionCard
from retrieval.models import ModelVersion, TrainingRun

LONGEST_NAME = 90  # a number may follow
WRITTEN = "version"  # names the version's folder, from before it is there


def make_card(run: TrainingRun, report: Mapping[str, Any], facts: Mapping[str, Any]) -> VersionCard:
    """Return the card of what was learned from what `report` tells of; `facts` are those of its kind alone."""
    base = run.settings["base"]
    return VersionCard(
        name=find_name(run),
        kind=run.kind,
        base=base,
        parent=_find_parent(run.kind, base),
        recipe_version=recipe_version(),
        data_hash=report["data_hash"],
        settings=dict(run.settings) | {"sources": dict(run.sources)},
        metrics={
            "queries": report["queries"],
            "held_out": report["held_out"],
            "products": report["products"],
            "loss": run.losses[-1][1] if run.losses else 0.0,
        },
        **facts,
    )


def find_name(run: TrainingRun) -> str:
    """Return a name for the version that no other has: that asked for, or with a number after it."""
    name = run.settings.get("name") or f"{run.kind}-{run.pk}"
    others = (f"{name[:LONGEST_NAME]}.{number}" for number in count(2))
    return next(each for each in chain([name], others) if _is_free(each, run))


def _is_free(name: str, run: TrainingRun) -> bool:
    """Return whether neither a row nor a folder has the name, but for one that an earlier try of this run wrote.

    A folder without a row may be live, or the base of others: a database can be emptied or restored.
    """
    if ModelVersion.objects.filter(name=name).exists():
        return False
    return not registry.folder_of(name).exists() or name == _read_written(run)


def _read_written(run: TrainingRun) -> str:
    path = training_files.folder_of(run.pk) / WRITTEN
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _find_parent(kind: str, base: str) -> str:
    """Return the name of the version that is the base, empty where the base is another model."""
    name = Path(base).name
    is_version = registry.resolve(base) == str(registry.folder_of(name))
    return name if is_version and ModelVersion.objects.filter(name=name, kind=kind).exists() else ""


def write(run: TrainingRun, card: VersionCard, work: Path) -> Path:
    """Return the version's new folder; what a try that was killed left there is written anew."""
    if card.name == _read_written(run):
        shutil.rmtree(registry.folder_of(card.name), ignore_errors=True)
    write_atomically(training_files.folder_of(run.pk) / WRITTEN, card.name)
    return versions.write_version(registry.models_dir(), card, versions.find_parts(work))


def rewrite_card(folder: Path, card: VersionCard) -> None:
    """Add what was measured to the cards of a version that is not registered yet."""
    texts = {
        versions.CARD: json.dumps(asdict(card), indent=2, ensure_ascii=False) + "\n",
        versions.README: versions.describe(card, versions.list_files(folder)),
    }
    for name, text in texts.items():
        write_atomically(folder / name, text)
        (folder / name).chmod(0o444)


def register(folder: Path, exported: Path, verdict: Verdict) -> ModelVersion:
    """Return the version's new row, with what it was exported to and what the gate found."""
    version = registry.register(folder, ModelVersion.Origin.TRAINED)
    version.exported, version.verdict = exported.name, verdict.to_dict()
    version.save(update_fields=["exported", "verdict"])
    return version
