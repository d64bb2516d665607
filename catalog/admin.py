"""Admin pages of the catalogue: products, categories, and imports with their progress."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseForbidden, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.decorators import action, display

from catalog.forms import CategoryForm, ImportForm, ProductForm
from catalog.models import PATH_SEPARATOR, Category, ImportRun, Product, ProductQuerySet, RejectedRow
from catalog.money import format_price
from catalog.signals import products_changed
from catalog.tasks import queue_import

STATE_COLOURS = {
    "pending": "info", "running": "info", "finished": "success", "failed": "danger", "interrupted": "warning",
}  # fmt: skip
FORMULA_SIGNS = set("=+-@\t\r")
AGAIN = (ImportRun.State.PENDING, ImportRun.State.FAILED)
COUNTS = ("rows", "created", "updated", "unchanged", "rejected", "deactivated")


@admin.register(Product)
class ProductAdmin(ModelAdmin):
    form = ProductForm
    list_display = ("show_image", "sku", "title", "brand", "category", "show_price", "stock", "active")
    list_display_links = ("sku", "title")
    list_filter = ("active", ("rating", admin.EmptyFieldListFilter), ("image_url", admin.EmptyFieldListFilter))
    search_fields = ("sku", "title", "brand", "gtin")
    list_select_related = ("category",)
    autocomplete_fields = ("category",)
    readonly_fields = ("created_at", "updated_at")
    actions = ("activate", "deactivate")
    show_full_result_count = False
    list_per_page = 50

    @display(description="")
    def show_image(self, product: Product) -> str:
        if not product.image_url:
            return ""
        return format_html('<img src="{}" alt="" width="40" height="40" loading="lazy">', product.image_url)

    @display(description="Price", ordering="price_cents")
    def show_price(self, product: Product) -> str:
        return "" if product.price_cents is None else format_price(product.price_cents, product.currency)

    @action(description="Put on sale", permissions=["change"])
    def activate(self, request: HttpRequest, products: ProductQuerySet) -> None:
        messages.success(request, f"{products.set_active(True)} products put on sale.")

    @action(description="Take off sale", permissions=["change"])
    def deactivate(self, request: HttpRequest, products: ProductQuerySet) -> None:
        messages.success(request, f"{products.set_active(False)} products taken off sale.")


@admin.register(Category)
class CategoryAdmin(ModelAdmin):
    form = CategoryForm
    list_display = ("name", "path")
    search_fields = ("name", "path")
    autocomplete_fields = ("parent",)

    def get_readonly_fields(self, request: HttpRequest, category: Category | None = None) -> tuple[str, ...]:
        return ("path",) if category is None else ("parent", "path")

    def save_model(self, request: HttpRequest, category: Category, form: Any, change: bool) -> None:
        """Save, and have the products below indexed under the new name."""
        with transaction.atomic():
            super().save_model(request, category, form, change)
            below = Q(category=category) | Q(category__path__startswith=category.path + PATH_SEPARATOR)
            product_ids = list(Product.objects.filter(below).values_list("pk", flat=True))
            products_changed.send(Product, product_ids=product_ids)


@admin.register(ImportRun)
class ImportRunAdmin(ModelAdmin):
    form = ImportForm
    list_display = ("source", "show_state", "show_progress", *COUNTS, "started_at")
    list_filter = ("state", "is_dry_run", "is_full")
    search_fields = ("source",)
    readonly_fields = ("show_state", "show_progress", "error", "show_rejected", *COUNTS, "started_at", "finished_at")
    actions = ("run_again",)
    change_form_template = "admin/catalog/importrun/change_form.html"
    change_list_template = "admin/catalog/importrun/change_list.html"

    def get_fields(self, request: HttpRequest, run: ImportRun | None = None) -> list[str]:
        if run is None:
            return list(ImportForm.Meta.fields)
        return ["source", "format", "mapping", "is_dry_run", "is_full", *self.readonly_fields]

    def get_readonly_fields(self, request: HttpRequest, run: ImportRun | None = None) -> list[str]:
        return [] if run is None else self.get_fields(request, run)

    def has_change_permission(self, request: HttpRequest, run: ImportRun | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, run: ImportRun | None = None) -> bool:
        is_running = run is not None and run.state == ImportRun.State.RUNNING and not run.is_interrupted
        return not is_running and super().has_delete_permission(request, run)

    def get_deleted_objects(self, runs: Any, request: HttpRequest) -> tuple[list[str], dict[str, int], set[str], Any]:
        """Say what is deleted with runs: their rejected rows, counted, not listed. Those under way are protected."""
        names = [f"{run}, with {run.rejected:,} rejected rows" for run in runs]
        protected = [str(run) for run in runs if not self.has_delete_permission(request, run)]
        return names, {"import runs": len(names)}, set(), protected

    def delete_model(self, request: HttpRequest, run: ImportRun) -> None:
        """Delete the run and, with it, the file that was uploaded."""
        if run.upload:
            transaction.on_commit(partial(run.upload.storage.delete, str(run.upload.name)))
        super().delete_model(request, run)

    def delete_queryset(self, request: HttpRequest, runs: Iterable[ImportRun]) -> None:
        for run in runs:
            self.delete_model(request, run)

    def save_model(self, request: HttpRequest, run: ImportRun, form: Any, change: bool) -> None:
        """Keep the file and have a worker import it."""
        run.source = form.cleaned_data["upload"].name[:1000]
        super().save_model(request, run, form, change)
        queue_import(run)

    def response_add(self, request: HttpRequest, run: ImportRun, post_url_continue: str | None = None) -> HttpResponse:
        messages.info(request, "The import has been queued; this page follows it.")
        return redirect("admin:catalog_importrun_change", run.pk)

    @action(description="Run again", permissions=["add"])
    def run_again(self, request: HttpRequest, runs: QuerySet[ImportRun]) -> None:
        """Queue runs that failed, were interrupted or never began; what they did is not done twice."""
        again = [run for run in runs if run.upload and (run.is_interrupted or run.state in AGAIN)]
        for run in again:
            queue_import(run)
        if again:
            messages.success(request, f"{len(again)} imports queued again.")
        if len(again) < len(runs):
            told = "left alone: finished, under way, or started from the command line, where they are run again"
            messages.warning(request, f"{len(runs) - len(again)} {told}.")

    @display(description="State", label=STATE_COLOURS)
    def show_state(self, run: ImportRun) -> str:
        return "interrupted" if run.is_interrupted else run.state

    @display(description="Progress")
    def show_progress(self, run: ImportRun) -> str:
        percent = 100 if run.state == ImportRun.State.FINISHED else round(run.share_done * 100)
        return format_html(
            '<progress data-run="{}" data-live="{}" max="100" value="{}" aria-label="progress"></progress> '
            "<span>{} %</span>",
            run.pk,
            int(run.state in (ImportRun.State.PENDING, ImportRun.State.RUNNING) and not run.is_interrupted),
            percent,
            percent,
        )

    @display(description="Rejected rows")
    def show_rejected(self, run: ImportRun) -> str:
        if not run.rejected:
            return "none"
        listing = f"{reverse('admin:catalog_rejectedrow_changelist')}?run__id__exact={run.pk}"
        download = reverse("admin:catalog_importrun_rejected", args=[run.pk])
        link = '<a href="{}" style="text-decoration: underline">{}</a>'
        return format_html(f"{link} · {link}", listing, "See them", download, "Download as CSV")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("progress/", view(self.progress_view), name="catalog_importrun_progress"),
            path("<int:run_id>/rejected.csv", view(self.rejected_view), name="catalog_importrun_rejected"),
            *super().get_urls(),
        ]

    def progress_view(self, request: HttpRequest) -> HttpResponse:
        """Answer how far the newest runs are, as JSON by run."""
        if not self.has_view_permission(request):
            return HttpResponseForbidden()
        facts = {
            run.pk: {"state": self.show_state(run), "percent": round(run.share_done * 100)}
            | {name: getattr(run, name) for name in COUNTS}
            for run in ImportRun.objects.order_by("-pk")[:100]
        }
        return JsonResponse(facts)

    def rejected_view(self, request: HttpRequest, run_id: int) -> HttpResponseBase:
        """Answer a run's rejected rows as CSV."""
        if not self.has_view_permission(request):
            return HttpResponseForbidden()
        run = get_object_or_404(ImportRun, pk=run_id)
        headers = {"Content-Disposition": f'attachment; filename="rejected-{run.pk}.csv"'}
        return StreamingHttpResponse(_write_csv(run), content_type="text/csv; charset=utf-8", headers=headers)


class _Echo:
    def write(self, line: str) -> str:
        return line


def _write_csv(run: ImportRun) -> Iterator[str]:
    writer = csv.writer(_Echo())
    yield writer.writerow(("row", "column", "value", "reason"))
    for values in run.rejections.values_list("row", "column", "value", "reason").iterator():
        # A spreadsheet must not take a value for a formula.
        yield writer.writerow([f"'{part}" if str(part)[:1] in FORMULA_SIGNS else part for part in values])


@admin.register(RejectedRow)
class RejectedRowAdmin(ModelAdmin):
    list_display = ("row", "column", "value", "reason")
    list_filter = (("run", admin.RelatedOnlyFieldListFilter),)
    search_fields = ("column", "value", "reason")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_module_permission(self, request: HttpRequest) -> bool:
        return False  # reached from the runs
