"""What a training may be told: every setting of each kind with its range, checked before anything is queued."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retrieval.engine.types import EngineError
from retrieval.learning.versions import DEFAULT, NAME
from retrieval.models.learning import ModelKind


class TrainingRefused(EngineError):  # noqa: N818 - read as such where it is caught
    """A training that was asked for wrongly; the message names the value and the choices."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: a number from `low` to `high`, a text among `choices`, or any text where there are none."""

    type: type
    help: str
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()

    def clean(self, name: str, value: Any) -> Any:
        """Return the value as this type; raises TrainingRefused for one that is none or out of range."""
        if self.type is list:
            return _to_layers(name, value)
        if self.type is bool or self.type is str:
            cleaned = value
            is_right = isinstance(value, self.type)
        else:
            is_right = isinstance(value, (int, self.type)) and not isinstance(value, bool)
            cleaned = self.type(value) if is_right else value
        if not is_right:
            raise TrainingRefused(f"{name}={value!r}, expected {NAMES[self.type]}")
        if self.choices and cleaned not in self.choices:
            raise TrainingRefused(f"unknown {name} {value!r}, expected one of: {', '.join(self.choices)}")
        if self.type in (int, float) and not (self.low <= cleaned <= self.high):
            raise TrainingRefused(f"{name}={value!r}, expected {self.low:g} to {self.high:g}")
        return cleaned


NAMES = {bool: "true or false", str: "a text", int: "a whole number", float: "a number"}

COMMON = {
    "name": Setting(str, "what the new version is called (default: its kind and the training's number)"),
    "base": Setting(str, "model to start from: a version, default, a folder or a hub name (default: the live one)"),
    "learning_rate": Setting(float, "how far each step goes", 1e-7, 1.0),
    "lora_rank": Setting(int, "size of the adapters", 1, 512),
    "max_tokens": Setting(int, "where texts are cut", 4, 512),
    "seed": Setting(int, "another seed draws other queries and rows", 0, 2**31 - 1),
    "compile": Setting(bool, "compile the model first; pays in long trainings, needs a C++ compiler"),
    "catalogue_queries": Setting(int, "queries made from the catalogue", 50, 100_000),
    "pseudo_queries": Setting(int, "queries of the sample shop asked of the catalogue", 50, 100_000),
    "sample_products": Setting(int, "products of the sample shop", 100, 100_000),
    "sample_queries": Setting(int, "queries of the sample shop", 50, 100_000),
}
SETTINGS: dict[str, dict[str, Setting]] = {
    ModelKind.TWO_TOWER.value: COMMON
    | {
        "towers": Setting(str, "one model for queries and products, or one for each", choices=("tied", "untied")),
        "full": Setting(bool, "train all weights, not adapters of a few MB"),
        "rounds": Setting(int, "how often hard negatives are mined anew", 1, 100),
        "steps": Setting(int, "batches in each round", 1, 100_000),
        "batch_size": Setting(int, "pairs in a batch: the others' products are its negatives", 2, 16_384),
        "temperature": Setting(float, "how sharply products are told apart", 1e-3, 1.0),
        "strength": Setting(float, "share of what was learned that is kept (1; of made queries alone 0.5)", 0.05, 1.0),
        "distillation": Setting(float, "how much the teaching reranker's judgement counts, 0 for none", 0.0, 10.0),
    },
    ModelKind.CROSS_ENCODER.value: COMMON
    | {
        "steps": Setting(int, "batches of lists", 1, 100_000),
        "lists": Setting(int, "queries in a batch", 1, 1024),
        "list_size": Setting(int, "products read for each", 4, 256),
        "loss": Setting(
            str, "how the order is learned", choices=("pointwise", "listwise", "both", "distilled")
        ),
        "layers": Setting(list, "layers of the base that are kept, from 0"),
        "teacher": Setting(str, "cross-encoder whose scores are learned: a version, a folder or a hub name"),
        "average": Setting(str, "versions of other seeds and the same base to average with, such as first,second"),
        "rerank_depth": Setting(int, "products it is to read for each search", 2, 200),
        "rerank_blend": Setting(float, "its share in their score", 0.0, 1.0),
    },
}  # fmt: skip


def check_settings(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings as they are meant, those left open (None) away; raises TrainingRefused naming the choices."""
    if kind not in SETTINGS:
        raise TrainingRefused(f"unknown kind of model {kind!r}, expected one of: {', '.join(SETTINGS)}")
    known = SETTINGS[kind]
    if unknown := sorted(settings.keys() - known.keys()):
        raise TrainingRefused(f"unknown setting {unknown[0]!r}, expected one of: {', '.join(sorted(known))}")
    cleaned = {name: known[name].clean(name, value) for name, value in settings.items() if value not in (None, "")}
    if "name" in cleaned and (not NAME.fullmatch(cleaned["name"]) or cleaned["name"] == DEFAULT):
        raise TrainingRefused(
            f"name={cleaned['name']!r}, expected small letters, digits, '.', '_' and '-', at most 100, not {DEFAULT!r}"
        )
    if cleaned.get("full") and "lora_rank" in cleaned:
        raise TrainingRefused("full trains all weights and lora_rank sizes adapters: choose one of them")
    if cleaned.get("teacher"):
        cleaned.setdefault("loss", "distilled")
    if (cleaned.get("loss") == "distilled") != bool(cleaned.get("teacher")):
        raise TrainingRefused("loss 'distilled' learns from a teacher, and only it does: name both, or neither")
    return cleaned


def split_names(text: str) -> list[str]:
    """Return the names that commas part."""
    return [name.strip() for name in text.split(",")] if text else []


def _to_layers(name: str, value: Any) -> list[int]:
    """Return layers given as numbers, or as a text such as 0,2,4."""
    parts: Sequence[Any] = value.split(",") if isinstance(value, str) else value
    try:
        layers = [int(part) for part in parts]
    except (TypeError, ValueError) as error:
        raise TrainingRefused(f"{name}={value!r}, expected numbers such as 0,2,4") from error
    if sorted(set(layers)) != layers or min(layers, default=0) < 0:
        raise TrainingRefused(f"{name}={value!r}, expected different numbers from 0 in their order, such as 0,2,4")
    return layers
