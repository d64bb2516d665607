"""Admin pages of the index: generations with their progress, past queries."""

from __future__ import annotations

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponseRedirect
from django.shortcuts import redirect
from django.utils.html import format_html
from unfold.decorators import display

from retrieval.admin.base import ReadOnlyAdmin, ServingAdmin
from retrieval.engine.types import EngineError
from retrieval.generations import get_store
from retrieval.live import TWO_TOWER, find_live
from retrieval.models import IndexBuild, PastQuery
from retrieval.promotion import mark_served
from retrieval.tasks import rebuild_index

STATE_COLOURS = {
    "preparing": "info",
    "building": "info",
    "live": "success",
    "shadow": "success",
    "retired": "warning",
    "failed": "danger",
}


@admin.register(IndexBuild)
class IndexBuildAdmin(ServingAdmin, ReadOnlyAdmin):
    list_display = (
        "generation",
        "show_state",
        "show_progress",
        "embedded",
        "show_seconds",
        "model_version",
        "started_at",
    )
    list_filter = ("state", "is_full")
    list_buttons = (("reindex", "Build a new index"), ("roll_back", "Go back to the index before"))

    @display(description="State", label=STATE_COLOURS)
    def show_state(self, build: IndexBuild) -> str:
        return build.state

    @display(description="Products")
    def show_progress(self, build: IndexBuild) -> str:
        if build.state not in (IndexBuild.State.PREPARING, IndexBuild.State.BUILDING):
            return f"{build.products_done:,}"
        return format_html(
            '<progress max="{}" value="{}"></progress> {} of {}',
            max(build.products_total, 1),
            build.products_done,
            f"{build.products_done:,}",
            f"{build.products_total:,}",
        )

    @display(description="Seconds")
    def show_seconds(self, build: IndexBuild) -> str:
        return f"{(build.finished_at - build.started_at).total_seconds():.1f}" if build.finished_at else ""

    def reindex(self, request: HttpRequest) -> HttpResponseRedirect:
        rebuild_index.delay()
        messages.info(request, "A new index is being built; searches go on with the live one meanwhile.")
        return redirect("admin:retrieval_indexbuild_changelist")

    def roll_back(self, request: HttpRequest) -> HttpResponseRedirect:
        try:
            folder = get_store().rollback(find_live(TWO_TOWER).version)
        except EngineError as error:
            messages.error(request, str(error))
        else:
            mark_served()
            messages.success(request, f"{folder.name} is live again.")
        return redirect("admin:retrieval_indexbuild_changelist")


@admin.register(PastQuery)
class PastQueryAdmin(ReadOnlyAdmin):
    list_display = ("text", "count", "total", "last_at")
    search_fields = ("text",)
    ordering = ("-count",)
