"""Reports of experiments, for people who decide by them: at their own address, without the admin."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required, permission_required
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from experiments import offline_runs
from experiments.analytics_pages import SearchesPage
from experiments.analytics_tables import TABLES
from experiments.forcing import BadLinkError, force, read_link_token
from experiments.models import Experiment
from experiments.offline_pages import OfflinePage
from experiments.report_pages import ReportPage, list_reports
from experiments.report_rows import to_rows
from retrieval.engine.types import EngineError
from retrieval.evaluation.judgements import JudgementsError

reads_reports = permission_required("experiments.view_report", raise_exception=True)
has_rankings_evaluated = permission_required("experiments.add_offlineevaluation", raise_exception=True)
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
    return _make_csv(name, to_rows(ReportPage.of(_find(name)).to_dict()))


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


def logged_in_to_post(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Have whoever is not logged in come back to the page with the button: nothing can be posted after a login."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **names: Any) -> HttpResponse:
        if not request.user.is_authenticated:
            return redirect_to_login(reverse("reports:offline"), reverse("reports:login"))
        return view(request, *args, **names)

    return checked


@never_cache
@require_POST
@logged_in_to_post
@reads_reports
@has_rankings_evaluated
def evaluate_offline(request: HttpRequest) -> HttpResponse:
    try:
        offline_runs.ask(request.POST.get("judgement_set", ""), request.POST.get("experiment", ""))
    except (EngineError, JudgementsError) as error:
        return _show_offline(request, OfflinePage.of({}, refusal=str(error)), status=400)
    except offline_runs.EvaluationUnderWayError as error:
        return _show_offline(request, OfflinePage.of({}, refusal=str(error)), status=409)
    return redirect("reports:offline")


@never_cache
@require_POST
@logged_in_to_post
@reads_reports
@has_rankings_evaluated
def withdraw_offline(request: HttpRequest, run_id: int) -> HttpResponse:
    if offline_runs.withdraw(run_id, request.user.get_username()):
        return redirect("reports:offline")
    refusal = f"evaluation {run_id} does not wait any more, so it cannot be withdrawn"
    return _show_offline(request, OfflinePage.of({}, refusal=refusal), status=409)


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
