"""Model versions as folders nobody changes: weights, a card of facts, and the same facts for people to read."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from retrieval.engine.files import sync_folder
from retrieval.engine.types import EngineError
from retrieval.learning import sources

VERSIONS, CARD, README = "versions", "card.json", "README.md"
FORMAT = 1
KINDS, TOWERS = ("two-tower", "cross-encoder"), ("tied", "untied")
PARTS = ("adapter", "model", "query_adapter", "query_model")
TYPES: dict[str, Any] = {  # of the card's values that are no texts
    "dim": int, "max_tokens": int, "format": int, "settings": dict, "metrics": dict, "layers": list,
    "rerank_depth": int | None, "rerank_blend": float | int | None,
}  # fmt: skip
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
DEFAULT = "default"


class VersionError(EngineError):
    """A model version that cannot be written, read, moved or removed; the message names the cure."""


@dataclass(frozen=True, slots=True)
class VersionCard:
    """What a model version was made from, of what, and how good it was found to be."""

    name: str
    kind: str  # two-tower or cross-encoder
    base: str  # the model whose weights it changes
    parent: str = ""  # the version it was trained on from
    towers: str = "tied"
    dim: int = 0  # numbers per vector, 1 for a cross-encoder
    recipe_version: str = ""
    data_hash: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""
    created_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    layers: tuple[int, ...] = ()  # of a cross-encoder: those of its base that are kept, () for all
    max_tokens: int = 0  # that it reads, 0 for what its base does
    rerank_depth: int | None = None  # products it reads again for a query, and its share of their score
    rerank_blend: float | None = None
    format: int = FORMAT

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.kind not in KINDS:
            raise VersionError(f"unknown kind of model {self.kind!r}, expected one of: {', '.join(KINDS)}")
        if self.towers not in TOWERS:
            raise VersionError(f"unknown towers {self.towers!r}, expected one of: {', '.join(TOWERS)}")
        if self.rerank_depth is not None and not 0 <= self.rerank_depth <= 1000:
            raise VersionError(f"rerank_depth={self.rerank_depth}, expected 0 to 1000")
        if self.rerank_blend is not None and not 0 <= self.rerank_blend <= 1:
            raise VersionError(f"rerank_blend={self.rerank_blend}, expected 0 to 1")


def check_name(name: str) -> None:
    """Raise VersionError unless a version may be called this: its name is that of a folder on any machine."""
    if name == DEFAULT:
        raise VersionError(f"a model version cannot be called {name!r}: that is the model that comes as a package")
    if not isinstance(name, str) or not NAME.fullmatch(name) or name.startswith("."):
        raise VersionError(
            f"a model version cannot be called {name!r:.120}: expected up to 100 lower-case letters, digits, '.', '_' "
            "and '-', a letter or digit first"
        )


def write_version(models_dir: Path, card: VersionCard, parts: Mapping[str, Path]) -> Path:
    """Return the new folder versions/NAME with the card and these parts, which nobody changes from then on.

    `parts`: folders by what they hold, adapter or model, and for untied towers query_adapter or query_model. They
    are copied, only the files that make up a model. Raises VersionError where the name is taken or a part is missing.
    """
    folder = find_folder(models_dir, card.name)
    check_parts(card, parts)
    for source in parts.values():
        sources.fetch(source)  # refuses what is missing or unsafe
    unfinished = folder.with_name(f".unfinished-{card.name}-{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        for name, source in parts.items():
            _copy_part(source, unfinished / name, folder.parent)
        return finish(unfinished, folder, card)
    except OSError as error:
        raise VersionError(
            f"model version {card.name} cannot be written to {folder.parent} ({error}): make room, then try again"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def finish(unfinished: Path, folder: Path, card: VersionCard) -> Path:
    """Give a filled folder its cards and its name, and let nobody write to its files any more.

    Raises VersionError if the name is taken.
    """
    (unfinished / CARD).write_text(json.dumps(asdict(card), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (unfinished / README).write_text(describe(card, list_files(unfinished)), encoding="utf-8")
    for path in list_files(unfinished):
        path.chmod(0o444)
    sync_folder(unfinished)
    if folder.exists():  # a version is never written over
        raise VersionError(f"there is a model version {card.name} already: choose another name")
    unfinished.rename(folder)
    return folder


def find_folder(models_dir: Path, name: str) -> Path:
    """Return where the version of this name is to lie; raises VersionError if it is taken or no name for one."""
    check_name(name)
    folder = models_dir / VERSIONS / name
    if folder.exists():
        raise VersionError(f"there is a model version {name} already: choose another name")
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder


def read_card(folder: Path) -> VersionCard:
    """Return the card of the version in `folder`; raises VersionError when it cannot be read."""
    path = folder / CARD
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts.get("format") != FORMAT:
            raise VersionError(f"{path} has format {facts.get('format')!r}, this site reads format {FORMAT}: update it")
        known = {one.name for one in fields(VersionCard)}
        return VersionCard(**{name: _check(name, value) for name, value in facts.items() if name in known})
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise VersionError(f"{path} is no card of a model version ({error})") from error


def find_parts(folder: Path) -> dict[str, Path]:
    """Return the parts a version has, by what they hold."""
    return {name: folder / name for name in PARTS if (folder / name).is_dir()}


def measure_size(folder: Path) -> int:
    """Return how many bytes the files of a version take."""
    return sum(path.stat().st_size for path in list_files(folder))


def list_files(folder: Path) -> list[Path]:
    """Return all files of a version in a fixed order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def describe(card: VersionCard, files: list[Path]) -> str:
    """Return the model card for people, as Markdown."""
    size = sum(path.stat().st_size for path in files)
    facts = {
        "Kind": card.kind if card.kind != "two-tower" else f"two-tower, {card.towers}",
        "Base": card.base,
        "Trained on from": card.parent,
        "Made": card.created_at,
        "Numbers per vector": card.dim if card.kind == "two-tower" else "",
        "Layers kept": ", ".join(map(str, card.layers)),
        "Tokens read": card.max_tokens or "",
        "Products reranked": "" if card.rerank_depth is None else card.rerank_depth,
        "Share in their score": "" if card.rerank_blend is None else card.rerank_blend,
        "Text recipe": card.recipe_version,
        "Training data": card.data_hash,
        "Size": f"{size / 1e6:.1f} MB",
    }
    parts = [f"# {card.name}", card.note, _to_table(facts)]
    for title, values in (("Figures", card.metrics), ("Settings", card.settings)):
        parts += [f"## {title}", _to_table(flatten(values))] if values else []
    return "\n\n".join(part for part in parts if part) + "\n"


