"""What templates need to show products."""

from __future__ import annotations

from urllib.parse import quote

from django import template
from django.urls import reverse

from catalog.models import Product
from catalog.money import format_price

FEW = 5  # pieces

register = template.Library()


@register.filter
def price(product: Product) -> str:
    """Return the product's price as people read it, '' where it is not known."""
    return "" if product.price_cents is None else format_price(product.price_cents, product.currency)


@register.filter
def product_url(product: Product) -> str:
    """Return the address of the product's page. A SKU may hold any character, slashes too."""
    return reverse("shop:product", args=["SKU"]).replace("SKU", quote(product.sku, safe=""))


@register.filter
def paragraphs(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


@register.filter
def stock_text(product: Product) -> str:
    """Return in words whether the product can be had, and how many where they are few."""
    if not product.is_in_stock:
        return "Out of stock"
    return f"Only {product.stock} left" if product.stock is not None and product.stock <= FEW else "In stock"
