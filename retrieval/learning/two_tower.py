"""Training of the two towers by InfoNCE: queries beside what answers them, against all else in a large batch."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import Sampler, SequentialSampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from retrieval.learning.infonce import backpropagate, margin_loss, masked_infonce
from retrieval.learning.rows import Batch, Rows, TrainingSet
from retrieval.learning.towers import Towers, TowerSettings, Tying, find_part, load_towers
from retrieval.learning.training import Step, TrainingError, Watch, claim, full_disk_told, run

LORA_RATE, FULL_RATE = 3e-4, 5e-5
WEIGHTS = "learned.safetensors"


@dataclass(frozen=True, slots=True)
class TwoTowerSettings(TowerSettings):
    """`rows` are pairs seen in each of `rounds`; `dims` the sizes that vectors are to be good at.

    `learning_rate`: None for what suits LoRA, or the training of all weights. `distillation`: how much a teacher's
    margins count beside InfoNCE, where there is a teacher.
    """

    rows: int = 20_000
    rounds: int = 2
    batch_size: int = 512
    learning_rate: float | None = None
    temperature: float = 0.05
    distillation: float = 0.1
    dims: tuple[int, ...] = (384, 256, 128, 64)
    seed: int = 1
    checkpoint_steps: int = 10

    def __post_init__(self) -> None:
        choices = get_args(Tying)
        if self.towers not in choices:
            raise TrainingError(f"unknown towers {self.towers!r}, expected one of: {', '.join(choices)}")
        for name, least in (("rows", 1), ("rounds", 1), ("batch_size", 2), ("lora_rank", 0), ("max_tokens", 4)):
            if getattr(self, name) < least:
                raise TrainingError(f"{name}={getattr(self, name)}, expected {least} or more")

        if not self.distillation >= 0:
            raise TrainingError(f"distillation={self.distillation}, expected 0 or more")
        if not 0 < self.strength <= 1:
            raise TrainingError(f"strength={self.strength}, expected more than 0, at most 1")
        if not self.temperature > 0:
            raise TrainingError(f"temperature={self.temperature}, expected more than 0")

    @property
    def round_steps(self) -> int:
        """How many batches a round has; rows that fill no batch are left out."""
        return max(self.rows // self.batch_size, 1)

    @property
    def rate(self) -> float:
        return self.learning_rate or (LORA_RATE if self.lora_rank else FULL_RATE)


Teach = Callable[[int, Towers], TrainingSet]


def train(
    base: str,
    learned: TrainingSet,
    settings: TwoTowerSettings,
    folder: Path,
    *,
    on_step: Callable[[Step], None] = lambda step: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Path:
    """Train towers that start as model `base` and return the product tower's folder.

    It is `folder`/adapter, or `folder`/model where all weights were trained; untied towers have query_adapter or
    query_model beside it. A training that was killed or cancelled goes on from its last checkpoint when called
    again with the same arguments. Raises TrainingError.
    """
    claim_training(folder, base, settings, learned.digest())
    return train_with(
        base, lambda number, towers: learned, settings, folder, on_step=on_step, is_cancelled=is_cancelled
    )


def claim_training(folder: Path, base: str, settings: TwoTowerSettings, digest: str) -> None:
    """Note what is trained in `folder`; raises TrainingError when it holds another training."""
    with full_disk_told(folder):
        claim(folder, {"base": base, "settings": asdict(settings), "data": digest})


def train_with(
    base: str,
    teach: Teach,
    settings: TwoTowerSettings,
    folder: Path,
    *,
    on_step: Callable[[Step], None],
    is_cancelled: Callable[[], bool],
) -> Path:
    """Train on what `teach` gives for each round, from 0, and the towers as they are then; otherwise as `train`."""
    finished, checkpoints = find_part(folder, settings), folder / "checkpoints"
    if finished.is_dir():
        return finished
    torch.manual_seed(settings.seed)  # adapters begin at random
    towers = load_towers(base, settings)
    trainer = TowerTrainer(towers, teach, settings, checkpoints)
    run(trainer, Watch(on_step, is_cancelled), checkpoints)
    with full_disk_told(folder):
        towers.save(base, folder)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return finished


class TowerTrainer(Trainer):
    """A trainer whose steps are batches of the round's rows, in their order, and whose checkpoints hold what learns."""

    def __init__(self, towers: Towers, teach: Teach, settings: TwoTowerSettings, checkpoints: Path) -> None:
        ticks: list[dict[str, Any]] = [{"tick": torch.tensor(0)}] * (settings.rounds * settings.round_steps)
        super().__init__(
            model=towers,
            args=_to_arguments(settings, checkpoints),
            train_dataset=ticks,
            data_collator=lambda chosen: chosen[0],
            callbacks=[RoundEnds(settings.round_steps)],
        )
        self.remove_callback(PrinterCallback)
        self._towers, self._teach, self._settings = towers, teach, settings
        self._dims = [size for size in settings.dims if size < towers.dim] + [towers.dim]
        self._round, self._learned = (
            -1,
            TrainingSet(Rows(np.empty(0, np.int64), np.empty((0, 2), np.int64), []), [], {}),
        )

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Add the gradients of the step's batch and return its loss."""
        number, step = divmod(self.state.global_step, self._settings.round_steps)
        self._towers.eval()
        if number != self._round:
            self._learned, self._round = self._teach(number, self._towers), number
        learned, size = self._learned, self._settings.batch_size
        batch = learned.rows.take(step * size, size)
        loss_of = partial(self._measure_loss, batch)
        queries = [learned.queries[query] for query in batch.queries.tolist()]
        products = [learned.texts[product_id] for product_id in batch.products.tolist()]
        return backpropagate(self._towers.query, self._towers.product, queries, products, loss_of)

    def _measure_loss(self, batch: Batch, queries: torch.Tensor, products: torch.Tensor) -> torch.Tensor:
        common: dict[str, Any] = {"temperature": self._settings.temperature, "dims": self._dims}
        loss = masked_infonce(queries, products, batch, **common)
        if self._settings.distillation and batch.margins is not None:
            loss = loss + self._settings.distillation * margin_loss(queries, products, batch, **common)
        return loss

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return SequentialSampler(self.train_dataset)  # type: ignore[arg-type]

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: weight.detach().cpu() for name, weight in self._towers.learned().items()}, folder / WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        saved = load_file(Path(resume_from_checkpoint) / WEIGHTS)
        with torch.no_grad():
            for name, weight in self._towers.learned().items():
                weight.copy_(saved[name])


class RoundEnds(TrainerCallback):
    """Saves a checkpoint at the end of each round: a kill while the next is prepared costs no step."""

    def __init__(self, round_steps: int) -> None:
        self._round_steps = round_steps

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step % self._round_steps == 0:
            control.should_save = True


def _to_arguments(settings: TwoTowerSettings, checkpoints: Path) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(checkpoints),
        per_device_train_batch_size=1,
        max_steps=settings.rounds * settings.round_steps,
        learning_rate=settings.rate,
        weight_decay=0.01 if settings.lora_rank else 0.0,
        warmup_steps=0.1,
        use_cpu=not torch.cuda.is_available(),
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_steps=settings.checkpoint_steps,
        save_total_limit=1,
        seed=settings.seed,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
    )
