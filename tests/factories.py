"""Rows for tests."""

from __future__ import annotations

from itertools import count
from typing import Any

from catalog.models import Category, Product

_numbers = count(1)


def make_product(title: str = "Red mug", *, category: str = "", **facts: Any) -> Product:
    """Return a saved product; `category` is names joined by ' > '."""
    product = Product(sku=facts.pop("sku", f"P{next(_numbers)}"), title=title, **facts)
    if category:
        product.category = Category.objects.for_path(category.split(" > "))
    product.save()
    return product
