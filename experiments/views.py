"""Reports of experiments, for people who decide by them: at their own address, without the admin."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib.auth.decorators import login_required, permission_required
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from experiments import offline_runs
from experiments.analytics_pages import SearchesPage
from experiments.analytics_tables import TABLES
from experiments.forcing import BadLinkError, force, read_link_token
from experiments.models import Experiment
from experiments.offline_pages import OfflinePage
from experiments.report_pages import CSV_COLUMNS, ReportPage, list_reports, to_rows
from retrieval.engine.types import EngineError
from retrieval.evaluation.judgements import JudgementsError

reads_reports = permission_required("experiments.view_report", raise_exception=True)
RELOAD_S = 5  # of a page that shows how far something is


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
    return _show_offline(request, OfflinePage.of(request.GET))


@never_cache
@require_POST
@login_required(login_url="reports:login")
@reads_reports
@permission_required("experiments.add_offlineevaluation", raise_exception=True)
def evaluate_offline(request: HttpRequest) -> HttpResponse:
    try:
        offline_runs.ask(request.POST.get("judgement_set", ""), request.POST.get("experiment", ""))
    except (EngineError, JudgementsError) as error:
        return _show_offline(request, OfflinePage.of({}, refusal=str(error)), status=400)
    except offline_runs.EvaluationUnderWayError as error:
        return _show_offline(request, OfflinePage.of({}, refusal=str(error)), status=409)
    return redirect("reports:offline")


def _show_offline(request: HttpRequest, page: OfflinePage, status: int = 200) -> HttpResponse:
    response = render(request, "reports/offline.html", {"page": page}, status=status)
    if page.run and page.run.is_open and status == 200:
        response["Refresh"] = str(RELOAD_S)
    return response


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
