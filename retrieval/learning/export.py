"""From a PyTorch model to the folder the engine runs. Done once per model, never in the web process."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from retrieval.engine.exported import REGISTER, is_complete, name_of_key, read_register, register_key
from retrieval.learning import sources
from retrieval.learning.examples import JudgedPair

Pair = tuple[str, str]


def export_encoder(name: str, models_dir: Path) -> Path:
    """Return the folder of two-tower model `name` in the engine's form, made unless it is there.

    `name`: default, a sentence-transformers folder, or a name on the Hugging Face hub. A folder whose files
    changed is exported anew under a new version; a hub name is fetched once. Of several processes at once, one
    exports. Raises EncoderError when the model cannot be had, is unsafe to load or of no use here.
    """
    return _export("two-tower", name, models_dir)


def export_reranker(
    name: str, models_dir: Path, *, quantize_with: Sequence[Pair] = (), measure_with: Sequence[JudgedPair] = ()
) -> Path:
    """Return the folder of cross-encoder `name` (one label, or two) in the engine's form, made unless it is there.

    `quantize_with`: pairs of a query and a product's text, some hundred of the kind it will read; with them the
    model becomes int8, a version of its own beside the other. `measure_with`: pairs that tell how far apart it scores
    right and wrong, which is not known without. Otherwise as `export_encoder`.
    """
    return _export("cross-encoder", name, models_dir, quantize_with, measure_with)


def _export(
    kind: str,
    name: str,
    models_dir: Path,
    quantize_with: Sequence[Pair] = (),
    measure_with: Sequence[JudgedPair] = (),
) -> Path:
    source = sources.resolve_model(name)
    precision = "int8" if quantize_with else "float"
    with _lock(models_dir):
        key = register_key(kind, name, precision)
        pairs = "".join(repr(list(each)) for each in (quantize_with, measure_with) if each)
        snapshot = f"{key}@{sources.stamp(source)}{_digest(pairs)}"
        version = read_register(models_dir).get(snapshot)
        if version is None or not is_complete(models_dir / version):
            local, base = sources.fetch(source), sources.base_name(name)
            version = sources.name_version(local, kind, base if precision == "float" else f"{base}-int8", more=pairs)
            if not is_complete(models_dir / version):
                options = {"quantize_with": quantize_with, "measure_with": measure_with}
                _convert(kind, local, models_dir / version, base, options)
        _register(models_dir, {key: version, snapshot: version})
    return models_dir / version


def forget_exports(name: str, models_dir: Path) -> list[str]:
    """Remove what model `name` was exported to, of every kind and precision, and return the versions."""
    with _lock(models_dir):
        register = read_register(models_dir)
        own = {key for key in register if name_of_key(key) == name}
        shared = {version for key, version in register.items() if key not in own}
        versions = sorted({register[key] for key in own} - shared)
        for version in versions:
            shutil.rmtree(models_dir / version, ignore_errors=True)
        _write_register(models_dir, {key: version for key, version in register.items() if key not in own})
    return versions


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest() if text else ""


def _convert(kind: str, source: Path, folder: Path, base: str, options: Mapping[str, Any]) -> None:
    """Fill a folder beside and then rename it: nobody sees half a model."""
    from retrieval.learning import conversion  # brings torch

    unfinished = folder.with_name(f".unfinished-{folder.name}")
    for leftover in (*folder.parent.glob(".unfinished-*"), folder):  # of exports that were killed: we hold the lock
        shutil.rmtree(leftover, ignore_errors=True)
    unfinished.mkdir(parents=True)
    conversion.convert(kind, source, unfinished, base=base, version=folder.name, **options)
    unfinished.rename(folder)


@contextmanager
def _lock(models_dir: Path) -> Iterator[None]:
    models_dir.mkdir(parents=True, exist_ok=True)
    with (models_dir / "LOCK").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _register(models_dir: Path, entries: dict[str, str]) -> None:
    register = read_register(models_dir)
    if register | entries == register:
        return
    _write_register(models_dir, register | entries)


def _write_register(models_dir: Path, register: dict[str, str]) -> None:
    temporary = models_dir / f"{REGISTER}.tmp"
    temporary.write_text(json.dumps(register, indent=2), encoding="utf-8")
    temporary.replace(models_dir / REGISTER)
