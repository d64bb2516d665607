"""The two towers while they learn: texts in mini-batches of alike lengths, vectors out, and what was learned saved."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from sentence_transformers import SentenceTransformer

from retrieval.engine.encoders import scale_to_unit
from retrieval.engine.types import Vectors
from retrieval.learning import sources
from retrieval.learning.adapters import load_two_tower, quiet, save_adapter
from retrieval.learning.devices import computes_in_bf16
from retrieval.learning.sources import TOWERS, Side
from retrieval.learning.training import TrainingError

Tying = Literal["tied", "untied"]
OnDone = Callable[[int], None]  # how many are done
# The transformer's own layers, not the embeddings: words keep the meaning they had.
TARGETS = r".*encoder.*\.(query|key|value|dense)"
ALL_LINEAR = "all-linear"  # for transformers whose layers have other names
LENGTH_STEP, COMPILED_LENGTH_STEP = 8, 16  # lengths are padded to multiples of it; few shapes for the compiler
PROMPTS = {"query": ("query",), "product": ("document", "passage", "corpus")}


@dataclass(frozen=True, slots=True)
class TowerSettings:
    """How towers are set up. `lora_rank` 0 trains all weights but the words' embeddings.

    `max_tokens`: where texts are cut. `mini_batch_tokens`: how many are in memory at once, padding included.
    `compile` pays for itself in long trainings, and needs a C++ compiler. `strength`: how much of what was learned is
    kept when it is saved, 1 for all; less of it holds better where shoppers ask otherwise than what was learned from
    (WiSE-FT: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").
    """

    towers: Tying = "tied"
    lora_rank: int = 32
    max_tokens: int = 64
    mini_batch_tokens: int = 4096
    compile: bool = False
    strength: float = 1.0


@dataclass(frozen=True)
class MiniBatch:
    """Some of a batch's texts as tokens; `positions` are their places in the batch."""

    positions: npt.NDArray[np.int64]
    input_ids: torch.Tensor
    attention_mask: torch.Tensor


class Tower(torch.nn.Module):
    """One tower. It is always in evaluation mode: without dropout it learns as well, and sooner."""

    def __init__(self, model: SentenceTransformer, side: Side, settings: TowerSettings) -> None:
        super().__init__()
        self.model, self.settings = model.requires_grad_(False), settings
        self.prompt = find_prompt(model, side)
        transformer: Any = model[0]
        if hasattr(transformer.model, "set_attn_implementation"):
            transformer.model.set_attn_implementation("eager")  # in bf16 on CPUs the quickest
        if settings.lora_rank:
            transformer.model = add_lora(transformer.model, settings.lora_rank)
        else:
            model.requires_grad_(True)
            transformer.model.get_input_embeddings().requires_grad_(False)
        if settings.compile:
            transformer.model.forward = compile_forward(transformer.model)

    @property
    def transformer(self) -> Any:
        return self.model[0].model

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def prepare(self, texts: Sequence[str]) -> list[MiniBatch]:
        """Return the texts as tokens in mini-batches, longest first, at most `mini_batch_tokens` each."""
        if not texts:
            return []
        tokenizer: Any = self.model.tokenizer
        encoded = tokenizer(
            [self.prompt + text for text in texts], truncation=True, max_length=self.settings.max_tokens
        )
        ids: list[list[int]] = encoded["input_ids"]
        order, step, batches = sorted(range(len(ids)), key=lambda at: -len(ids[at])), self._length_step, []
        while order:
            length = -(-len(ids[order[0]]) // step) * step
            count = max(self.settings.mini_batch_tokens // length, 1)
            chosen, order = order[:count], order[count:]
            rows = count if self.settings.compile else len(chosen)
            batches.append(self._pad([ids[at] for at in chosen], rows, length, np.array(chosen, np.int64)))
        return batches

    def forward(self, batch: MiniBatch) -> torch.Tensor:
        """Return the vectors of a mini-batch, float32 of shape (texts, dim), of any length."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=computes_in_bf16(self.device.type)):
            features = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
            vectors: torch.Tensor = self.model(features)["sentence_embedding"]
        return vectors[: len(batch.positions)].float()

    def embed(self, batches: Sequence[MiniBatch], on_progress: OnDone = lambda done: None) -> torch.Tensor:
        """Return the vectors of all mini-batches in the order of their positions, without gradients."""
        ends = np.cumsum([len(batch.positions) for batch in batches]).tolist()
        vectors = torch.empty((ends[-1] if ends else 0, self.model.get_embedding_dimension() or 0), device=self.device)
        for batch, done in zip(batches, ends, strict=True):
            with torch.no_grad():
                vectors[batch.positions] = self(batch)
            on_progress(done)
        return vectors

    @property
    def _length_step(self) -> int:
        return COMPILED_LENGTH_STEP if self.settings.compile else LENGTH_STEP

    def _pad(self, ids: Sequence[Sequence[int]], rows: int, length: int, positions: npt.NDArray[np.int64]) -> MiniBatch:
        """Return these tokens in a rectangle; rows beyond them read one token each."""
        padded = np.full((rows, length), self.model.tokenizer.pad_token_id or 0, np.int64)
        mask = np.zeros_like(padded)
        mask[len(ids) :, 0] = 1
        for row, tokens in enumerate(ids):
            padded[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
        return MiniBatch(positions, torch.from_numpy(padded).to(self.device), torch.from_numpy(mask).to(self.device))


class Towers(torch.nn.Module):
    """Both towers; tied ones are the same."""

    def __init__(self, query: Tower, product: Tower) -> None:
        super().__init__()
        self.query, self.product = query, product

    @property
    def is_untied(self) -> bool:
        return self.query is not self.product

    @property
    def dim(self) -> int:
        return self.product.model.get_embedding_dimension() or 0

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Return unit-length float32 vectors, shape (len(texts), dim)."""
        return self._encode(self.query, texts)

    def encode_products(self, texts: Sequence[str], on_progress: OnDone = lambda done: None) -> Vectors:
        """Return unit-length float32 vectors, shape (len(texts), dim); `on_progress` is told how many are done."""
        return self._encode(self.product, texts, on_progress)

    def learned(self) -> dict[str, torch.Tensor]:
        """Return the weights that learn, by name: those of tied towers once."""
        return {name: weight for name, weight in self.named_parameters() if weight.requires_grad}

    def save(self, base: str, folder: Path) -> Path:
        """Write what was learned to `folder`, in the parts a model version has, and return the product tower's.

        The parts are adapter, or model where all weights were trained; untied towers have query_adapter or
        query_model too. The product tower's comes last: where it is, all is there.
        """
        if self.is_untied:
            _save_part(self.query, base, "query", folder)
        return _save_part(self.product, base, "product", folder)

    def _encode(self, tower: Tower, texts: Sequence[str], on_progress: OnDone = lambda done: None) -> Vectors:
        return scale_to_unit(tower.embed(tower.prepare(texts), on_progress).cpu().numpy())


def load_towers(base: str, settings: TowerSettings) -> Towers:
    """Return towers that start as model `base` is.

    Raises EncoderError when it cannot be had, TrainingError where tied towers would drop its tower for queries.
    """
    if settings.towers == "tied" and sources.is_untied(sources.fetch(sources.resolve_model(base))):
        raise TrainingError(
            f"model {base!r} has a tower of its own for queries, which tied towers would drop; "
            "train with --towers untied, or name another --base"
        )
    with quiet():
        product = Tower(load_two_tower(base), "product", settings)
        if settings.towers == "tied":
            return Towers(product, product)
        return Towers(Tower(load_two_tower(base, side="query"), "query", settings), product)


def find_part(folder: Path, settings: TowerSettings) -> Path:
    """Return where the product tower of a finished training lies."""
    return folder / _name_part("product", bool(settings.lora_rank))


def find_prompt(model: SentenceTransformer, side: Side) -> str:
    """Return what the model wants before each text of a side, '' for nothing."""
    prompts = model.prompts or {}
    return next((prompt for name in PROMPTS[side] if (prompt := prompts.get(name))), "")


def add_lora(transformer: Any, rank: int) -> PeftModel:
    """Return the transformer with low-rank adapters (Hu et al. 2021), the only weights that learn."""
    has_targets = any(re.fullmatch(TARGETS, name) for name, _ in transformer.named_modules())
    targets = TARGETS if has_targets else ALL_LINEAR
    adapted: PeftModel = get_peft_model(transformer, LoraConfig(r=rank, lora_alpha=rank, target_modules=targets))
    return adapted


def compile_forward(transformer: Any) -> Callable[..., Any]:
    """Return the transformer's forward pass compiled; raises TrainingError where there is no C++ compiler."""
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except Exception as error:  # torch's own, of several kinds
        raise TrainingError("compile needs a C++ compiler: install g++, or train without compile") from error
    torch._dynamo.config.recompile_limit = 64  # one graph for each padded length, with gradients and without
    compiled: Callable[..., Any] = torch.compile(transformer.forward, dynamic=False)
    return compiled


def move_towards(model: torch.nn.Module, other: torch.nn.Module, share: float) -> None:
    """Move the model's weights this share of the way to those of another of its form, 0 for not at all."""
    if not share:
        return
    with torch.no_grad():
        for weight, aim in zip(model.parameters(), other.parameters(), strict=True):
            weight.lerp_(aim.to(weight.device), share)


def _name_part(side: Side, is_adapter: bool) -> str:
    adapter, model = TOWERS[side]
    return adapter if is_adapter else model


def _save_part(tower: Tower, base: str, side: Side, folder: Path) -> Path:
    """Fill a folder beside and then rename it: nobody sees half a model."""
    is_adapter = bool(tower.settings.lora_rank)
    target = folder / _name_part(side, is_adapter)
    unfinished = target.with_name(f".unfinished-{target.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    if is_adapter:
        save_adapter(tower.transformer, tower.model.tokenizer, unfinished, base=base, strength=tower.settings.strength)
    else:
        move_towards(tower.model, load_two_tower(base, side=side), 1 - tower.settings.strength)
        tower.model.save(str(unfinished), create_model_card=False)
    shutil.rmtree(target, ignore_errors=True)
    return unfinished.rename(target)
