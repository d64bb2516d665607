"""One model version as one file, to be taken to another shop: every file checked by its sum before it is used."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from retrieval.engine.exported import EncoderError
from retrieval.engine.types import EngineError
from retrieval.learning import sources, versions
from retrieval.learning.versions import CARD, PARTS, README, VersionCard, VersionError

MANIFEST = "manifest.json"
FORMAT = 1
SUFFIXES = (".safetensors", ".json", ".txt", ".md")
NETWORKS = ("openvino_model.xml", "openvino_model.bin")
MOST_BYTES, MOST_FILES = 4 << 30, 500
MOST_JSON_BYTES = 64 << 20
CHUNK_BYTES = 1 << 20


def export_version(folder: Path, target: Path | IO[bytes]) -> None:
    """Write the version in `folder` with the sums of its files; the same version always gives the same bytes.

    Raises VersionError when `folder` holds no version or the file cannot be written.
    """
    card = versions.read_card(folder)
    files = {path.relative_to(folder).as_posix(): path for path in versions.list_files(folder)}
    manifest = {
        "format": FORMAT,
        "name": card.name,
        "files": {name: {"sha256": _sum(path), "bytes": path.stat().st_size} for name, path in files.items()},
    }
    if not isinstance(target, Path):
        return _write(target, manifest, files)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            _write(file, manifest, files)
        temporary.replace(target)
    except OSError as error:
        raise VersionError(f"{target} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def import_version(source: Path | IO[bytes], models_dir: Path, *, most_bytes: int = MOST_BYTES) -> Path:
    """Return the folder of the version in an archive that `export_version` wrote.

    Raises VersionError, and leaves nothing behind, for an archive that is damaged, unsafe or holds more than
    `most_bytes`, for a name that is taken, and for an adapter whose base is not here.
    """
    with _open(source) as archive:
        manifest = _read_manifest(archive, most_bytes)
        folder = versions.find_folder(models_dir, manifest["name"])
        unfinished = folder.with_name(f".unfinished-{folder.name}-{os.getpid()}")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            for name, digest in manifest["files"].items():
                _unpack(archive, name, digest, unfinished / name)
            return versions.finish(unfinished, folder, _check_version(unfinished, manifest["name"]))
        except OSError as error:
            raise VersionError(f"the archive cannot be unpacked in {folder.parent} ({error}): make room") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


@contextmanager
def _open(source: Path | IO[bytes]) -> Iterator[ZipFile]:
    try:
        with ZipFile(source) as archive:
            yield archive
    except EngineError:
        raise
    except OSError as error:
        raise VersionError(f"the archive cannot be read: {error}") from error
    except Exception as error:  # of damaged files zipfile says so in many ways: zlib's, struct's, ValueError
        raise VersionError(f"this is no archive of a model version, or a damaged one ({error})") from error


def _write(file: IO[bytes], manifest: Mapping[str, Any], files: Mapping[str, Path]) -> None:
    with ZipFile(file, "w", ZIP_DEFLATED) as archive:
        archive.writestr(_entry(MANIFEST), json.dumps(manifest, indent=2))
        for name, path in files.items():
            with path.open("rb") as content, archive.open(_entry(name), "w", force_zip64=True) as entry:
                shutil.copyfileobj(content, entry, CHUNK_BYTES)


def _entry(name: str) -> ZipInfo:
    entry = ZipInfo(name)  # of 1980, so that the same content is the same file
    entry.compress_type, entry.external_attr = ZIP_DEFLATED, (stat.S_IFREG | 0o444) << 16
    return entry


def _read_manifest(archive: ZipFile, most_bytes: int) -> dict[str, Any]:
    """Return the manifest, after checking all that can be before a byte is unpacked."""
    entries = archive.infolist()
    if len(entries) > MOST_FILES or len({entry.filename for entry in entries}) < len(entries):
        raise VersionError(f"the archive lists {len(entries)} files, expected at most {MOST_FILES}, each once")
    for entry in entries:
        _check_entry(entry)
    by_name = {entry.filename: entry for entry in entries}
    if MANIFEST not in by_name or by_name[MANIFEST].file_size > MOST_JSON_BYTES:
        raise VersionError(f"the archive has no {MANIFEST}: it was not written by this program")
    manifest = _parse_manifest(archive.read(MANIFEST))
    if set(manifest["files"]) != set(by_name) - {MANIFEST}:
        other = sorted(set(manifest["files"]) ^ (set(by_name) - {MANIFEST}))
        raise VersionError(f"the archive and its {MANIFEST} do not list the same files: {other[0]!r:.200}")
    total = sum(entry.file_size for entry in entries)
    if total > most_bytes:
        raise VersionError(f"the archive holds {total:,} bytes, expected at most {most_bytes:,}")
    return manifest


def _parse_manifest(text: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(text)
        if manifest["format"] != FORMAT:
            raise VersionError(
                f"the archive has format {manifest['format']!r:.40}, this site reads format {FORMAT}: update it"
            )
        files = {str(name): str(facts["sha256"]) for name, facts in manifest["files"].items()}
        return {"name": str(manifest["name"]), "files": files}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise VersionError(f"the archive's {MANIFEST} cannot be read ({error!r:.200})") from error


def _check_entry(entry: ZipInfo) -> None:
    """Raise VersionError for what may lead out of the folder, run code or hide something."""
    name, path = entry.filename, PurePosixPath(entry.filename)
    kind = stat.S_IFMT(entry.external_attr >> 16)
    is_outside = path.is_absolute() or "\\" in name or ":" in name or name != path.as_posix() or ".." in path.parts
    if is_outside or not name.isascii() or not name.isprintable():
        raise VersionError(f"the archive names a file outside of its folder: {name!r:.200}")
    if kind not in (0, stat.S_IFREG) or entry.is_dir():
        raise VersionError(f"{name!r:.200} in the archive is no plain file")
    if entry.flag_bits & 0x1:
        raise VersionError(f"{name!r:.200} in the archive is encrypted")
    is_placed = path.parts[0] in PARTS if len(path.parts) > 1 else name in (CARD, README, MANIFEST)
    if not is_placed or (path.suffix not in SUFFIXES and path.name not in NETWORKS):
        raise VersionError(
            f"{name!r:.200} in the archive is nothing a model version has: expected {CARD}, {README}, and in "
            f"{', '.join(PARTS)} files ending in {', '.join(SUFFIXES)}, or an OpenVINO network; no pickles"
        )


def _unpack(archive: ZipFile, name: str, digest: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(name) as entry, target.open("wb") as file:
        shutil.copyfileobj(entry, file, CHUNK_BYTES)  # never more than the size checked before
    if _sum(target) != digest:
        raise VersionError(f"{name} in the archive is damaged: its sum is not that of the manifest; export it again")


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_version(folder: Path, name: str) -> VersionCard:
    """Return the card of an unpacked version; raises VersionError unless the version is whole and safe."""
    card = versions.read_card(folder)
    if card.name != name:
        raise VersionError(f"the archive is of {name!r}, its card of {card.name!r}")
    parts = versions.find_parts(folder)
    for path in folder.rglob("*.json"):
        _check_json(path)
    versions.check_parts(card, parts)
    for part in parts.values():
        sources.check_folder(part)
        if sources.is_adapter(part):
            _check_base(part)
    return card


def _check_base(adapter: Path) -> None:
    """Raise VersionError when what an adapter is for is a folder that is not on this machine."""
    try:
        sources.resolve_base(adapter)
    except EncoderError as error:
        raise VersionError(f"the archive is for a model that is not here, import that first: {error}") from error


def _check_json(path: Path) -> None:
    """Raise VersionError for settings that name code to be run."""
    try:
        settings = json.loads(path.read_bytes()) if path.stat().st_size <= MOST_JSON_BYTES else None
    except (ValueError, RecursionError) as error:
        raise VersionError(f"{path.name} in the archive is no JSON ({error!r:.200})") from error
    if isinstance(settings, dict) and settings.get("auto_map"):
        raise VersionError(f"{path.name} in the archive names code of its own (auto_map), which is never run here")
    if path.name == "modules.json":
        kinds = [str(module.get("type")) for module in settings] if isinstance(settings, list) else []
        if other := [kind for kind in kinds if not kind.startswith("sentence_transformers.")]:
            raise VersionError(f"modules.json in the archive names code of its own: {other[0]!r:.200}")
