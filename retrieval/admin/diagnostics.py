"""The admin page of diagnostics: what the live index and its model are like, with plots, measured on demand."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.dateparse import parse_datetime
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from kombu.exceptions import OperationalError

from retrieval import plots
from retrieval.admin.base import ReadOnlyAdmin
from retrieval.diagnostics import forget_progress, read_progress, read_report, tell_progress
from retrieval.evaluation.findings import BAD, Finding, find_all
from retrieval.models import Diagnosis
from retrieval.sampling import MADE, PAST
from retrieval.tasks import diagnose_index

LINES = {PAST: "past queries", MADE: "catalogue"}  # names that fit beside each other
PAGE = "admin:retrieval_diagnosis_changelist"


@admin.register(Diagnosis)
class DiagnosisAdmin(ReadOnlyAdmin):
    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        start = require_POST(self.admin_site.admin_view(self.start_view))
        return [path("start/", start, name="retrieval_diagnosis_start"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the last report, and how far one under way is: the page loads itself anew until it is done."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        report, progress = read_report(), read_progress() or {}
        context = self.admin_site.each_context(request) | {
            "title": "Diagnostics",
            "opts": self.opts,
            "report": report,
            "error": progress.get("error"),
            "progress": progress if "phase" in progress else None,
        }
        return TemplateResponse(request, "admin/retrieval/diagnostics/page.html", context | describe(report))

    def start_view(self, request: HttpRequest) -> HttpResponseRedirect:
        """Have a worker measure, unless one does already."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if "phase" in (read_progress() or {}):
            messages.info(request, "A diagnosis is under way already; this page follows it.")
            return redirect(PAGE)
        try:
            tell_progress("waiting for a worker", 0.0)
            diagnose_index.delay()
        except (OperationalError, OSError) as error:
            forget_progress()
            messages.error(request, f"The queue does not answer ({error}); start it, then measure again.")
        return redirect(PAGE)


def describe(report: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what the page shows of a report: findings, the bad ones counted, and plots."""
    if report is None:
        return {}
    findings = find_all(report)
    return {
        "made_at": parse_datetime(report["made_at"]),
        "findings": findings,
        "bad": sum(finding.state == BAD for finding in findings),
        "sections": [(title, _pick(findings, names), draw(report)) for title, names, draw in SECTIONS],
    }


def _pick(findings: list[Finding], names: tuple[str, ...]) -> list[Finding]:
    return [finding for finding in findings if finding.name in names]


def _draw_graph(report: Mapping[str, Any]) -> list[SafeString]:
    curve, exact = report["graph"]["curve"], report["graph"]["exact"]
    return [
        plots.draw_lines(
            "Recall by ef",
            "Share of the true ten nearest products that the graph finds, by the breadth ef of its search.",
            [plots.Line("recall@10", [(point["ef"], point["recall"]) for point in curve])],
            **_EF,
            y_label="recall@10",
            y_range=(0.9, 1.0),
        ),
        plots.draw_lines(
            "Time of a search by ef",
            "Milliseconds of one search in the graph, the middle one and the slowest of twenty, and of exact search.",
            [
                plots.Line("p50", [(point["ef"], point["p50_ms"]) for point in curve]),
                plots.Line("p95", [(point["ef"], point["p95_ms"]) for point in curve]),
                plots.Line("exact p50", [(point["ef"], exact["p50_ms"]) for point in curve]),
            ],
            **_EF,
            y_label="ms",
            y_range=(0.0, 0.0),
        ),
    ]


_EF: dict[str, Any] = {"x_label": "ef", "is_log_x": True}


def _draw_space(report: Mapping[str, Any]) -> list[SafeString]:
    before, after = report["space"], report["whitened"]
    lines = [("now", before), ("whitened", after)] if after else [("now", before)]
    return [
        plots.draw_histogram(
            "Cosines of random products",
            "How alike pairs of products drawn at random are to the model.",
            before["histogram"]["edges"],
            before["histogram"]["counts"],
            x_label="cosine",
            y_label="pairs",
        ),
        plots.draw_lines(
            "Variance in the first directions",
            "Share of all variance that lies in the first 1, 2, 5 and 10 principal directions, now and whitened.",
            [
                plots.Line(name, [(int(number), share) for number, share in space["variance_shares"].items()])
                for name, space in lines
            ],
            x_label="directions",
            y_label="share of variance",
            y_range=(0.0, 0.0),
        ),
    ]


def _draw_sizes(report: Mapping[str, Any]) -> list[SafeString]:
    sizes, int8 = report["sizes"], report["quantization"]
    bars = [("int8", int8["recall"]), ("int8, rescored", int8["recall_rescored"])]
    return [
        plots.draw_lines(
            "Recall by dimensions",
            "Share of the true ten nearest products that the first dimensions find, alone and with the best "
            "rescored by full vectors.",
            [
                plots.Line("alone", [(size["dims"], size["recall"]) for size in sizes]),
                plots.Line("rescored", [(size["dims"], size["recall_rescored"]) for size in sizes]),
            ],
            x_label="dimensions",
            y_label="recall@10",
            y_range=(0.8, 1.0),
        ),
        plots.draw_bars(
            "Recall in int8",
            "Share of the true ten nearest products found with one byte per number, alone and rescored.",
            bars,
            x_label="search",
            y_label="recall@10",
            y_range=(0.0, 1.0),
        ),
    ]


def _draw_texts(report: Mapping[str, Any]) -> list[SafeString]:
    histogram = report["texts"]["histogram"]
    return [
        plots.draw_histogram(
            "Tokens of product texts",
            "How long the texts are that the model reads, after they were cut.",
            histogram["edges"],
            histogram["counts"],
            x_label="tokens",
            y_label="products",
        )
    ]


def _draw_shift(report: Mapping[str, Any]) -> list[SafeString]:
    edges, shares = report["shift"]["edges"], report["shift"]["shares"]
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    return [
        plots.draw_lines(
            "How near the best product is",
            "Share of queries by the cosine of their best product: shoppers' own where there are enough, and those "
            "made from the catalogue.",
            [plots.Line(LINES[name], list(zip(middles, values, strict=True))) for name, values in shares.items()],
            x_label="cosine",
            y_label="share of queries",
            y_range=(0.0, 0.0),
        )
    ]


def _draw_nothing(report: Mapping[str, Any]) -> list[SafeString]:
    return []


SECTIONS = (
    ("Search in the graph", ("recall",), _draw_graph),
    ("Freshness", ("stale", "drifted"), _draw_nothing),
    ("Texts", ("cut",), _draw_texts),
    ("The space of products", ("anisotropy", "variance", "uniformity", "alignment"), _draw_space),
    ("Near-duplicates", ("twins",), _draw_nothing),
    ("Smaller vectors", ("sizes", "quantization"), _draw_sizes),
    ("Queries out of place", ("shift",), _draw_shift),
)
