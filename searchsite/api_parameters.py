"""Parameters of the API's addresses: read strictly, and described in its schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import ValidationError


class NamedChoiceField(forms.ChoiceField):
    """A choice whose error names the choices."""

    def __init__(self, names: list[str]) -> None:
        message = f"'%(value)s' is unknown, expected one of: {', '.join(names)}."
        choices = [(name, name) for name in names]
        super().__init__(required=False, choices=choices, error_messages={"invalid_choice": message})


def clean_parameters(form: forms.Form) -> Mapping[str, Any]:
    """Return the values of the form's parameters; raises ValidationError naming the wrong ones."""
    if not form.is_valid():
        errors = form.errors.get_json_data()
        raise ValidationError({name.strip("_"): [one["message"] for one in found] for name, found in errors.items()})
    return form.cleaned_data


def describe_parameter(name: str, kind: Any, description: str, **facts: Any) -> OpenApiParameter:
    return OpenApiParameter(name, kind, OpenApiParameter.QUERY, description=description, **facts)
