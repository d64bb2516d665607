"""A cross-encoder while it learns, as a reader of hits: what its curve is drawn by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from retrieval.engine.types import Scores
from retrieval.learning.calibration import measure_span
from retrieval.learning.devices import computes_in_bf16
from retrieval.learning.examples import JudgedPair

Collate = Callable[[list[dict[str, Any]]], Mapping[str, torch.Tensor]]


@dataclass(frozen=True)
class ReaderNow:
    """`collate` makes the model's inputs of lists of a query, texts and targets."""

    model: Any
    collate: Collate
    span: float = 0.0  # as of `ModelCard`

    def measured(self, pairs: Sequence[JudgedPair]) -> ReaderNow:
        """Return the reader with the span that it has on these pairs now."""
        return replace(self, span=measure_span(self, pairs))

    def score(self, query: str, documents: Sequence[tuple[str, str]]) -> Scores:
        """Return the logit of each (content hash, text), float32 of shape (len(documents),), higher is better."""
        texts = [text for _, text in documents]
        features = dict(self.collate([{"query": query, "texts": texts, "targets": [0.0] * len(texts)}]))
        features.pop("labels")
        device, was_training = self.model.device, self.model.training
        self.model.eval()
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=computes_in_bf16(device.type)):
            logits = self.model(**{name: value.to(device) for name, value in features.items()}).logits[:, -1]
        self.model.train(was_training)
        scores: Scores = logits.float().cpu().numpy()
        return scores


class Readings(TrainerCallback):
    """Tells of the model as it begins and after each checkpoint: a cancel meanwhile loses no step."""

    def __init__(self, collate: Collate, on_reading: Callable[[int, ReaderNow], None]) -> None:
        self._collate, self._on_reading = collate, on_reading

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **facts: Any
    ) -> None:
        if state.global_step == 0:
            self._on_reading(0, ReaderNow(facts["model"], self._collate))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **facts: Any) -> None:
        if state.global_step < state.max_steps:
            self._on_reading(state.global_step, ReaderNow(facts["model"], self._collate))
