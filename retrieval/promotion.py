"""Which model serves next: promote one, go back to the one before, retire one that served beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from django.conf import settings

from retrieval.engine.exported import is_complete
from retrieval.engine.index import Manifest
from retrieval.engine.types import EngineError
from retrieval.generations import get_store, recipe_version
from retrieval.live import (
    CROSS_ENCODER,
    MODELS_DIR,
    NOTHING,
    TWO_TOWER,
    VARIABLES,
    LiveModel,
    Promotion,
    change_promotions,
    find_live,
    find_model,
    find_named,
    find_promotion,
    follow_settings,
    hold_promotions,
    named_by_settings,
    read_promotions,
    write_promotions,
)
from retrieval.models import IndexBuild, PendingChange

REMEMBERED = 5  # models, the live one among them
# Whoever searches with versions of its own choice adds what says so: which versions, and who searches with each.
USERS: list[Callable[[], Mapping[str, str]]] = []


def promote(kind: str, name: str, *, precision: str = "float", check: Callable[[], None] = lambda: None) -> LiveModel:
    """Let model `name` serve: every process searches with it within seconds, and no search waits or fails.

    `kind`: two-tower or cross-encoder; there an empty name stands for no reranker. `name`: default, a folder, a
    ModelVersion, or a hub name. It holds until the settings name another model than now. `check` may refuse while
    nobody else changes what serves. Raises EngineError with the cure for a model that was not exported or has no whole,
    current index.
    """
    _check_kind(kind)
    with hold_promotions():
        model = find_model(kind, _to_model_name(name), precision)
        _check_ready(kind, model)
        check()
        promotion = find_promotion(kind)
        before = promotion.models if promotion else (_find_named(kind),)
        if before[0] == model:
            return model
        changed = Promotion(named_by_settings(kind), (model, *before)[:REMEMBERED])
        write_promotions(read_promotions() | {kind: changed})  # first: a kill must not take the way back along
        if kind == TWO_TOWER:  # under the lock: nobody promotes meanwhile what is withdrawn
            _withdraw(each.version for each in before[1:2] if each.version not in (model.version, before[0].version))
    if kind == TWO_TOWER:
        mark_served()
    return model


def roll_back(kind: str) -> LiveModel:
    """Let the model before the live one serve again and return it.

    Raises EngineError with the cure when nothing was promoted or the one before has no whole, current index.
    """
    _check_kind(kind)
    with change_promotions() as promotions:
        promotion = find_promotion(kind)
        if promotion is None or len(promotion.models) < 2:
            raise EngineError(
                f"no {kind} model served before {find_live(kind).name!r}: promote one, or name it in "
                f"SEARCHSITE_{VARIABLES[kind]}"
            )
        _check_ready(kind, follow_settings(kind, promotion.models[1]))
        promotions[kind] = Promotion(promotion.instead_of, promotion.models[1:])
    if kind == TWO_TOWER:
        mark_served()
    return find_live(kind)


def retire(version: str) -> None:
    """Let this two-tower version serve no more beside the live one; its index is removed with the next change.

    Raises EngineError with the cure for the live version, for one that an experiment searches with, and for one that
    does not serve.
    """
    with hold_promotions():
        if version == find_live(TWO_TOWER).version:
            raise EngineError(f"model version {version!r} is the live one: promote another or roll back first")
        if version not in (served := get_store().served()):
            raise EngineError(f"model version {version!r} serves no index, expected one of: {', '.join(served)}")
        if user := find_users().get(version):
            raise EngineError(f"model version {version!r} is searched with by {user}: stop that first")
        get_store().withdraw(version)
    mark_served()


def find_users() -> dict[str, str]:
    """Return the versions that others search with, and who does: 'the experiment ranking'."""
    return {version: user for find in USERS for version, user in find().items()}


def withdraw_replaced() -> None:
    """Let the models serve no more that were live, or could be gone back to, before the settings named another."""
    rows = IndexBuild.objects.filter(state=IndexBuild.State.LIVE)
    replaced = set(rows.values_list("model_version", flat=True)) - {find_live(TWO_TOWER).version}
    promotion = read_promotions().get(TWO_TOWER)
    if replaced and promotion:
        models = {model.version for model in promotion.models[:2]}
        replaced = replaced - models if find_promotion(TWO_TOWER) else replaced | models
    _withdraw(replaced - {find_live(TWO_TOWER).version})


def _withdraw(versions: Iterable[str]) -> None:
    """Let these serve no more, but for those that others search with: they stay beside the live one."""
    for version in set(versions) - find_users().keys():
        get_store().withdraw(version)


def mark_served() -> None:
    """Note in the rows of the builds which generations serve, as the live one or beside it."""
    store = get_store()
    folders = {version: store.current(version) for version in store.served()}
    names = {version: folder.name for version, folder in folders.items() if folder}
    live = names.pop(find_live(TWO_TOWER).version, "")
    IndexBuild.objects.mark_served(live, names.values())


def _check_kind(kind: str) -> None:
    if kind not in VARIABLES:
        raise EngineError(f"unknown kind of model {kind!r}, expected one of: {', '.join(VARIABLES)}")


def _to_model_name(name: str) -> str:
    """Return the folder of the ModelVersion of this name, or the name itself."""
    folder = Path(settings.DATA_DIR) / "models" / "versions" / name
    return str(folder) if name and "/" not in name and folder.is_dir() else name


def _find_named(kind: str) -> LiveModel:
    """Return the settings' model, also when it was never exported: it can be exported to go back to."""
    try:
        return find_named(kind)
    except EngineError:
        return LiveModel(named_by_settings(kind), "")


def _check_ready(kind: str, model: LiveModel) -> None:
    """Raise EngineError with the cure unless the model could serve this moment."""
    if model == NOTHING:
        return
    if not model.version or not is_complete(MODELS_DIR / model.version):
        raise EngineError(f"the {kind} model {model.name!r} has not been exported; {_cure(kind, model)}")
    if kind == TWO_TOWER:
        _check_index(model)


def _cure(kind: str, model: LiveModel) -> str:
    return "run: manage.py reindex" if kind == CROSS_ENCODER else f"run: manage.py reindex --model {model.name}"


def _check_index(model: LiveModel) -> None:
    """Raise EngineError unless a finished index of the model is as full as the live one, but for waiting changes."""
    cure = _cure(TWO_TOWER, model)
    folder = get_store().current(model.version)
    if folder is None:
        raise EngineError(f"no index serves model {model.name!r} ({model.version}); {cure}")
    manifest = Manifest.read(folder)
    manifest.check(model_version=model.version, recipe_version=recipe_version())
    live = _count_live()
    waiting = len(PendingChange.objects.all().product_ids())
    if live is not None and abs(manifest.count - live) > waiting:
        raise EngineError(
            f"the index of model {model.name!r} holds {manifest.count} products, the live one {live}, and {waiting} "
            f"changes wait; {cure}"
        )


def _count_live() -> int | None:
    """Return how many products the live index holds, None when there is none."""
    try:
        folder = get_store().current(find_live(TWO_TOWER).version)
        return Manifest.read(folder).count if folder else None
    except EngineError:
        return None
