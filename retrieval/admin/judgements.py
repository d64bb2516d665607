"""Admin pages of judgement sets: brought in and taken out as files, every grade shown and mended by hand."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponseForbidden, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.text import slugify
from unfold.admin import ModelAdmin
from unfold.decorators import display
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldBooleanSwitchWidget

from retrieval.evaluation.judgements import JudgementsError
from retrieval.evaluation.rating_files import Rating
from retrieval.judgement_files import HOW_GRADED, import_ratings, read_ratings, write_ratings
from retrieval.models import Judgement, JudgementSet

UPLOADS = ("file", "queries", "qrels")


class JudgementSetForm(forms.ModelForm):  # type: ignore[type-arg]
    """A judgement set, and the files to bring into it."""

    file = forms.FileField(
        required=False,
        label="Ratings",
        widget=UnfoldAdminFileFieldWidget,
        help_text=f"TSV, CSV or JSON Lines with query, sku and grade (or relevance). {HOW_GRADED}",
    )
    queries = forms.FileField(
        required=False,
        label="or queries",
        widget=UnfoldAdminFileFieldWidget,
        help_text="TSV with query_id and query, together with relevances.",
    )
    qrels = forms.FileField(
        required=False,
        label="and relevances",
        widget=UnfoldAdminFileFieldWidget,
        help_text="TSV with query_id, doc_id (the SKU) and relevance, or TREC qrels.",
    )
    replace = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text="Remove the grades that the files do not have.",
    )

    class Meta:
        model = JudgementSet
        fields = ("name", "note")

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        uploads = {name: values[name] for name in UPLOADS if values.get(name)}
        if not uploads and values.get("replace"):
            raise ValidationError("There is nothing to replace the grades with: choose a file.")
        if uploads and self.instance.source != JudgementSet.Source.RATINGS:
            raise ValidationError(f"This set is made of {self.instance.source}; bring ratings into another.")
        values["ratings"] = read_uploads(uploads) if uploads else []
        return values


def read_uploads(uploads: dict[str, UploadedFile[Any]]) -> list[Rating]:
    """Return the ratings of the files that were uploaded; raises ValidationError that names them as people do."""
    with TemporaryDirectory() as folder:
        paths = {name: _keep(upload, Path(folder, name)) for name, upload in uploads.items()}
        try:
            return read_ratings(**paths)
        except JudgementsError as error:
            message = str(error)
            for kept in paths.values():
                message = message.replace(f"{kept.parent}/", "")
            raise ValidationError(message) from error


def _keep(upload: UploadedFile[Any], folder: Path) -> Path:
    folder.mkdir()
    kept = folder / Path(str(upload.name)).name
    with kept.open("wb") as file:
        for chunk in upload.chunks():
            file.write(chunk)
    return kept


@admin.register(JudgementSet)
class JudgementSetAdmin(ModelAdmin):
    form = JudgementSetForm
    list_display = ("name", "source", "show_queries", "show_judgements", "show_links", "created_at")
    list_filter = ("source",)
    search_fields = ("name", "note")
    readonly_fields = ("source", "created_at", "show_links")

    def get_fields(self, request: HttpRequest, judgement_set: JudgementSet | None = None) -> list[str]:
        shown = ["name", "note"] if judgement_set is None else ["name", "note", *self.readonly_fields]
        is_filled_here = judgement_set is None or judgement_set.source == JudgementSet.Source.RATINGS
        may_change = judgement_set is None or self.has_change_permission(request, judgement_set)
        return [*shown, *UPLOADS, "replace"] if is_filled_here and may_change else shown

    def get_queryset(self, request: HttpRequest) -> QuerySet[JudgementSet]:
        counts = {"judgement_count": Count("judgements"), "query_count": Count("judgements__query", distinct=True)}
        found: QuerySet[JudgementSet] = super().get_queryset(request).annotate(**counts)
        return found

    @display(description="Queries", ordering="query_count")
    def show_queries(self, judgement_set: Any) -> str:
        return f"{judgement_set.query_count:,}"

    @display(description="Judgements", ordering="judgement_count")
    def show_judgements(self, judgement_set: Any) -> str:
        return f"{judgement_set.judgement_count:,}"

    @display(description="Judgements")
    def show_links(self, judgement_set: JudgementSet) -> str:
        listing = f"{reverse('admin:retrieval_judgement_changelist')}?judgement_set__id__exact={judgement_set.pk}"
        download = reverse("admin:retrieval_judgementset_download", args=[judgement_set.pk])
        link = '<a href="{}" style="text-decoration: underline">{}</a>'
        return format_html(f"{link} · {link}", listing, "See them", download, "Download as TSV")

    def save_model(self, request: HttpRequest, judgement_set: JudgementSet, form: Any, change: bool) -> None:
        super().save_model(request, judgement_set, form, change)
        if form.cleaned_data["ratings"]:
            values = form.cleaned_data
            done = import_ratings(judgement_set.name, values["ratings"], replace=values["replace"])
            (messages.warning if done.unknown_skus else messages.success)(request, str(done))

    def get_deleted_objects(self, sets: Any, request: HttpRequest) -> tuple[list[str], dict[str, int], set[str], Any]:
        """Say what is deleted with sets: their judgements, counted, not listed."""
        names = [f"{one}, with {one.judgements.count():,} judgements" for one in sets]
        return names, {"judgement sets": len(names)}, set(), []

    def delete_queryset(self, request: HttpRequest, sets: Iterable[JudgementSet]) -> None:
        for judgement_set in sets:
            self.delete_model(request, judgement_set)

    def get_urls(self) -> list[URLPattern]:
        download = self.admin_site.admin_view(self.download_view)
        return [
            path("<int:set_id>/judgements.tsv", download, name="retrieval_judgementset_download"),
            *super().get_urls(),
        ]

    def download_view(self, request: HttpRequest, set_id: int) -> HttpResponseBase:
        """Answer a set's judgements as a file that can be imported again."""
        if not self.has_view_permission(request):
            return HttpResponseForbidden()
        judgement_set = get_object_or_404(JudgementSet, pk=set_id)
        name = f"{slugify(judgement_set.name) or 'judgements'}.tsv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        lines = write_ratings(judgement_set)
        return StreamingHttpResponse(lines, content_type="text/tab-separated-values; charset=utf-8", headers=headers)


@admin.register(Judgement)
class JudgementAdmin(ModelAdmin):
    list_display = ("query", "sku", "grade", "judgement_set")
    list_editable = ("grade",)
    list_filter = (("judgement_set", admin.RelatedOnlyFieldListFilter),)
    list_select_related = ("judgement_set",)
    list_per_page = 50
    search_fields = ("query", "sku")
    autocomplete_fields = ("judgement_set",)
    ordering = ("judgement_set", "query", "-grade", "sku")
    readonly_fields = ("impressions", "clicks", "low", "high")  # of clicks: not for people to give
    show_full_result_count = False

    def has_module_permission(self, request: HttpRequest) -> bool:
        return False  # reached from the sets
