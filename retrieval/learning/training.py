"""What every training has in common: each step told, stopped when asked or diverging, resumed when killed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from retrieval.engine.types import EngineError


class TrainingError(EngineError):
    """A training that cannot go on or cannot start; the message names the cause and the cure."""


class TrainingCancelledError(TrainingError):
    """A training that was asked to stop. What it had saved stays, to be resumed."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far a training is. `loss` is the mean since the step told of before."""

    number: int
    total: int
    loss: float


class Watch(TrainerCallback):
    """Tells of each step, and stops when asked to or when the loss is no number."""

    def __init__(self, on_step: Callable[[Step], None], is_cancelled: Callable[[], bool]) -> None:
        self._on_step, self._is_cancelled = on_step, is_cancelled
        self.trouble: TrainingError | None = None

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any
    ) -> None:
        if "loss" not in logs:
            return  # the summary at the end
        loss = float(logs["loss"])
        if not math.isfinite(loss) or not math.isfinite(float(logs.get("grad_norm", 0.0))):
            self._stop(
                control, TrainingError(f"the loss is {loss} at step {state.global_step}: lower the learning rate")
            )
        self._on_step(Step(state.global_step, state.max_steps, loss))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._is_cancelled():
            self._stop(control, TrainingCancelledError(f"cancelled at step {state.global_step} of {state.max_steps}"))

    def _stop(self, control: TrainerControl, trouble: TrainingError) -> None:
        self.trouble = self.trouble or trouble
        control.should_training_stop = True
        control.should_save = isinstance(trouble, TrainingCancelledError)


def run(trainer: Trainer, watch: Watch, checkpoints: Path) -> None:
    """Train, from the last checkpoint if there is one; raises TrainingError when it was stopped or diverged."""
    trainer.add_callback(watch)
    last = get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None  # type: ignore[no-untyped-call]
    trainer.train(resume_from_checkpoint=last)
    if watch.trouble:
        raise watch.trouble
