"""Admin pages of model versions: what each is and how good, and which one serves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from tempfile import TemporaryFile
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseForbidden, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from kombu.exceptions import OperationalError
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminFileFieldWidget

from retrieval import registry
from retrieval.admin.base import ServingAdmin
from retrieval.engine.types import EngineError
from retrieval.learning.versions import flatten
from retrieval.models import IndexBuild, ModelVersion
from retrieval.serving import BUILD, SERVE, check_verdict, is_ready, let_serve, retire_version, tell_work
from retrieval.tasks import build_beside, serve_model

GATE = {True: "passed", False: "failed", None: "not judged"}
GATE_COLOURS = {"passed": "success", "failed": "danger", "not judged": "info"}
FIGURES = ("name", "queries", "champion", "challenger", "difference", "low", "high", "wins", "losses", "state")
TABLE = '<table style="border-collapse: collapse"><tbody>{}</tbody></table>'
CELL = '<{0} style="text-align: left; padding: .15rem .75rem .15rem 0">{1}</{0}>'


class ArchiveForm(forms.ModelForm):  # type: ignore[type-arg]
    """An archive of a model version; its cleaning imports it, for only then is it known to be one."""

    archive = forms.FileField(
        widget=UnfoldAdminFileFieldWidget, help_text="Written by a shop's manage.py models export, or its admin."
    )

    class Meta:
        model = ModelVersion
        fields = ()

    def clean_archive(self) -> Any:
        try:
            self.instance = registry.import_archive(self.cleaned_data["archive"].file)
        except EngineError as error:
            raise ValidationError(str(error)) from error
        return self.cleaned_data["archive"]


@admin.register(ModelVersion)
class ModelVersionAdmin(ServingAdmin):
    list_display = ("name", "kind", "show_live", "show_gate", "origin", "show_size", "created_at")
    list_filter = ("kind", "origin")
    search_fields = ("name", "note", "base")
    list_buttons = (
        ("roll_back_two_tower", "Go back to the two towers before"),
        ("roll_back_cross_encoder", "Go back to the cross-encoder before"),
    )
    page_buttons = (
        ("promote", "Promote"),
        ("promote_anyway", "Promote although the gate did not let it pass"),
        ("build_beside", "Build its index beside the live one"),
        ("retire", "Retire"),
    )
    actions_detail = ("download",)
    fields = (
        "name", "kind", "show_live", "show_work", "origin", "base", "parent", "exported", "dim", "recipe_version",
        "data_hash", "show_size", "show_verdict", "show_metrics", "show_settings", "note", "created_at",
    )  # fmt: skip

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        try:
            registry.sync_built_in()
        except (EngineError, OSError) as error:
            messages.warning(request, f"The versions that come with the project could not be listed: {error}")
        return super().changelist_view(request, extra_context)

    def get_form(self, request: HttpRequest, version: ModelVersion | None = None, **options: Any) -> Any:
        return ArchiveForm if version is None else super().get_form(request, version, **options)

    def get_fields(self, request: HttpRequest, version: ModelVersion | None = None) -> tuple[str, ...]:
        return ("archive",) if version is None else self.fields

    def get_readonly_fields(self, request: HttpRequest, version: ModelVersion | None = None) -> tuple[str, ...]:
        return () if version is None else self.fields

    def has_change_permission(self, request: HttpRequest, version: ModelVersion | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, version: ModelVersion | None = None) -> bool:
        return (version is None or not registry.find_use(version)) and super().has_delete_permission(request, version)

    def has_export_permission(self, request: HttpRequest, object_id: str | None = None) -> bool:
        return self.has_serve_permission(request)

    # --- what is shown ---------------------------------------------------------------------------------

    @display(description="Serves", label={"live": "success", "shadow": "info"})
    def show_live(self, version: ModelVersion) -> str:
        return "live" if registry.is_live(version) else "shadow" if registry.is_beside(version) else ""

    @display(description="Work")
    def show_work(self, version: ModelVersion) -> str:
        """What a worker does with it, and how far its index is."""
        states = (IndexBuild.State.PREPARING, IndexBuild.State.BUILDING)
        build = IndexBuild.objects.filter(model_version=version.exported or None, state__in=states).first()
        done = f"{build.state} its index, {build.products_done:,} of {build.products_total:,} products" if build else ""
        return "; ".join(text for text in (version.work, done) if text)

    @display(description="Gate", label=GATE_COLOURS)
    def show_gate(self, version: ModelVersion) -> str:
        return GATE[version.verdict.get("is_passed")]

    @display(description="Size", ordering="size_bytes")
    def show_size(self, version: ModelVersion) -> str:
        return f"{version.size_bytes / 1e6:.1f} MB"

    @display(description="Gate")
    def show_verdict(self, version: ModelVersion) -> str:
        """The verdict's line, and its figures for each set of queries."""
        if not version.verdict:
            return "Not judged yet."
        sets = [each for each in version.verdict.get("sets", ()) if isinstance(each, Mapping)]
        names = [name for name in FIGURES if any(name in each for each in sets)]
        rows = [[_to_text(each.get(name, "")) for name in names] for each in sets]
        return format_html("<p>{}</p>{}", version.verdict.get("reason", ""), _to_table(names, rows) if sets else "")

    @display(description="Figures")
    def show_metrics(self, version: ModelVersion) -> str:
        return _to_table((), [[name, _to_text(value)] for name, value in flatten(version.metrics).items()])

    @display(description="Settings")
    def show_settings(self, version: ModelVersion) -> str:
        return _to_table((), [[name, _to_text(value)] for name, value in flatten(version.settings).items()])

    # --- what is done ----------------------------------------------------------------------------------

    def promote(self, request: HttpRequest, object_id: int) -> HttpResponseRedirect:
        return self._promote(request, object_id, is_forced=False)

    def promote_anyway(self, request: HttpRequest, object_id: int) -> HttpResponseRedirect:
        return self._promote(request, object_id, is_forced=True)

    def _promote(self, request: HttpRequest, object_id: int, *, is_forced: bool) -> HttpResponseRedirect:
        """Promote at once where all is there; else have a worker make what is missing first."""

        def act(version: ModelVersion) -> str:
            if not is_forced:
                check_verdict(version)
            if is_ready(version):
                let_serve(version, is_forced=is_forced)
                return f"{version.name} serves within seconds."
            _send(version, SERVE, partial(serve_model.delay, version.pk, is_forced))
            return f"{version.name} serves as soon as what it needs is made; searches go on."

        return self._act(request, object_id, act)

    def build_beside(self, request: HttpRequest, object_id: int) -> HttpResponseRedirect:
        def act(version: ModelVersion) -> str:
            _send(version, BUILD, partial(build_beside.delay, version.pk))
            return f"The index of {version.name} is built beside the live one; searches go on."

        return self._act(request, object_id, act)

    def retire(self, request: HttpRequest, object_id: int) -> HttpResponseRedirect:
        def act(version: ModelVersion) -> str:
            retire_version(version)
            return f"{version.name} serves no more beside the live one."

        return self._act(request, object_id, act)

    def _act(self, request: HttpRequest, object_id: int, act: Callable[[ModelVersion], str]) -> HttpResponseRedirect:
        """Do this with the version, and tell on its page what came of it."""
        version = get_object_or_404(ModelVersion, pk=object_id)
        try:
            messages.success(request, act(version))
        except (EngineError, OperationalError, OSError) as error:
            messages.error(request, str(error))
        return redirect("admin:retrieval_modelversion_change", version.pk)

    @action(description="Download", url_path="download", permissions=["export"])
    def download(self, request: HttpRequest, object_id: int) -> HttpResponseRedirect:
        return redirect("admin:retrieval_modelversion_archive", object_id)

    def roll_back_two_tower(self, request: HttpRequest) -> HttpResponseRedirect:
        return self._roll_back(request, "two-tower")

    def roll_back_cross_encoder(self, request: HttpRequest) -> HttpResponseRedirect:
        return self._roll_back(request, "cross-encoder")

    def _roll_back(self, request: HttpRequest, kind: str) -> HttpResponseRedirect:
        from retrieval.promotion import roll_back

        try:
            live = roll_back(kind)
        except EngineError as error:
            messages.error(request, str(error))
        else:
            messages.success(request, f"{live.name or 'No cross-encoder'} serves again within seconds.")
        return redirect("admin:retrieval_modelversion_changelist")

    def response_add(
        self, request: HttpRequest, version: ModelVersion, post_url_continue: str | None = None
    ) -> HttpResponse:
        messages.success(request, f"{version.name} is here; promote it to let it serve.")
        return redirect("admin:retrieval_modelversion_change", version.pk)

    def get_deleted_objects(self, found: Any, request: HttpRequest) -> tuple[list[str], dict[str, int], set[str], Any]:
        """Say what is deleted; versions in use are protected."""
        protected = [f"{version} {reason}" for version in found if (reason := registry.find_use(version))]
        return [str(version) for version in found], {"model versions": len(found)}, set(), protected

    def delete_model(self, request: HttpRequest, version: ModelVersion) -> None:
        registry.remove(version)

    def delete_queryset(self, request: HttpRequest, found: Iterable[ModelVersion]) -> None:
        for version in found:
            self.delete_model(request, version)

    def get_urls(self) -> list[URLPattern]:
        archive = self.admin_site.admin_view(self.archive_view)
        return [
            path("<int:version_id>/archive.zip", archive, name="retrieval_modelversion_archive"),
            *super().get_urls(),
        ]

    def archive_view(self, request: HttpRequest, version_id: int) -> HttpResponseBase:
        """Answer a version as one file that another shop can import."""
        if not self.has_serve_permission(request):
            return HttpResponseForbidden()
        version = get_object_or_404(ModelVersion, pk=version_id)
        file = TemporaryFile()  # noqa: SIM115 - the response closes it
        try:
            registry.export_archive(version, file)
        except (EngineError, OSError) as error:
            file.close()
            messages.error(request, f"{version.name} cannot be exported: {error}")
            return redirect(reverse("admin:retrieval_modelversion_change", args=[version.pk]))
        file.seek(0)
        return FileResponse(file, as_attachment=True, filename=f"{version.name}.zip")


def _send(version: ModelVersion, task: str, send: Callable[[], object]) -> None:
    """Have a worker do this, and keep on the version's row that it waits; raises what the queue does."""
    tell_work(version, f"{task}: waits for a worker")
    try:
        send()
    except BaseException:
        tell_work(version, "")
        raise


def _to_table(names: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in HTML; the first cell of a row is its name."""
    head = format_html_join("", CELL, (("th", name) for name in names))
    body = [format_html_join("", CELL, (("td", value) for value in row)) for row in rows]
    return format_html(TABLE, format_html_join("", "<tr>{}</tr>", ((line,) for line in (head, *body) if line)))


def _to_text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
