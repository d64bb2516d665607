"""What is sent to put products into the cart, change it and order it, checked."""

from __future__ import annotations

import secrets
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from catalog.models import Product
from experiments.references import MAX_LENGTH as MAX_REFERENCE_LENGTH
from searchsite.bill import find_problem
from searchsite.cart import MAX_QUANTITY, Line
from searchsite.orders import Purchase

MAX_SKU_LENGTH = 100


class QuantityField(forms.IntegerField):
    """Pieces of a product, from `least` to MAX_QUANTITY."""

    def __init__(self, least: int) -> None:
        super().__init__(min_value=least, max_value=MAX_QUANTITY)
        self.least = least

    def clean(self, value: Any) -> int:
        try:
            return int(super().clean(value))
        except ValidationError:
            given = f"“{str(value)[:20]}” is no quantity" if value else "No quantity was given"
            raise ValidationError(
                f"{given}: choose a whole number from {self.least} to {MAX_QUANTITY}.", code="invalid"
            ) from None


class LineForm(forms.Form):
    """A line of the cart, and how many pieces it is to have; 0 for none."""

    sku = forms.CharField(max_length=MAX_SKU_LENGTH, strip=False)
    quantity = QuantityField(least=0)


class AddForm(forms.Form):
    """A product to add. `ref`: the signed reference of the search that led to it, checked when it is used."""

    sku = forms.CharField(max_length=MAX_SKU_LENGTH, strip=False)
    quantity = QuantityField(least=1)
    ref = forms.Field(required=False)

    def clean_sku(self) -> Product:
        """Return the product, if it can be bought at all."""
        sku: str = self.cleaned_data["sku"]
        product = Product.objects.defer("description", "attributes").filter(sku=sku).first()
        if product is None:
            raise ValidationError(f"There is no product {sku} in this shop: search for it anew.")
        if problem := find_problem(product, 1):
            raise ValidationError(f"“{product.title}” cannot be added. {problem}")
        return product

    def clean_ref(self) -> str:
        """Return the reference, '' for one too long to be ours: the product is wanted all the same."""
        ref: str = self.cleaned_data["ref"] or ""
        return ref if len(ref) <= MAX_REFERENCE_LENGTH else ""


class CheckoutForm(forms.Form):
    """Who orders, and which bill they agreed to. `token` is the same however often one checkout is sent."""

    name = forms.CharField(max_length=200, error_messages={"required": "Tell us your name, so that the order has one."})
    email = forms.EmailField(
        required=False, error_messages={"invalid": "This is no e-mail address: expected one such as ada@example.org."}
    )
    token = forms.RegexField(r"^[\w-]{22}\Z")
    agreed = forms.CharField()

    def to_purchase(self, lines: tuple[Line, ...]) -> Purchase:
        """Return what a valid form asks for."""
        return Purchase(lines=lines, **self.cleaned_data)


def make_token() -> str:
    """Return 128 random bits in 22 letters: the address of an order to be."""
    return secrets.token_urlsafe(16)
