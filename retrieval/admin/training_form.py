"""The form that asks for a training: the kind, what to learn from with which weight, and a few settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldBooleanWidget,
)

from catalog.models import Product
from retrieval.models import JudgementSet
from retrieval.models.learning import ModelKind
from retrieval.training_data import default_sources
from retrieval.training_settings import SETTINGS
from retrieval.training_sources import CATALOGUE, JUDGEMENTS, PSEUDO, SAMPLE

FEW_JUDGEMENT_SETS = 50
KINDS = {
    ModelKind.TWO_TOWER.value: "Two towers: search by meaning",
    ModelKind.CROSS_ENCODER.value: "Cross-encoder: reads the best hits again",
}
# What each source gives; judgement sets tell by their name.
TOLD = {
    CATALOGUE: "queries made from the products on sale",
    PSEUDO: "queries asked elsewhere, answered here by the reranker (for two towers)",
    SAMPLE: "a generated shop and its graded truth",
}


def list_sources() -> list[str]:
    """Return what can be learned from here."""
    filled = JudgementSet.objects.filter(judgements__isnull=False).distinct().values_list("name", flat=True)
    own = [CATALOGUE, PSEUDO] if Product.objects.active().exists() else []
    return [*own, SAMPLE, *(f"{JUDGEMENTS}:{name}" for name in filled[:FEW_JUDGEMENT_SETS])]


class TrainingForm(forms.Form):
    """Fields `use_N` and `weight_N` are of source N of `names`."""

    kind = forms.ChoiceField(
        choices=list(KINDS.items()), widget=UnfoldAdminSelectWidget, initial=ModelKind.TWO_TOWER.value
    )
    towers = forms.ChoiceField(
        choices=[
            ("", "as the model it starts from"),
            ("tied", "tied: one model for both"),
            ("untied", "untied: one for each"),
        ],
        widget=UnfoldAdminSelectWidget, required=False,
        help_text="Of two towers: for queries and for products.",
    )  # fmt: skip
    weights = forms.ChoiceField(
        choices=[("lora", "LoRA: adapters of a few MB"), ("full", "full: all weights")],
        widget=UnfoldAdminSelectWidget, required=False, initial="lora", help_text="Of two towers: what learns.",
    )  # fmt: skip
    rounds = forms.IntegerField(
        required=False, widget=UnfoldAdminIntegerFieldWidget, min_value=1, max_value=100,
        help_text="Of two towers: how often hard negatives are looked for anew; 2 when left empty.",
    )  # fmt: skip
    steps = forms.IntegerField(
        required=False, widget=UnfoldAdminIntegerFieldWidget, min_value=1, max_value=100_000,
        help_text="Batches learned, of two towers in each round; what suits the kind when left empty.",
    )  # fmt: skip

    def __init__(self, data: Any = None) -> None:
        super().__init__(data)
        self.names = list_sources()
        chosen = dict(default_sources())
        for number, name in enumerate(self.names):
            is_chosen = name in chosen if self.names != [SAMPLE] else True
            self.fields[f"use_{number}"] = forms.BooleanField(
                required=False, initial=is_chosen, label=name, widget=UnfoldBooleanWidget, help_text=TOLD.get(name, "")
            )
            self.fields[f"weight_{number}"] = forms.FloatField(
                required=False, initial=chosen.get(name, 1.0), min_value=0.001, label=f"weight of {name}",
                widget=UnfoldAdminDecimalFieldWidget,
            )  # fmt: skip

    @property
    def source_fields(self) -> list[tuple[Any, Any]]:
        return [(self[f"use_{number}"], self[f"weight_{number}"]) for number in range(len(self.names))]

    @property
    def setting_fields(self) -> list[Any]:
        return [self[name] for name in ("kind", "towers", "weights", "rounds", "steps")]

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        if not self._find_chosen(values):
            raise forms.ValidationError("Choose at least one source to learn from.")
        return values

    @property
    def kind_chosen(self) -> str:
        return str(self.cleaned_data["kind"])

    @property
    def sources(self) -> list[tuple[str, float]]:
        return self._find_chosen(self.cleaned_data)

    def _find_chosen(self, values: Mapping[str, Any]) -> list[tuple[str, float]]:
        """Return the sources that are ticked and that the chosen kind can learn from, with their weights."""
        is_reader = values.get("kind") == ModelKind.CROSS_ENCODER.value
        return [
            (name, values.get(f"weight_{number}") or 1.0)
            for number, name in enumerate(self.names)
            if values.get(f"use_{number}") and not (is_reader and name == PSEUDO)
        ]

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings that the chosen kind has."""
        values = self.cleaned_data
        given = {"towers": values["towers"], "rounds": values["rounds"], "steps": values["steps"]}
        given["full"] = True if values["weights"] == "full" else None
        known = SETTINGS[self.kind_chosen]
        return {name: value for name, value in given.items() if name in known and value not in (None, "")}
