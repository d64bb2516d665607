"""Which models serve: those the settings name, or those promoted in their place."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from django.conf import settings

from retrieval.engine.config import LEAST_RERANK_DEPTH, MAX_RERANK_DEPTH, NO_RERANKER, RERANK_BLEND, RERANK_DEPTH
from retrieval.engine.exported import (
    REGISTER,
    EncoderError,
    ModelCard,
    find_exported,
    is_complete,
    name_of_key,
    read_register,
)
from retrieval.engine.files import hold_lock, write_atomically
from retrieval.engine.processor import has_vnni
from retrieval.engine.types import EngineError
from retrieval.learning.sources import BUILT_IN

MODELS_DIR = Path(settings.DATA_DIR) / "models"
TWO_TOWER, CROSS_ENCODER = "two-tower", "cross-encoder"
VARIABLES: dict[str, Literal["MODEL", "RERANKER"]] = {TWO_TOWER: "MODEL", CROSS_ENCODER: "RERANKER"}
LIVE, LOCK, CARD = "live.json", "live.lock", "card.json"


@dataclass(frozen=True, slots=True)
class LiveModel:
    """A model by its name and the version of it that the engine runs."""

    name: str  # default, a folder, or a hub name; empty for no reranker
    version: str  # its exported folder's name; "none" for no reranker
    rerank_depth: int = 0  # of a cross-encoder: how many products it reads, and its share of their score
    rerank_blend: float = RERANK_BLEND


NOTHING = LiveModel("", NO_RERANKER)


@dataclass(frozen=True, slots=True)
class Promotion:
    """The models promoted over the one the settings named then, newest first: the first one is live."""

    instead_of: str
    models: tuple[LiveModel, ...]


def find_live(kind: str) -> LiveModel:
    """Return the model that serves: two-tower or cross-encoder.

    A promotion holds for as long as the settings name the model they named when it was made. Raises EncoderError
    with the cure when the settings' model has not been exported.
    """
    promotion = find_promotion(kind)
    return follow_settings(kind, promotion.models[0]) if promotion else find_named(kind)


def follow_settings(kind: str, model: LiveModel) -> LiveModel:
    """Return the model, the settings' own as it was last exported: it follows its folder, others stay as they were."""
    return find_named(kind) if model.name == named_by_settings(kind) else model


def find_promotion(kind: str) -> Promotion | None:
    """Return the promotion that holds, None when the settings decide."""
    promotion = read_promotions().get(kind)
    return promotion if promotion and promotion.instead_of == named_by_settings(kind) else None


def has_served(kind: str, names: Iterable[str]) -> bool:
    """Return whether a model of one of these names serves or did: the settings name it, or it was promoted."""
    promotion = read_promotions().get(kind)
    promoted = (promotion.instead_of, *(model.name for model in promotion.models)) if promotion else ()
    return not {named_by_settings(kind), *promoted}.isdisjoint(names)


def named_by_settings(kind: str) -> str:
    return settings.SEARCHSITE[VARIABLES[kind]]


def reader_precisions() -> tuple[str, ...]:
    """Return what the settings want cross-encoders in: float or int8, where both will do the better one first."""
    named: str = settings.SEARCHSITE["RERANKER_PRECISION"]
    if named != "auto":
        return (named,)
    return ("int8", "float") if has_vnni() else ("float", "int8")  # the other: exported on another kind of machine


def find_named(kind: str) -> LiveModel:
    """Return the model the settings name as it was last exported; raises EncoderError with the cure otherwise."""
    precisions = reader_precisions() if kind == CROSS_ENCODER else ()
    return find_model(kind, named_by_settings(kind), *precisions)


def find_model(kind: str, name: str, *precisions: str) -> LiveModel:
    """Return model `name` as it was last exported, in the first of these precisions (else float) that there is.

    Raises EncoderError with the cure when it was not exported.
    """
    if kind == CROSS_ENCODER and not name:
        return NOTHING
    return _find_model(kind, name, precisions, MODELS_DIR, _stamp(MODELS_DIR / REGISTER))


