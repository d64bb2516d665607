"""From a PyTorch model to the folder the engine runs. Done once per model, never in the web process."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retrieval.engine.exported import REGISTER, is_complete, read_register
from retrieval.learning import sources


def export_encoder(name: str, models_dir: Path) -> Path:
    """Return the folder of two-tower model `name` in the engine's form, made unless it is there.

    `name`: default, a sentence-transformers folder, or a name on the Hugging Face hub. A folder whose files
    changed is exported anew under a new version; a hub name is fetched once. Of several processes at once, one
    exports. Raises EncoderError when the model cannot be had, is unsafe to load or of no use here.
    """
    return _export("two-tower", name, models_dir)


def export_reranker(name: str, models_dir: Path) -> Path:
    """Return the folder of cross-encoder `name` (one label, or two) in the engine's form, made unless it is there.

    Otherwise as `export_encoder`.
    """
    return _export("cross-encoder", name, models_dir)


def _export(kind: str, name: str, models_dir: Path) -> Path:
    source = sources.resolve_model(name)
    with _lock(models_dir):
        snapshot = f"{kind}:{name}@{sources.stamp(source)}"
        version = read_register(models_dir).get(snapshot)
        if version is None or not is_complete(models_dir / version):
            local = sources.fetch(source)
            version = sources.name_version(local, kind, sources.base_name(name))
            if not is_complete(models_dir / version):
                _convert(kind, local, models_dir / version, sources.base_name(name))
        _register(models_dir, {f"{kind}:{name}": version, snapshot: version})
    return models_dir / version


def _convert(kind: str, source: Path, folder: Path, base: str) -> None:
    """Fill a folder beside and then rename it: nobody sees half a model."""
    from retrieval.learning import conversion  # brings torch

    unfinished = folder.with_name(f".unfinished-{folder.name}")
    for leftover in (*folder.parent.glob(".unfinished-*"), folder):  # of exports that were killed: we hold the lock
        shutil.rmtree(leftover, ignore_errors=True)
    unfinished.mkdir(parents=True)
    conversion.convert(kind, source, unfinished, base=base, version=folder.name)
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
    temporary = models_dir / f"{REGISTER}.tmp"
    temporary.write_text(json.dumps(register | entries, indent=2), encoding="utf-8")
    temporary.replace(models_dir / REGISTER)
