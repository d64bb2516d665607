"""The model versions of this site: their folders, and a row for each."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils.dateparse import parse_datetime

from retrieval.engine.types import EngineError
from retrieval.learning import archive, sources, versions
from retrieval.learning.export import forget_exports
from retrieval.learning.versions import VersionCard, VersionError, read_card
from retrieval.models import Embedding, ModelVersion

BESIDE = "retire it first: manage.py models retire"
LIVE = "promote another or roll back first: manage.py models rollback"


def models_dir() -> Path:
    return Path(settings.DATA_DIR) / "models"


def folder_of(name: str) -> Path:
    """Return where the version of this name lies."""
    return models_dir() / versions.VERSIONS / name


def register(folder: Path, origin: str, parent: ModelVersion | None = None) -> ModelVersion:
    """Return the new row of the version that `versions.write_version` put in `folder`.

    `parent`: what it was trained on from, the version its card names by default. Raises VersionError for a name that
    is taken, a folder that holds no version, or one that lies elsewhere than versions do.
    """
    card = read_card(folder)
    if folder.resolve() != folder_of(card.name).resolve():
        raise VersionError(f"{folder} is not where version {card.name} belongs: {folder_of(card.name)}")
    parent = parent or ModelVersion.objects.filter(name=card.parent).first()
    try:
        with transaction.atomic():
            return ModelVersion.objects.create(origin=origin, parent=parent, **_to_columns(folder, card))
    except IntegrityError as error:
        raise VersionError(f"there is a model version {card.name} already: choose another name") from error


def _to_columns(folder: Path, card: VersionCard) -> dict[str, Any]:
    same = ("name", "kind", "base", "dim", "recipe_version", "data_hash", "note")
    made = parse_datetime(card.created_at)
    return {
        **{name: getattr(card, name) for name in same},
        "settings": dict(card.settings),
        "metrics": dict(card.metrics),
        "size_bytes": versions.measure_size(folder),
        **({"created_at": made} if made and made.tzinfo else {}),
    }


def sync_built_in() -> list[ModelVersion]:
    """Return the versions that come with the project and were not here yet, now copied and registered."""
    cards = [(path.parent, read_card(path.parent)) for path in sorted(sources.BUILT_IN.glob(f"*/{versions.CARD}"))]
    known = set(ModelVersion.objects.values_list("name", flat=True))
    added = []
    for source, card in cards:
        if card.name not in known:
            folder = folder_of(card.name)
            if not folder.is_dir():  # it may be there, left by a database that was emptied
                versions.write_version(models_dir(), card, versions.find_parts(source))
            added.append(register(folder, ModelVersion.Origin.BUILT_IN))
    return added


def find_version(name: str) -> ModelVersion:
    """Return the version of this name; raises VersionError with the choices when there is none."""
    version = ModelVersion.objects.filter(name=name).select_related("parent").first()
    if version is None:
        names = list(ModelVersion.objects.values_list("name", flat=True)[:20])
        raise VersionError(f"there is no model version {name!r}, expected one of: {', '.join(names) or 'none yet'}")
    return version


def resolve(name: str) -> str:
    """Return the folder of the version of this name, or the name itself where it is that of another model."""
    is_version = bool(versions.NAME.fullmatch(name)) and ModelVersion.objects.filter(name=name).exists()
    return str(folder_of(name)) if is_version else name


def prepare(version: ModelVersion, *, quantize_with: Sequence[tuple[str, str]] = ()) -> Path:
    """Return the folder of the version in the engine's form, made unless it is there, and note what it is.

    `quantize_with`: as `export_reader` has it; the row goes on naming the float one. Brings torch.
    """
    from retrieval.learning.export import export_encoder
    from retrieval.live import MODELS_DIR
    from retrieval.readers import export_reader

    name = str(folder_of(version.name))
    if version.kind == "two-tower":
        folder = export_encoder(name, MODELS_DIR)
    else:
        folder = export_reader(name, MODELS_DIR, quantize_with=quantize_with)
    if not quantize_with and version.exported != folder.name:
        version.exported = folder.name
        version.save(update_fields=["exported"])
    return folder


def export_archive(version: ModelVersion, target: Path | IO[bytes]) -> None:
    """Write the version as one file; raises VersionError when it cannot be."""
    archive.export_version(folder_of(version.name), target)


def import_archive(source: Path | IO[bytes]) -> ModelVersion:
    """Return the version in an archive, now registered; raises VersionError and leaves nothing behind if it is none."""
    folder = archive.import_version(source, models_dir())
    try:
        return register(folder, ModelVersion.Origin.IMPORTED)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def is_live(version: ModelVersion) -> bool:
    """Return whether searches use this version now."""
    from retrieval.live import find_live, named_by_settings

    names = names_of(version)
    try:
        live = find_live(version.kind)
    except EngineError:  # the settings' model, not exported yet
        return named_by_settings(version.kind) in names
    return live.name in names or (version.exported != "" and live.version == version.exported)


def is_beside(version: ModelVersion) -> bool:
    """Return whether the version serves beside the live one."""
    from retrieval.generations import get_store

    return bool(version.exported) and version.exported in get_store().served() and not is_live(version)


def names_of(version: ModelVersion) -> tuple[str, ...]:
    """Return what the version is called where models are named: its folder, and one built in by its name too."""
    folder = str(folder_of(version.name))
    return (folder, version.name) if version.origin == ModelVersion.Origin.BUILT_IN else (folder,)


def remove(version: ModelVersion) -> None:
    """Delete the version, its folder, what it was exported to and the vectors made with it.

    Raises VersionError for one that is live, serves beside the live one, or whose weights another changes.
    """
    if reason := find_use(version):
        raise VersionError(f"model version {version.name} {reason}")
    for exported in forget_exports(str(folder_of(version.name)), models_dir()):
        Embedding.objects.filter(model_version=exported).delete()
    version.delete()
    shutil.rmtree(folder_of(version.name), ignore_errors=True)


def find_use(version: ModelVersion) -> str:
    """Return what keeps the version from being removed, with the cure; empty when nothing does."""
    from retrieval.promotion import find_users

    if is_live(version):
        return f"is live; {LIVE} {version.kind}"
    if version.exported and (user := find_users().get(version.exported)):
        return f"is searched with by {user}; stop that first"
    if is_beside(version):
        return f"serves beside the live one; {BESIDE} {version.name}"
    if others := [other.name for other in ModelVersion.objects.exclude(pk=version.pk) if _is_built_on(other, version)]:
        return f"is what {', '.join(others)} changes the weights of; remove that first"
    return ""


def _is_built_on(other: ModelVersion, version: ModelVersion) -> bool:
    try:
        links = [link for _, link in sources.list_links(folder_of(other.name))]
    except EngineError:  # damaged: it stands on nothing
        return False
    below = folder_of(version.name).resolve()
    return any(isinstance(link, Path) and link.resolve().is_relative_to(below) for link in links)
