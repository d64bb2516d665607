"""Forms of the admin: what people type is held to the same rules as what files contain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from catalog.columns import ColumnMap
from catalog.models import PATH_SEPARATOR, Category, ImportRun, build_path
from catalog.prices import parse_currency
from catalog.readers import FORMATS, ImportRefused
from catalog.rows import MAX_CATEGORY_PATH, parse_attributes
from catalog.values import RowError, parse_image_url, parse_number, parse_popularity, parse_rating


def _parse_minor(column: str, value: Any) -> int | None:
    return None if value is None else int(parse_number(column, value, 0, 1e15))


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "attributes": parse_attributes,
    "currency": parse_currency,
    "image_url": parse_image_url,
    "popularity": parse_popularity,
    "price_cents": _parse_minor,
    "rating": parse_rating,
}


class ProductForm(forms.ModelForm):  # type: ignore[type-arg]
    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        for name in CHECKS.keys() & values.keys():
            try:
                values[name] = CHECKS[name](name, values[name])
            except RowError as error:
                self.add_error(name, error.reason)
        return values


class CategoryForm(forms.ModelForm):  # type: ignore[type-arg]
    """A new category gets the path that imports look for; a renamed one keeps it."""

    class Meta:
        model = Category
        fields = ("name", "parent")

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        if self.instance.pk is None and values.get("name"):
            parent = values.get("parent")
            self.instance.path = PATH_SEPARATOR.join([*([parent.path] if parent else []), build_path([values["name"]])])
            if len(self.instance.path) > MAX_CATEGORY_PATH:
                raise ValidationError("The names from the root down to this one are too long; expected shorter ones.")
            if Category.objects.filter(path=self.instance.path).exists():
                raise ValidationError(f"There is a category {self.instance.path} already.")
        return values


class ImportForm(forms.ModelForm):  # type: ignore[type-arg]
    """What an import is asked: the file, and how to read it."""

    upload = forms.FileField(
        label="File",
        widget=UnfoldAdminFileFieldWidget,
        help_text=f"Plain or gzip. Formats: {', '.join(FORMATS)}.",
    )
    format = forms.ChoiceField(
        choices=[("", "Find out"), *((name, name) for name in FORMATS)], widget=UnfoldAdminSelectWidget, required=False
    )
    mapping = forms.JSONField(
        required=False,
        initial=dict,
        widget=UnfoldAdminTextareaWidget({"rows": 3}),
        help_text='Columns that do not go by their usual names: {"Bezeichnung": "title"}.',
    )

    class Meta:
        model = ImportRun
        fields = ("upload", "format", "mapping", "is_dry_run", "is_full")
        labels = {"is_dry_run": "Dry run", "is_full": "Full feed"}
        help_texts = {"is_dry_run": "Counts and checks, writes no product."}

    def clean_mapping(self) -> dict[str, str]:
        mapping = self.cleaned_data["mapping"] or {}
        if not isinstance(mapping, dict) or not all(isinstance(target, str) for target in mapping.values()):
            raise ValidationError('Expected columns and fields, such as {"Bezeichnung": "title"}.')
        try:
            ColumnMap(mapping)
        except ImportRefused as error:
            raise ValidationError(str(error)) from error
        return mapping