def flatten(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return nested values as one level, their names joined by ': '."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{above}{name}: ")
        else:
            flat[f"{above}{name}"] = f"{value:.4g}" if isinstance(value, float) else value
    return flat


def _to_table(facts: Mapping[str, Any]) -> str:
    rows = [f"| {_escape(name)} | {_escape(value)} |" for name, value in facts.items() if value != ""]
    return "\n".join(["| | |", "|---|---|", *rows])


def _escape(value: Any) -> str:
    return re.sub(r"\s+", " ", str(value)).replace("|", "\\|")


def _check(name: str, value: Any) -> Any:
    """Return a card's value as it is meant; raises TypeError for one of another type."""
    if not isinstance(value, TYPES.get(name, str)):
        raise TypeError(f"{name} is {value!r:.80}")
    return tuple(int(layer) for layer in value) if name == "layers" else value


def check_parts(card: VersionCard, parts: Mapping[str, Path]) -> None:
    """Raise VersionError unless the parts are those that the card's towers have."""
    if unknown := sorted(set(parts) - set(PARTS)):
        raise VersionError(f"unknown part {unknown[0]!r}, expected one of: {', '.join(PARTS)}")
    needed = 2 if card.towers == "untied" else 1
    if len(parts) != needed or sum(name.startswith("query_") for name in parts) != needed - 1:
        raise VersionError(f"version {card.name} has {card.towers} towers, but its parts are: {', '.join(parts)}")


def _copy_part(source: Path, target: Path, versions: Path) -> None:
    """Copy the files of a model; a base among the versions is named relative to this one, so that both can move."""
    for path in sources.list_files(source):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    if sources.is_adapter(target) and (base := sources.resolve_base(source)) and isinstance(base, Path):
        _move_base(target, base, versions.resolve())


def _move_base(adapter: Path, base: Path, versions: Path) -> None:
    settings = sources.read_adapter(adapter)
    if base.is_relative_to(versions):
        settings["base_model_name_or_path"] = str(Path("../..") / base.relative_to(versions))
    elif str(settings["base_model_name_or_path"]).startswith("."):
        settings["base_model_name_or_path"] = str(base)
    (adapter / sources.ADAPTER).write_text(json.dumps(settings, indent=2), encoding="utf-8")
