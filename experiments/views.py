"""Reports of experiments, for people who decide by them: at their own address, without the admin."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib.auth.decorators import login_required, permission_required
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from experiments.analytics_pages import SearchesPage
from experiments.analytics_tables import TABLES
from experiments.forcing import BadLinkError, force, read_link_token
from experiments.models import Experiment
from experiments.offline_pages import OfflinePage
from experiments.report_pages import CSV_COLUMNS, ReportPage, list_reports, to_rows

reads_reports = permission_required("experiments.view_report", raise_exception=True)


@never_cache
@require_safe
@login_required(login_url="reports:login")
@reads_reports
def index(request: HttpRequest) -> HttpResponse:
    return render(request, "reports/index.html", {"experiments": list_reports()})


@never_cache
@require_safe
@login_required(login_url="reports:login")
@reads_reports
def report(request: HttpRequest, name: str) -> HttpResponse:
    return render(request, "reports/report.html", {"page": ReportPage.of(_find(name))})


@never_cache
@require_safe
@login_required(login_url="reports:login")
@reads_reports
def report_json(request: HttpRequest, name: str) -> JsonResponse:
    return JsonResponse(ReportPage.of(_find(name)).to_dict())


@never_cache
@require_safe
@login_required(login_url="reports:login")
@reads_reports
def report_csv(request: HttpRequest, name: str) -> HttpResponse:
    return _make_csv(name, [CSV_COLUMNS, *to_rows(ReportPage.of(_find(name)).content)])


@never_cache
@require_safe
@login_required(login_url="reports:login")
@reads_reports
def searches(request: HttpRequest) -> HttpResponse:
    return render(request, "reports/analytics.html", {"page": SearchesPage.of(request.GET)})


@never_cache
@require_safe
@login_required(login_url="reports:login")
@reads_reports
def searches_csv(request: HttpRequest, table: str) -> HttpResponse:
    if table not in TABLES:
        raise Http404(f"no table {table!r}, expected one of: {', '.join(TABLES)}")
    page = SearchesPage.of(request.GET)
    return _make_csv(f"{table}-{page.days}-days", page.find_table(table).to_csv())


@never_cache
@require_safe
@login_required(login_url="reports:login")
@reads_reports
def offline(request: HttpRequest) -> HttpResponse:
    return render(request, "reports/offline.html", {"page": OfflinePage.of(request.GET)})


def _make_csv(name: str, rows: Iterable[Sequence[Any]]) -> HttpResponse:
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    csv.writer(response).writerows(rows)
    return response


def _find(name: str) -> Experiment:
    return get_object_or_404(Experiment.objects.select_related("report").prefetch_related("variants"), name=name)


@never_cache
@require_safe
def see_variant(request: HttpRequest, token: str) -> HttpResponse:
    try:
        experiment, variant = read_link_token(token)
    except BadLinkError as error:
        return render(request, "reports/bad_link.html", {"reason": str(error)}, status=400)
    response = redirect("/search/")
    force(request, response, experiment, variant)
    return response
