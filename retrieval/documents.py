"""Products as the engine reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

from catalog.models import Category, Product, ProductQuerySet
from retrieval.engine.types import Document

EPOCH = date(1970, 1, 1).toordinal()
MOST_OF_A_CODE = 20  # products that share a GTIN


def iterate_documents(products: ProductQuerySet, batch_size: int = 2000) -> Iterator[list[Document]]:
    """Yield the documents of all `products` in batches, by ascending primary key."""
    categories = CategoryNames()
    last = 0
    while batch := list(products.filter(pk__gt=last).order_by("pk")[:batch_size]):
        yield [to_document(product, categories) for product in batch]
        last = batch[-1].pk


class CategoryNames:
    """Path and names of every category, from one query."""

    def __init__(self) -> None:
        self._rows = {row[0]: row[1:] for row in Category.objects.values_list("id", "path", "name", "parent_id")}

    def path(self, category_id: int | None) -> str:
        return "" if category_id is None else self._row(category_id)[0]

    def names(self, category_id: int | None) -> tuple[str, ...]:
        """Return the names from the root down to this category."""
        if category_id is None:
            return ()
        _, name, parent_id = self._row(category_id)
        return (*self.names(parent_id), name)

    def _row(self, category_id: int) -> tuple[str, str, int | None]:
        if category_id not in self._rows:  # made since this was read
            self._rows[category_id] = Category.objects.values_list("path", "name", "parent_id").get(pk=category_id)
        return self._rows[category_id]


def to_document(product: Product, categories: CategoryNames) -> Document:
    return Document(
        product_id=product.pk,
        sku=product.sku,
        title=product.title,
        description=product.description,
        brand=product.brand,
        category=categories.names(product.category_id),
        category_path=categories.path(product.category_id),
        attributes={str(name): str(value) for name, value in product.attributes.items()},
        gtin=product.gtin,
        price_cents=product.price_cents,
        rating=product.rating,
        rating_count=product.rating_count,
        is_in_stock=product.is_in_stock,
        popularity=product.popularity,
        released=product.released.toordinal() - EPOCH if product.released else 0,
        content_hash=product.content_hash,
    )


class DatabaseSource:
    """What the pipeline asks of the catalogue."""

    def find_code(self, code: str) -> list[int]:
        return list(Product.objects.active().with_code(code).values_list("pk", flat=True)[:MOST_OF_A_CODE])

    def fetch_documents(self, product_ids: Sequence[int]) -> dict[int, Document]:
        categories = CategoryNames()
        products = Product.objects.filter(pk__in=product_ids)
        return {product.pk: to_document(product, categories) for product in products}
