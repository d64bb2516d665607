"""Admin pages of trainings: start one, watch it, stop it, go on with it, compare several."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin
from unfold.decorators import action, display

from retrieval import plots, training_files, training_runs
from retrieval.admin.training_facts import (
    describe,
    describe_gain,
    differ,
    draw_curves,
    name_sources,
    name_state,
    percent,
)
from retrieval.admin.training_form import TrainingForm
from retrieval.engine.types import EngineError
from retrieval.models import TrainingRun

STATE_COLOURS = {
    "queued": "info", "running": "info", "finished": "success", "failed": "danger", "cancelled": "warning",
    "interrupted": "warning",
}  # fmt: skip
GATE_COLOURS = {"passed": "success", "failed": "danger"}
LIST = "admin:retrieval_trainingrun_changelist"
MOST_COMPARED = len(plots.COLOURS)


@admin.register(TrainingRun)
class TrainingRunAdmin(ModelAdmin):
    list_display = (
        "name", "show_state", "show_progress", "show_sources", "show_gain", "show_verdict", "created_at",
    )  # fmt: skip
    list_filter = ("kind", "state")
    list_select_related = ("result",)
    actions = ("compare",)
    change_list_template = "admin/retrieval/trainingrun/list.html"

    def has_change_permission(self, request: HttpRequest, run: TrainingRun | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, run: TrainingRun | None = None) -> bool:
        is_at_work = run is not None and run.state == TrainingRun.State.RUNNING and not run.is_interrupted
        return not is_at_work and super().has_delete_permission(request, run)

    def get_deleted_objects(self, runs: Any, request: HttpRequest) -> tuple[list[str], dict[str, int], set[str], Any]:
        """Say what is deleted; trainings at work are protected, the models they made stay."""
        protected = [
            f"{run} is at work; cancel it first" for run in runs if not self.has_delete_permission(request, run)
        ]
        return [str(run) for run in runs], {"trainings": len(runs)}, set(), protected

    def delete_model(self, request: HttpRequest, run: TrainingRun) -> None:
        training_files.forget(run.pk)
        super().delete_model(request, run)

    def delete_queryset(self, request: HttpRequest, runs: Iterable[TrainingRun]) -> None:
        for run in runs:
            self.delete_model(request, run)

    # --- the list --------------------------------------------------------------------------------------

    @display(description="Training", ordering="pk")
    def name(self, run: TrainingRun) -> str:
        return f"{run.kind} {run.pk}"

    @display(description="State", label=STATE_COLOURS)
    def show_state(self, run: TrainingRun) -> str:
        return name_state(run)

    @display(description="Progress")
    def show_progress(self, run: TrainingRun) -> str:
        bar = '<progress max="100" value="{0}" aria-label="progress of training {1}"></progress> {0} %'
        return format_html(bar, percent(run), run.pk)

    @display(description="Sources")
    def show_sources(self, run: TrainingRun) -> str:
        return name_sources(run)

    @display(description="nDCG@10")
    def show_gain(self, run: TrainingRun) -> str:
        return describe_gain(run)

    @display(description="Gate", label=GATE_COLOURS)
    def show_verdict(self, run: TrainingRun) -> str:
        if not run.result or not run.result.verdict:
            return ""
        return "passed" if run.result.verdict.get("is_passed") else "failed"

    @action(description="Compare")
    def compare(self, request: HttpRequest, runs: QuerySet[TrainingRun]) -> HttpResponseRedirect | None:
        ids = [str(pk) for pk in runs.order_by("pk").values_list("pk", flat=True)]
        if not 2 <= len(ids) <= MOST_COMPARED:
            messages.warning(request, f"{len(ids)} trainings chosen, expected 2 to {MOST_COMPARED} to compare.")
            return None
        return redirect(f"{reverse('admin:retrieval_trainingrun_compare')}?ids={','.join(ids)}")

    # --- pages -----------------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        own = [
            path("compare/", view(self.compare_view), name="retrieval_trainingrun_compare"),
            path("<int:run_id>/progress.json", view(self.progress_view), name="retrieval_trainingrun_progress"),
            path("<int:run_id>/cancel/", require_POST(view(self.cancel_view)), name="retrieval_trainingrun_cancel"),
            path("<int:run_id>/resume/", require_POST(view(self.resume_view)), name="retrieval_trainingrun_resume"),
        ]
        return [*own, *super().get_urls()]

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Ask for a training: as it opens, one click starts a sensible one."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form = TrainingForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                run = training_runs.start_training(form.kind_chosen, form.sources, form.settings)
            except EngineError as error:
                form.add_error(None, str(error))
            else:
                return redirect("admin:retrieval_trainingrun_change", run.pk)
        return self._render(request, "add.html", "Train a model", form=form)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show one training; the page follows it."""
        run = self._get(request, int(object_id) if object_id.isdecimal() else 0)
        is_open = run.state in training_runs.OPEN and not run.is_interrupted
        return self._render(
            request, "page.html", f"{run.kind} training {run.pk}", run=run, is_open=is_open,
            can_go_on=training_runs.can_go_on(run), may_act=self.has_add_permission(request),
            curves=draw_curves([run]), **describe(run),
        )  # fmt: skip

    def progress_view(self, request: HttpRequest, run_id: int) -> JsonResponse:
        """Answer how far a training is, with its curves drawn."""
        run = self._get(request, run_id)
        return JsonResponse(describe(run) | {"curves": "".join(draw_curves([run]))})

    def cancel_view(self, request: HttpRequest, run_id: int) -> HttpResponse:
        run = self._get(request, run_id, to_act=True)
        training_runs.cancel(run)
        messages.info(request, "The training stops within seconds; what it has learned is kept.")
        return redirect("admin:retrieval_trainingrun_change", run.pk)

    def resume_view(self, request: HttpRequest, run_id: int) -> HttpResponse:
        run = self._get(request, run_id, to_act=True)
        try:
            training_runs.queue_training(training_runs.reopen(run))
        except EngineError as error:
            messages.error(request, str(error))
        return redirect("admin:retrieval_trainingrun_change", run.pk)

    def compare_view(self, request: HttpRequest) -> HttpResponse:
        """Show several trainings' curves over each other, and the settings in which they differ."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        ids = [int(part) for part in request.GET.get("ids", "").split(",") if part.isdecimal()][:MOST_COMPARED]
        runs = list(TrainingRun.objects.filter(pk__in=ids).select_related("result").order_by("pk"))
        return self._render(
            request, "compare.html", "Compare trainings", runs=runs, curves=draw_curves(runs), rows=differ(runs)
        )

    def _get(self, request: HttpRequest, run_id: int, *, to_act: bool = False) -> TrainingRun:
        if not (self.has_add_permission(request) if to_act else self.has_view_permission(request)):
            raise PermissionDenied
        return get_object_or_404(TrainingRun.objects.select_related("result"), pk=run_id)

    def _render(self, request: HttpRequest, template: str, title: str, **context: Any) -> TemplateResponse:
        shared = self.admin_site.each_context(request) | {"title": title, "opts": self.opts}
        return TemplateResponse(request, f"admin/retrieval/trainingrun/{template}", shared | context)
