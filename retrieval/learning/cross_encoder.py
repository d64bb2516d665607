"""Training of the cross-encoder: it reads a query together with each of a few products and learns to order them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from datasets import Dataset  # type: ignore[import-untyped]
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax, mse_loss
from transformers import PreTrainedTokenizerBase, PrinterCallback, Trainer, TrainingArguments

from retrieval.engine.text import reader_text
from retrieval.engine.types import Document
from retrieval.learning.adapters import load_cross_encoder, quiet, save_adapter
from retrieval.learning.devices import computes_in_bf16
from retrieval.learning.examples import EXACT, LabelledQuery
from retrieval.learning.reader_now import ReaderNow, Readings
from retrieval.learning.rows import find_usable
from retrieval.learning.training import Step, TrainingError, Watch, claim, full_disk_told, run
from retrieval.learning.variations import vary

Loss = Literal["pointwise", "listwise", "both", "distilled"]
LENGTH_STEP = 16  # lengths are padded to multiples of it: few shapes for the compiler
MOST_POSITIVES, MOST_RELATED = 2, 3  # products of a list that answer the query, and that nearly do
BY_CHANCE = 2  # products of a list drawn from the whole catalogue
POWER = 2  # of a grade's share of EXACT: an accessory, graded 1, is far less than a third of an answer
UNSURE = 10  # what is found first and has no grade may be an answer that nobody has rated
# The transformer's own layers and the pooler, not the embeddings: words keep the meaning they had.
TARGETS = r".*encoder.*\.(query|key|value|dense)|.*pooler\.dense"


@dataclass(frozen=True, slots=True)
class CrossEncoderSettings:
    """`lists` of `list_size` products are read in each of `steps`; `layers` of the base are kept, () all of them.

    `variety`: how often a field of a product is left out or written otherwise, so that no habit of this shop's texts
    is relied on.
    """

    steps: int = 2000
    lists: int = 8
    list_size: int = 8
    learning_rate: float = 5e-4
    loss: Loss = "both"
    lora_rank: int = 32
    layers: tuple[int, ...] = ()
    max_tokens: int = 64
    variety: float = 0.3
    compile: bool = False
    seed: int = 1
    checkpoint_steps: int = 100

    def __post_init__(self) -> None:
        if self.loss not in get_args(Loss):
            raise TrainingError(f"unknown loss {self.loss!r}, expected one of: {', '.join(get_args(Loss))}")


@dataclass(frozen=True, slots=True)
class GradedList:
    """A query with texts of products; `targets` are 0 to 1, from wrong to exact, or a teacher's scores."""

    query: str
    texts: tuple[str, ...]
    targets: tuple[float, ...]


def build_lists(
    queries: Sequence[LabelledQuery],
    documents: Mapping[int, Document],
    candidates: Mapping[str, Sequence[int]],
    settings: CrossEncoderSettings,
) -> list[GradedList]:
    """Return `steps * lists` lists: products that answer a query, ones that nearly do, and others found for it.

    `candidates`: what a search finds by the query's text, best first; what has no grade there counts as wrong, but
    for the first where not all products are graded.
    Queries are drawn by their weight. Raises TrainingError when there are too few to learn from.
    """
    usable = find_usable(queries, documents, candidates)
    rng = random.Random(f"lists-{settings.seed}")
    shops = {is_sample: [one for one in documents if (one < 0) == is_sample] for is_sample in (False, True)}
    lists = []
    for query in rng.choices(usable, [query.weight for query in usable], k=settings.steps * settings.lists):
        shop, found = shops[query.positives[0] < 0], candidates.get(query.text, ())
        chosen = choose(query, found, shop, settings.list_size, rng)
        lists.append(_to_list(query, chosen, documents, settings.variety, rng))
    return lists


def choose(
    query: LabelledQuery, found: Sequence[int], everything: Sequence[int], size: int, rng: random.Random
) -> list[int]:
    """Return `size` products: positives, found ones first, then near misses, wrong ones and some by chance."""
    grades, positives = query.grades, set(query.positives)
    right = [product_id for product_id in found if product_id in positives] or sorted(positives)
    unsure = set() if query.is_complete else set(found[:UNSURE]).difference(grades)
    others = [one for one in dict.fromkeys([*found, *query.negatives]) if one not in positives and one not in unsure]
    related = [product_id for product_id in others if grades.get(product_id, 0) > 0]
    wrong = [product_id for product_id in others if grades.get(product_id, 0) == 0]
    chosen = _some(right, MOST_POSITIVES, rng)
    chosen += _some(related, min(MOST_RELATED, size - 1 - len(chosen)), rng)  # a place is left for a wrong one
    chosen += _some(wrong, max(size - BY_CHANCE - len(chosen), 1), rng)
    while len(chosen) < size:
        chosen.append(rng.choice(everything))
    return chosen[:size]


def _some(product_ids: Sequence[int], most: int, rng: random.Random) -> list[int]:
    return rng.sample(product_ids, min(len(product_ids), max(most, 0)))


def _to_list(
    query: LabelledQuery,
    product_ids: Sequence[int],
    documents: Mapping[int, Document],
    variety: float,
    rng: random.Random,
) -> GradedList:
    texts = tuple(reader_text(vary(documents[product_id], variety, rng)) for product_id in product_ids)
    shares = (query.grades.get(product_id, 0.0) / EXACT for product_id in product_ids)
    return GradedList(query.text, texts, tuple(share**POWER for share in shares))


