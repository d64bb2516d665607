"""What a training learns from and where, for every kind of model; models loaded from where they were exported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from django.conf import settings as django_settings

from retrieval import registry
from retrieval.engine.encoders import TwoTowerEncoder
from retrieval.engine.fusion import Floats
from retrieval.engine.rerank import CrossEncoderReranker
from retrieval.judging import Court
from retrieval.models import TrainingRun
from retrieval.training_data import Collected
from retrieval.training_progress import Recorder

# Given a step, and what scores a court with the model as it is then: nDCG@10 of every query by set.
OnRound = Callable[[int, Callable[[Court], Mapping[str, Floats]]], None]


class Learner(Protocol):
    """One training of one kind of model."""

    def train(self, on_round: OnRound) -> None:
        """Train in the lesson's folder. `on_round` is told now and then of the step and of what the model is worth."""
        ...

    def score(self, court: Court, exported: Path | None) -> Mapping[str, Floats]:
        """Return nDCG@10 of every query by set, with the exported model, or with the one that is live."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what a version's card says of this kind alone."""
        ...


@dataclass(frozen=True)
class Lesson:
    """What is learned, from what, where; and whoever is told of it."""

    run: TrainingRun
    collected: Collected
    folder: Path
    recorder: Recorder

    @property
    def settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = self.run.settings
        return settings

    @property
    def base(self) -> str:
        return registry.resolve(self.settings["base"])

    def pick(self, names: Iterable[str]) -> dict[str, Any]:
        """Return those of the run's settings that were given."""
        return {name: self.settings[name] for name in names if name in self.settings}


def load_encoder(folder: Path) -> TwoTowerEncoder:
    return TwoTowerEncoder(folder, threads=django_settings.SEARCHSITE["ENCODER_THREADS"])


def load_reranker(folder: Path) -> CrossEncoderReranker:
    return CrossEncoderReranker(folder, threads=django_settings.SEARCHSITE["ENCODER_THREADS"])
