"""How one search is done, as one frozen, validated value."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields, replace
from types import NoneType
from typing import Any

from retrieval.engine.types import EngineError

FUSIONS = ("adaptive", "weighted", "rrf", "dbsf", "lexical", "dense")
NO_RERANKER = "none"
RERANK_DEPTH, RERANK_BLEND = 30, 0.5  # of a reranker that says nothing of its own
MAX_RERANK_DEPTH = 200
LEAST_RERANK_DEPTH = 10  # however slow the machine: fewer are not worth a reranker


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """Everything that decides which products a query finds and in which order."""

    name: str = "hybrid"
    fusion: str = "adaptive"
    dense_weight: float = 0.67  # of meaning, where no token is a code; words have the rest
    depth: int = 1000  # candidates from each side: the result set is no larger than both together
    ef: int = 128  # HNSW search breadth; raised to `depth` by the engine where smaller
    semantic_cutoff: float = 0.45  # of the deviation that chance alone gives the best of so many products
    semantic_share: float = 0.4  # of the best product's deviation
    lexical_share: float = 0.5  # of the best product's BM25 score
    rerank_depth: int | None = 0  # how many of the best the cross-encoder reads again; None: what its card says
    rerank_blend: float | None = None  # share of the cross-encoder in the final score of those; None: the card's
    correct_spelling: bool = True
    model: str = ""  # a two-tower model's version, empty for the live one
    reranker: str = ""  # a cross-encoder's version, empty for the live one, "none" for none

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_type(self.name, field.name, str(field.type), getattr(self, field.name))
        if self.fusion not in FUSIONS:
            raise EngineError(f"unknown fusion {self.fusion!r}, expected one of: {', '.join(FUSIONS)}")
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise EngineError(f"{name}={value!r} of config {self.name!r}: expected {low} to {high}")
        for name in ("model", "reranker"):
            if not _VERSION.fullmatch(getattr(self, name)):
                raise EngineError(f"{name}={getattr(self, name)!r} of config {self.name!r}: expected a model's version")

    @property
    def uses_lexical(self) -> bool:
        return self.fusion != "dense"

    @property
    def uses_dense(self) -> bool:
        return self.fusion != "lexical"

    def settle(self, *, model: str, reranker: str, rerank_depth: int, rerank_blend: float) -> SearchConfig:
        """Return the config for these versions, with depth and blend as given where it leaves them open."""
        return replace(
            self,
            model=model,
            reranker=reranker,
            rerank_depth=rerank_depth if self.rerank_depth is None else self.rerank_depth,
            rerank_blend=rerank_blend if self.rerank_blend is None else self.rerank_blend,
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SearchConfig:
        """Return the config with these values; raises EngineError naming an unknown one."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise EngineError(f"unknown search setting {unknown[0]!r}, expected one of: {', '.join(sorted(known))}")
        return cls(**values)


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("dense_weight", 0, 1),
    ("depth", 10, 10_000),
    ("ef", 8, 10_000),
    ("semantic_cutoff", 0, 5),
    ("semantic_share", 0, 1),
    ("lexical_share", 0, 1),
    ("rerank_depth", 0, MAX_RERANK_DEPTH),
    ("rerank_blend", 0, 1),
)

_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "int | None": (int, NoneType),
    "float": (int, float),
    "float | None": (int, float, NoneType),
    "bool": (bool,),
}
_VERSION = re.compile(r"([\w-][\w.-]*)?")  # a folder's name, or none


def _check_type(config_name: str, name: str, expected: str, value: object) -> None:
    if not isinstance(value, _TYPES[expected]) or (isinstance(value, bool) and expected != "bool"):
        raise EngineError(f"{name}={value!r} of config {config_name!r}: expected {expected}")


_HYBRID = SearchConfig()
CONFIGS: dict[str, SearchConfig] = {
    config.name: config
    for config in (
        _HYBRID,
        replace(_HYBRID, name="lexical", fusion="lexical"),
        replace(_HYBRID, name="dense", fusion="dense"),
        replace(_HYBRID, name="hybrid-rrf", fusion="rrf"),
        replace(_HYBRID, name="hybrid-weighted", fusion="weighted"),
        replace(_HYBRID, name="hybrid-dbsf", fusion="dbsf"),
        replace(_HYBRID, name="hybrid-rerank", rerank_depth=None),
    )
}


def get_config(name: str) -> SearchConfig:
    """Return the built-in config of this name; raises EngineError naming the choices."""
    if name not in CONFIGS:
        raise EngineError(f"unknown config {name!r}, expected one of: {', '.join(CONFIGS)}")
    return CONFIGS[name]