def train(
    base: str,
    lists: Sequence[GradedList],
    settings: CrossEncoderSettings,
    folder: Path,
    *,
    on_step: Callable[[Step], None] = lambda step: None,
    on_reading: Callable[[int, ReaderNow], None] | None = None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Path:
    """Train an adapter of model `base` on the lists and return its folder, `folder`/adapter.

    `on_reading` is given the step and the model as it is, before the first and after each checkpoint. A training that
    was killed or cancelled goes on from its last checkpoint when called again with the same arguments. Raises
    TrainingError.
    """
    with full_disk_told(folder):
        claim(folder, {"base": base, "settings": asdict(settings), "data": hash_lists(lists)})
    if (folder / "adapter").is_dir():
        return folder / "adapter"
    checkpoints = folder / "checkpoints"
    trainer, learner, tokenizer = _make_trainer(base, lists, settings, checkpoints)
    if on_reading:
        trainer.add_callback(Readings(Collator(tokenizer, settings.max_tokens), on_reading))
    run(trainer, Watch(on_step, is_cancelled), checkpoints)
    with full_disk_told(folder):
        unfinished = folder / "unfinished"
        save_adapter(learner, tokenizer, unfinished, base=base, layers=settings.layers, max_tokens=settings.max_tokens)
        return unfinished.rename(folder / "adapter")


def _make_trainer(
    base: str, lists: Sequence[GradedList], settings: CrossEncoderSettings, checkpoints: Path
) -> tuple[ListTrainer, PeftModel, PreTrainedTokenizerBase]:
    """Return what trains, the base with a fresh adapter and head that it trains, and the base's tokenizer."""
    torch.manual_seed(settings.seed)  # the adapter and the head begin at random
    model, tokenizer = load_cross_encoder(base, layers=settings.layers)
    model.set_attn_implementation("eager")  # on a CPU in bf16, half as slow as torch's fused one
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # little is gained by it in one pass over the data, and much time lost
    adapter = LoraConfig(
        r=settings.lora_rank, lora_alpha=settings.lora_rank, target_modules=TARGETS, modules_to_save=["classifier"]
    )
    with quiet():
        learner: PeftModel = get_peft_model(model, adapter)
    trainer = ListTrainer(
        model=learner,
        args=_to_arguments(settings, checkpoints),
        train_dataset=Dataset.from_list(
            [{"query": one.query, "texts": one.texts, "targets": one.targets} for one in lists]
        ),
        data_collator=Collator(tokenizer, settings.max_tokens),
        loss=settings.loss,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer, learner, tokenizer


def hash_lists(lists: Sequence[GradedList]) -> str:
    """Return what changes with anything that is learned from."""
    return hashlib.blake2b(repr(lists).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Collator:
    """Makes the inputs of a batch from its lists, all their pairs in one row of lists."""

    tokenizer: PreTrainedTokenizerBase
    max_tokens: int

    def __call__(self, lists: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        features = self.tokenizer(
            [one["query"] for one in lists for _ in one["texts"]],
            [text for one in lists for text in one["texts"]],
            truncation="longest_first",
            max_length=self.max_tokens,
            padding=True,
            pad_to_multiple_of=None if self.max_tokens % LENGTH_STEP else LENGTH_STEP,
            return_tensors="pt",
        )
        return {**features, "labels": torch.tensor([one["targets"] for one in lists], dtype=torch.float32)}


class ListTrainer(Trainer):
    """A trainer whose batches are lists, shape (lists, list_size), and whose loss orders each."""

    def __init__(self, *args: Any, loss: Loss, **options: Any) -> None:
        super().__init__(*args, **options)
        self._loss = loss

    def compute_loss(self, model: Any, inputs: dict[str, torch.Tensor], *args: Any, **options: Any) -> Any:
        """Return the mean loss of a batch."""
        targets = inputs.pop("labels")
        logits = model(**inputs).logits[:, -1].float().view_as(targets)
        return LOSSES[self._loss](logits, targets)


def pointwise_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the binary cross-entropy of each product's grade as a share of EXACT."""
    return binary_cross_entropy_with_logits(logits, targets)


def listwise_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy between the lists' softmax and their grades' shares: ListNet, Cao et al. 2007."""
    shares = targets / targets.sum(dim=1, keepdim=True).clamp(min=1e-6)
    return -(shares * log_softmax(logits, dim=1)).sum(dim=1).mean()


def distillation_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the squared difference of all margins within a list from the teacher's: Hofstätter et al. 2020."""
    return mse_loss(logits[:, :, None] - logits[:, None, :], targets[:, :, None] - targets[:, None, :])


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "pointwise": pointwise_loss,
    "listwise": listwise_loss,
    "both": lambda logits, targets: pointwise_loss(logits, targets) + 0.5 * listwise_loss(logits, targets),
    "distilled": lambda logits, targets: distillation_loss(logits, targets) + 0.1 * mse_loss(logits, targets),
}


def _to_arguments(settings: CrossEncoderSettings, checkpoints: Path) -> TrainingArguments:
    device_type = "cuda" if torch.cuda.is_available() else "cpu"
    return TrainingArguments(
        output_dir=str(checkpoints),
        per_device_train_batch_size=settings.lists,
        max_steps=settings.steps,
        learning_rate=settings.learning_rate,
        weight_decay=0.01,
        warmup_steps=0.06,
        use_cpu=device_type == "cpu",
        bf16=computes_in_bf16(device_type),
        torch_compile=settings.compile,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_steps=settings.checkpoint_steps,
        save_total_limit=1,
        seed=settings.seed,
        data_seed=settings.seed,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
    )
