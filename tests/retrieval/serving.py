"""Questions to a shop that serves, for tests of what does."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from catalog.models import Product
from catalog.signals import products_changed
from retrieval import setup
from retrieval.engine.config import SearchConfig
from retrieval.engine.index import Manifest
from retrieval.engine.types import Query
from retrieval.live import TWO_TOWER
from retrieval.models import IndexBuild, ModelVersion


def announce(*products: Product) -> None:
    products_changed.send(Product, product_ids=[product.pk for product in products])


def titles(text: str, config: SearchConfig | None = None) -> list[str]:
    hits = setup.get_pipeline(config).search(Query(text)).hits
    return [product.title for product in Product.objects.in_order([hit.product_id for hit in hits])]


def live_version() -> str:
    return setup.get_pipeline().config.model


def states() -> dict[str, str]:
    """Return the state of each model version's newest build."""
    rows = IndexBuild.objects.order_by("pk").values_list("model_version", "state")
    return dict(rows)


def manifest_of(version: str) -> Manifest:
    folder = setup.get_store().current(version)
    assert folder
    return Manifest.read(folder)


def fill_the_disk(*args: object) -> None:
    raise OSError(28, "No space left on device")


def keep_version(shop: Path, folder: str, **facts: Any) -> ModelVersion:
    """Return the row of a version whose folder holds this model."""
    name = Path(folder).name
    shutil.copytree(folder, shop / "models" / "versions" / name)
    return ModelVersion.objects.create(name=name, kind=TWO_TOWER, origin="trained", base="default", **facts)
