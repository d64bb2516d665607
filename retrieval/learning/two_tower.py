"""Training of the two towers by InfoNCE: queries beside what answers them, against all else in a large batch."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset  # type: ignore[import-untyped]
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from transformers import PrinterCallback

from retrieval.engine.network import has_bf16
from retrieval.learning.examples import LabelledQuery
from retrieval.learning.infonce import MaskedInfoNCE, Rows
from retrieval.learning.training import Step, TrainingError, Watch, run

LEAST_QUERIES = 8


@dataclass(frozen=True, slots=True)
class TwoTowerSettings:
    """`rows` are pairs seen in each of `epochs`; `dims` the sizes that vectors are to be good at."""

    rows: int = 20_000
    epochs: int = 1
    batch_size: int = 512
    mini_batch_size: int = 32
    learning_rate: float = 5e-5
    temperature: float = 0.05
    dims: tuple[int, ...] = (384, 256, 128, 64)
    max_tokens: int = 96
    seed: int = 1
    checkpoint_steps: int = 10


@dataclass(frozen=True)
class TrainingSet:
    """Rows, with the queries by number and the products' texts by id that they speak of."""

    rows: Rows
    queries: Sequence[str]
    texts: Mapping[int, str]

    def to_dataset(self) -> Dataset:
        """Return the texts of each row, and its number as the label that the loss knows it by."""
        products = self.rows.products
        return Dataset.from_dict(
            {
                "query": [self.queries[number] for number in self.rows.queries.tolist()],
                "product": [self.texts[product_id] for product_id in products[:, 0].tolist()],
                "wrong": [self.texts[product_id] for product_id in products[:, 1].tolist()],
                "label": list(range(len(products))),
            }
        )


def build_training_set(
    queries: Sequence[LabelledQuery],
    texts: Mapping[int, str],
    negatives: Mapping[str, Sequence[int]],
    *,
    count: int,
    seed: int,
) -> TrainingSet:
    """Return `count` rows of a query, one of its positives and one hard negative, queries drawn by their weight.

    `negatives`: mined products by the query's text, beside those known to be wrong. Raises TrainingError when there
    are too few queries to learn from.
    """
    usable = [query for query in queries if query.positives and (query.negatives or negatives.get(query.text))]
    if len(usable) < LEAST_QUERIES:
        raise TrainingError(
            f"{len(usable)} of {len(queries)} queries have both a product that answers them and one that does not; "
            f"at least {LEAST_QUERIES} are needed: add ratings, or learn from the catalogue"
        )
    rng = random.Random(f"rows-{seed}")
    drawn = rng.choices(range(len(usable)), [query.weight for query in usable], k=count)
    positives = [query.positives for query in usable]
    wrong = [[*query.negatives, *negatives.get(query.text, ())] for query in usable]
    products = [[rng.choice(positives[at]), rng.choice(wrong[at])] for at in drawn]
    rows = Rows(np.array(drawn, np.int64), np.array(products, np.int64), [frozenset(right) for right in positives])
    return TrainingSet(rows, [query.text for query in usable], texts)


def train(
    base: Path,
    learned: TrainingSet,
    settings: TwoTowerSettings,
    folder: Path,
    *,
    on_step: Callable[[Step], None] = lambda step: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Path:
    """Train the model in `base` on a training set and return the folder of the new one, `folder`/model.

    A training that was killed or cancelled goes on from its last checkpoint when called again with the same
    arguments. Raises TrainingError.
    """
    model = SentenceTransformer(str(base), local_files_only=True, model_kwargs={"use_safetensors": True})
    longest, model.max_seq_length = model.max_seq_length, settings.max_tokens
    loss = MaskedInfoNCE(
        model,
        learned.rows,
        temperature=settings.temperature,
        dims=[size for size in settings.dims if size <= (model.get_embedding_dimension() or 0)],
        mini_batch_size=settings.mini_batch_size,
    )
    dataset, checkpoints = learned.to_dataset(), folder / "checkpoints"
    arguments = _to_arguments(settings, checkpoints, len(dataset))
    trainer = SentenceTransformerTrainer(model=model, args=arguments, train_dataset=dataset, loss=loss)
    trainer.remove_callback(PrinterCallback)
    run(trainer, Watch(on_step, is_cancelled), checkpoints)
    model.max_seq_length = longest
    model.save(str(folder / "model"), create_model_card=False)
    return folder / "model"


def _to_arguments(settings: TwoTowerSettings, checkpoints: Path, rows: int) -> SentenceTransformerTrainingArguments:
    return SentenceTransformerTrainingArguments(
        output_dir=str(checkpoints),
        per_device_train_batch_size=settings.batch_size,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        warmup_steps=0.1,
        use_cpu=not torch.cuda.is_available(),
        bf16=torch.cuda.is_available() or has_bf16(),
        logging_steps=1,
        save_steps=settings.checkpoint_steps,
        save_total_limit=1,
        seed=settings.seed,
        data_seed=settings.seed,
        dataloader_drop_last=rows >= settings.batch_size,
        disable_tqdm=True,
        report_to="none",
    )
