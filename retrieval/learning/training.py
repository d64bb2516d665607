"""What every training has in common: each step told, stopped when asked or diverging, resumed when killed."""

from __future__ import annotations

import errno
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.nn import Module
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from retrieval.engine.files import write_atomically
from retrieval.engine.types import EngineError

STATE = "trainer_state.json"  # written last in a checkpoint
CLAIM = "training.json"
CHECKPOINT_COPIES = 3  # of what learns: the weights, and two moments of each
SMALLEST_FREE_BYTES = 1 << 20
# What safetensors and torch say of it, which have errors of their own.
SIGNS_OF_FULL_DISK = ("No space left", "iostream error", "PytorchStreamWriter", "inline_container")


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
        loss, gradient = float(logs["loss"]), float(logs.get("grad_norm", 0.0))
        if not (math.isfinite(loss) and math.isfinite(gradient)):
            what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient is {gradient}"
            self._stop(control, TrainingError(f"{what} at step {state.global_step}: lower the learning rate"))
        self._on_step(Step(state.global_step, state.max_steps, loss))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **facts: Any) -> None:
        if self._is_cancelled():
            self._stop(control, TrainingCancelledError(f"cancelled at step {state.global_step} of {state.max_steps}"))
        if control.should_save:
            check_space(Path(str(args.output_dir)), facts["model"])

    def _stop(self, control: TrainerControl, trouble: TrainingError) -> None:
        self.trouble = self.trouble or trouble
        control.should_training_stop = True
        control.should_save = isinstance(trouble, TrainingCancelledError)


def run(trainer: Trainer, watch: Watch, checkpoints: Path) -> None:
    """Train, from the last whole checkpoint if there is one.

    Raises TrainingError when it was stopped, diverged or found no room on the disk.
    """
    trainer.add_callback(watch)
    last = find_checkpoint(checkpoints)
    with full_disk_told(checkpoints):
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    if watch.trouble:
        raise watch.trouble


def find_checkpoint(checkpoints: Path) -> Path | None:
    """Return the last whole checkpoint; what a killed training left of others is removed."""
    found = sorted(checkpoints.glob("checkpoint-*"), key=lambda folder: -int(folder.name.rpartition("-")[2]))
    for folder in found:
        if _is_whole(folder):
            return folder
        shutil.rmtree(folder)
    return None


def _is_whole(checkpoint: Path) -> bool:
    """Return whether the trainer's state can be read."""
    try:
        json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def claim(folder: Path, facts: Mapping[str, Any]) -> None:
    """Note what is trained in `folder`; raises TrainingError when it holds a training of something else."""
    path, text = folder / CLAIM, json.dumps(facts, indent=2, sort_keys=True)
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise TrainingError(
            f"{folder} holds a training with other data or settings: choose another folder, or delete this one"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text)


@contextmanager
def full_disk_told(folder: Path) -> Iterator[None]:
    """Raise TrainingError with the cure for whatever is raised because the disk is full."""
    try:
        yield
    except Exception as error:  # each library beneath has its own
        if not _is_disk_full(error):
            raise
        if folder.is_dir():
            find_checkpoint(folder)  # half a checkpoint only takes room
        raise TrainingError(
            f"no space is left on the disk of {folder}: free some and start the training again; it goes on from "
            "its last checkpoint"
        ) from error


def check_space(checkpoints: Path, model: Module) -> None:
    """Raise OSError unless there is room for another checkpoint: torch may abort the process where there is none."""
    learned = sum(weight.numel() * weight.element_size() for weight in model.parameters() if weight.requires_grad)
    needed = CHECKPOINT_COPIES * learned + SMALLEST_FREE_BYTES
    if shutil.disk_usage(_find_there(checkpoints)).free < needed:
        raise OSError(errno.ENOSPC, f"a checkpoint takes {needed:,} bytes")


def _is_disk_full(error: BaseException | None) -> bool:
    if error is None:
        return False
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if any(sign in str(error) for sign in SIGNS_OF_FULL_DISK):
        return True
    return _is_disk_full(error.__cause__ or error.__context__)


def _find_there(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())
