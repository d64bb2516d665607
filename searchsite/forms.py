"""What a search may be asked for in its address, checked: the page and the API read the same parameters."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import QueryDict

from catalog.money import to_minor
from retrieval.engine.types import Filters, Query, Sort
from searchsite.environment import FALSE, TRUE

ATTRIBUTE_PREFIX = "attr."
MAX_CHOICES = 50  # values of one parameter, and attributes filtered at once
MAX_VALUE_LENGTH = 500
MAX_PAGE = 10_000
PAGE_SIZE = 24
MAX_PRICE = Decimal(10) ** 12


class MultiValueField(forms.Field):
    """A parameter given any number of times."""

    widget = forms.SelectMultiple

    def to_python(self, value: Any) -> tuple[str, ...]:
        values = tuple(dict.fromkeys(text.strip() for text in value or () if text.strip()))
        check_values(values)
        return values


def check_values(values: tuple[str, ...]) -> None:
    if len(values) > MAX_CHOICES:
        raise ValidationError(f"{len(values)} values were given, expected at most {MAX_CHOICES}.")
    for value in values:
        if len(value) > MAX_VALUE_LENGTH or "\x00" in value:
            raise ValidationError(f"A value is too long or no text; expected at most {MAX_VALUE_LENGTH} characters.")


class FlagField(forms.BooleanField):
    """On or off, or `initial` when not given; anything else is an error."""

    widget = forms.TextInput  # a checkbox takes '0' for on

    def to_python(self, value: Any) -> bool | None:  # type: ignore[override]
        text = str(value or "").strip().lower()
        if text and text not in TRUE | FALSE:
            raise ValidationError(f"'{text[:50]}' is no flag, expected 1 or 0.")
        return text in TRUE if text else self.initial


class PriceField(forms.DecimalField):
    """An amount in major units; what is left empty or blank is no amount."""

    def __init__(self) -> None:
        super().__init__(required=False, min_value=0, max_value=MAX_PRICE)

    def to_python(self, value: Any) -> Decimal | None:  # type: ignore[override]
        return super().to_python(value.strip() if isinstance(value, str) else value)


class SearchForm(forms.Form):
    """`q`, filters, `sort` and `page`; attributes are filtered by `attr.NAME=VALUE`."""

    q = forms.CharField(required=False)
    category = forms.CharField(required=False, max_length=700)
    brand = MultiValueField(required=False)
    price_min = PriceField()
    price_max = PriceField()
    rating = forms.FloatField(required=False, min_value=0, max_value=5)
    in_stock = FlagField(required=False, initial=False)
    sort = forms.ChoiceField(
        required=False,
        choices=[(sort.value, sort.value) for sort in Sort],
        error_messages={"invalid_choice": f"This is no order; expected one of: {', '.join(Sort)}."},
    )
    page = forms.IntegerField(required=False, min_value=1, max_value=MAX_PAGE)
    page_size = forms.IntegerField(required=False, min_value=1, max_value=100)
    verbatim = FlagField(required=False, initial=False)

    data: QueryDict

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        low, high = values.get("price_min"), values.get("price_max")
        if low is not None and high is not None and low > high:
            self.add_error("price_max", f"The highest price, {high}, is below the lowest, {low}.")
        values["attributes"] = tuple(self._clean_attributes())
        return values

    def _clean_attributes(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        names = [name for name in self.data if name.startswith(ATTRIBUTE_PREFIX)]
        if len(names) > MAX_CHOICES:
            raise ValidationError(f"{len(names)} attributes are filtered, expected at most {MAX_CHOICES}.")
        for name in names:
            check_values((name, *self.data.getlist(name)))
            if values := tuple(dict.fromkeys(filter(None, self.data.getlist(name)))):
                yield name.removeprefix(ATTRIBUTE_PREFIX), values

    def problems(self) -> list[tuple[str, str, str]]:
        """Return each wrong parameter with its value and what was expected."""
        return [
            ("" if name == "__all__" else name, self.data.get(name, ""), " ".join(map(str, errors)))
            for name, errors in self.errors.items()
        ]

    def to_query(self) -> Query:
        """Return the query of a valid form."""
        values = self.cleaned_data
        return Query(
            text=values["q"],
            filters=Filters(
                category=values["category"].strip("/"),
                brands=values["brand"],
                price_min_cents=_to_cents(values["price_min"]),
                price_max_cents=_to_cents(values["price_max"]),
                rating_min=values["rating"],
                in_stock=values["in_stock"],
                attributes=values["attributes"],
            ),
            sort=Sort(values["sort"] or Sort.RELEVANCE),
            page=values["page"] or 1,
            page_size=values["page_size"] or PAGE_SIZE,
            is_verbatim=values["verbatim"],
        )


def _to_cents(amount: Decimal | None) -> int | None:
    return None if amount is None else to_minor(amount, settings.SEARCHSITE["CURRENCY"])
