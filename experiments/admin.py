"""Admin pages of experiments: made, started, watched and stopped here."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.forms import BaseInlineFormSet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from unfold.admin import TabularInline
from unfold.decorators import display

from experiments import control, reports
from experiments.forcing import make_link_token
from experiments.forecasts import look_ahead
from experiments.models import Experiment, Variant
from experiments.report_pages import ReportPage
from retrieval.admin.base import ServingAdmin
from retrieval.engine.types import EngineError

STATUS_COLOURS = {"draft": "info", "running": "success", "stopped": "danger"}


class VariantFormSet(BaseInlineFormSet):  # type: ignore[type-arg]  # not generic at run time
    default_error_messages = {
        "too_few_forms": "One variant has nothing to be compared with: give %(num)d or more, one of them the champion."
    }


class VariantInline(TabularInline):
    model = Variant
    formset = VariantFormSet
    extra = 0
    min_num = 2
    fields = ("name", "is_champion", "weight", "changes")

    def get_formset(self, request: HttpRequest, experiment: Experiment | None = None, **options: Any) -> Any:
        return super().get_formset(request, experiment, validate_min=is_open(experiment), **options)

    def has_change_permission(self, request: HttpRequest, experiment: Experiment | None = None) -> bool:
        return is_open(experiment) and super().has_change_permission(request, experiment)

    def has_add_permission(self, request: HttpRequest, experiment: Experiment | None = None) -> bool:
        return is_open(experiment) and super().has_add_permission(request, experiment)

    def has_delete_permission(self, request: HttpRequest, experiment: Experiment | None = None) -> bool:
        return is_open(experiment) and super().has_delete_permission(request, experiment)


def is_open(experiment: Experiment | None) -> bool:
    """Return whether it may still be changed: what runs, or ran, has results that belong to it as it was."""
    return experiment is None or experiment.status == Experiment.Status.DRAFT


@admin.register(Experiment)
class ExperimentAdmin(ServingAdmin):
    list_display = ("name", "kind", "show_status", "show_sentence", "started_at")
    list_filter = ("status", "kind")
    list_select_related = ("report",)
    search_fields = ("name", "hypothesis")
    inlines = (VariantInline,)
    list_buttons = (("stop_all", "Stop all experiments"),)
    page_buttons = (
        ("start", "Start"),
        ("stop", "Stop"),
        ("refresh", "Count anew"),
        ("promote", "Make an A/B test of it"),
        ("serve", "Serve the winner's ranking to everybody"),
    )
    fieldsets = (
        (None, {"fields": ("name", "hypothesis", "kind", "metric", "show_status", "show_sentence", "show_links")}),
        ("Who takes part", {"fields": ("traffic_share", ("layer", "layer_from", "layer_to"), "devices", "languages",
                                       "segments")}),
        ("When it is decided", {"fields": ("worthwhile_lift", "show_outlook", "guardrail_margin")}),
    )  # fmt: skip
    readonly_fields = ("show_status", "show_sentence", "show_links", "show_outlook")

    def get_readonly_fields(self, request: HttpRequest, experiment: Experiment | None = None) -> tuple[str, ...]:
        if is_open(experiment):
            return self.readonly_fields
        # A larger share brings visitors in and moves none; all else would mix two experiments in one result.
        settled = (
            "guardrail_margin",
            "worthwhile_lift",
            "name",
            "kind",
            "metric",
            "layer",
            "layer_from",
            "layer_to",
            "devices",
            "languages",
            "segments",
        )
        share = () if self.has_serve_permission(request) else ("traffic_share",)
        return (*self.readonly_fields, *settled, *share)

    def save_model(self, request: HttpRequest, experiment: Experiment, form: Any, change: bool) -> None:
        """Save what was changed, no more: it may have been stopped meanwhile."""
        if change:
            experiment.save(update_fields=[name for name in form.changed_data if name in form.fields])
        else:
            super().save_model(request, experiment, form, change)

    def has_delete_permission(self, request: HttpRequest, experiment: Experiment | None = None) -> bool:
        is_running = experiment is not None and experiment.is_running
        return not is_running and super().has_delete_permission(request, experiment)

    @display(description="Status", label=STATUS_COLOURS)
    def show_status(self, experiment: Experiment) -> str:
        return experiment.status

    @display(description="Report")
    def show_sentence(self, experiment: Experiment) -> str:
        if not experiment.started_at:
            return "–"
        return format_html(
            '<a href="{}">{}</a>',
            reverse("reports:report", args=[experiment.name]),
            ReportPage.of(experiment).content["sentence"],
        )

    @display(description="How long it will take")
    def show_outlook(self, experiment: Experiment) -> str:
        """What is known before the start: visitors and days, and what can be found in some weeks."""
        if not experiment.pk:
            return "After saving: visitors and days, by what shoppers did lately."
        if experiment.started_at:
            return "It has been started: its report says how many days are left."
        # As it is stored: one that a form refuses is shown again with what cannot be read.
        outlook = look_ahead(Experiment.objects.get(pk=experiment.pk))
        lines = [
            f"In {weeks} week{'' if weeks == 1 else 's'}, with {visitors} visitors, it finds {lift}."
            for weeks, visitors, lift in outlook.weeks
        ]
        return format_html_join("", "<p>{}</p>", ((line,) for line in (outlook.sentence, *lines, *outlook.remarks)))

    @display(description="See it")
    def show_links(self, experiment: Experiment) -> str:
        """Links that show the holder a variant for a working day, and one that ends it."""
        if not experiment.pk:
            return "After saving: links with which staff see each variant."
        tokens = [(variant.name, variant.name) for variant in experiment.variants.all()] + [("", "as assigned")]
        links = (
            (reverse("reports:see", args=[make_link_token(experiment.name, name)]), label) for name, label in tokens
        )
        return format_html_join(" · ", '<a href="{}">{}</a>', links)

    # --- what is done ----------------------------------------------------------------------------------

    def start(self, request: HttpRequest, object_id: int) -> HttpResponse:
        experiment = get_object_or_404(Experiment, pk=object_id)
        try:
            control.start(experiment)
        except EngineError as error:
            messages.error(request, str(error))
        else:
            messages.success(request, f"{experiment.name} runs: shoppers see it within a second.")
        return self._back(experiment)

    def stop(self, request: HttpRequest, object_id: int) -> HttpResponse:
        experiment = get_object_or_404(Experiment, pk=object_id)
        control.stop(experiment, f"stopped by {request.user.get_username()}")
        messages.success(request, f"{experiment.name} has stopped: everybody sees the shop's own ranking.")
        return self._back(experiment)

    def refresh(self, request: HttpRequest, object_id: int) -> HttpResponse:
        experiment = get_object_or_404(Experiment, pk=object_id)
        if experiment.started_at is None:
            messages.error(request, f"{experiment.name} has not been started: there is nothing to count.")
        else:
            reports.refresh(experiment)
            messages.success(request, "The report is up to date.")
        return self._back(experiment)

    def promote(self, request: HttpRequest, object_id: int) -> HttpResponse:
        experiment = get_object_or_404(Experiment, pk=object_id)
        try:
            test = control.make_ab_test(experiment)
        except EngineError as error:
            messages.error(request, str(error))
            return self._back(experiment)
        messages.success(request, f"{test.name} is ready to be looked over and started.")
        return self._back(test)

    def serve(self, request: HttpRequest, object_id: int) -> HttpResponse:
        experiment = get_object_or_404(Experiment, pk=object_id)
        try:
            winner = control.serve_winner(experiment)
        except (EngineError, OSError) as error:
            messages.error(request, str(error))
        else:
            messages.success(request, f"Everybody sees {winner.name}'s ranking within seconds; the experiment is over.")
        return self._back(experiment)

    def stop_all(self, request: HttpRequest) -> HttpResponse:
        count = control.stop_all(f"all stopped by {request.user.get_username()}")
        messages.success(request, f"{count} experiment{'' if count == 1 else 's'} stopped.")
        return redirect("admin:experiments_experiment_changelist")

    @staticmethod
    def _back(experiment: Experiment) -> HttpResponseRedirect:
        return redirect("admin:experiments_experiment_change", experiment.pk)