@lru_cache(maxsize=32)
def _find_model(kind: str, name: str, precisions: tuple[str, ...], models_dir: Path, stamp: object) -> LiveModel:
    return _describe(kind, name, find_exported(kind, name, models_dir, *precisions).name)


def find_version(kind: str, version: str) -> LiveModel:
    """Return the exported model of this version; raises EncoderError when there is none."""
    return _find_version(kind, version, MODELS_DIR, _stamp(MODELS_DIR / REGISTER))


@lru_cache(maxsize=32)
def _find_version(kind: str, version: str, models_dir: Path, stamp: object) -> LiveModel:
    if not is_complete(models_dir / version):
        raise EncoderError(f"there is no {kind} model of version {version!r} in {models_dir}; export it first")
    keys = [key for key, exported in read_register(models_dir).items() if exported == version]
    names = [name_of_key(key) for key in keys if key.startswith(f"{kind}:")]
    return _describe(kind, names[0] if names else "", version)


def _describe(kind: str, name: str, version: str) -> LiveModel:
    if kind != CROSS_ENCODER:
        return LiveModel(name, version)
    depth, blend = _read_reranking(name)
    return LiveModel(name, version, min(depth, _affordable_depth(version)), blend)


def _affordable_depth(version: str) -> int:
    """Return how many products this cross-encoder reads within SEARCHSITE_RERANK_BUDGET_MS, on this machine."""
    budget_ms, pair_ms = settings.SEARCHSITE["RERANK_BUDGET_MS"], ModelCard.read(MODELS_DIR / version).pair_ms
    if not budget_ms or not pair_ms:
        return MAX_RERANK_DEPTH
    return max(int(budget_ms / pair_ms), LEAST_RERANK_DEPTH)


def _read_reranking(name: str) -> tuple[int, float]:
    """Return the depth and blend on the card in the model's folder or the one above it, the usual ones without."""
    for folder in (BUILT_IN / name, Path(name), Path(name).parent):
        try:
            card = json.loads((folder / CARD).read_text(encoding="utf-8"))
            depth, blend = int(card["rerank_depth"]), float(card["rerank_blend"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if depth >= 0 and 0 <= blend <= 1:  # no search could be done with others
            return min(depth, MAX_RERANK_DEPTH), blend
    return RERANK_DEPTH, RERANK_BLEND


# --- the file -----------------------------------------------------------------------------------------


def read_promotions() -> dict[str, Promotion]:
    """Return what was promoted, by kind, whether or not it still holds. Costs one stat.

    Raises EngineError with the cure when the file is damaged.
    """
    return _parse(path := _live_path(), _stamp(path))


def _live_path() -> Path:
    return Path(settings.DATA_DIR) / "models" / LIVE


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_ino


@lru_cache(maxsize=4)
def _parse(path: Path, stamp: object) -> dict[str, Promotion]:
    if stamp is None:
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {kind: _to_promotion(entry) for kind, entry in content.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise EngineError(
            f"{path} is damaged ({error!r}): delete it, and the models that the settings name serve again"
        ) from error


def _to_promotion(entry: dict[str, Any]) -> Promotion:
    models = tuple(LiveModel(**model) for model in entry["models"])
    if not models:
        raise ValueError("no models")
    return Promotion(entry["instead_of"], models)


@contextmanager
def hold_promotions() -> Iterator[None]:
    """Let no other process change what serves until the block ends."""
    with hold_lock(_live_path().with_name(LOCK), is_waiting=True):
        yield


@contextmanager
def change_promotions() -> Iterator[dict[str, Promotion]]:
    """Give the promotions to change, one process at a time, and write them at the end of the block in one step."""
    with hold_promotions():
        promotions = dict(read_promotions())
        yield promotions
        write_promotions(promotions)


def write_promotions(promotions: Mapping[str, Promotion]) -> None:
    """Write what is promoted from now on, in one step. Call it while promotions are held."""
    content = {kind: asdict(each) for kind, each in promotions.items()}
    write_atomically(_live_path(), json.dumps(content, indent=2))
