"""A filled shop, built once and put back for each test that asks for it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from catalog.imports import upsert_rows
from catalog.models import Category, Product
from catalog.sample.shop import generate_products
from retrieval import indexing
from retrieval.models import PendingChange

MUGS = [
    {"sku": f"MUG/{n} %", "title": f"Ceramic mug number {n}", "brand": "Potta & Co", "price": n + 1,
     "category": "Kitchen > Mugs", "attributes": {"Colour": "Red" if n % 2 else "Blue"}}
    for n in range(30)
]  # fmt: skip


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> dict[str, Any]:
    """What the first test with a filled shop made: its rows, and its index in a folder."""
    return {"index": tmp_path_factory.mktemp("built") / "generations"}


@pytest.fixture
def filled(shop: Path, built: dict[str, Any]) -> Path:
    """Forty-eight sample products and thirty mugs, indexed."""
    if "rows" not in built:
        upsert_rows(generate_products(48, seed=1))
        upsert_rows(MUGS)
        indexing.rebuild()
        built["rows"] = [list(Category.objects.order_by("path")), list(Product.objects.all())]
        shutil.copytree(shop / "generations", built["index"])
    else:
        categories, products = built["rows"]
        Category.objects.bulk_create(categories)
        Product.objects.bulk_create(products)
        PendingChange.objects.all().delete()
        shutil.copytree(built["index"], shop / "generations", dirs_exist_ok=True)
    return shop
