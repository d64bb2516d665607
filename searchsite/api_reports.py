"""Reports of experiments through the API, for keys that may read them: the same figures as on the report pages."""

from __future__ import annotations

from typing import Any

from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import api_view, permission_classes, throttle_classes
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from experiments.models import Experiment
from experiments.report_pages import ReportPage, list_reports
from searchsite.keys import ReportsKey
from searchsite.serializers import ErrorSerializer
from searchsite.throttles import SearchThrottle

ERRORS = dict.fromkeys((401, 403, 429), ErrorSerializer)
STATES = "broken, winner, loser, equal, not yet, ended (without an answer) or no visitors."


class CountsField(serializers.DictField):
    """Numbers by name, left out where there are none."""

    def __init__(self, **options: Any) -> None:
        super().__init__(child=serializers.IntegerField(), required=False, **options)


class ReportLinksSerializer(serializers.Serializer[object]):
    report = serializers.CharField(help_text="The whole report, through the API.")
    page = serializers.CharField(help_text="For people, who log in there.")


class ReportSummarySerializer(serializers.Serializer[object]):
    name = serializers.CharField(help_text="The experiment's.")
    kind = serializers.ChoiceField(Experiment.Kind.choices)
    status = serializers.ChoiceField(Experiment.Status.choices)
    state = serializers.CharField(help_text=STATES)
    sentence = serializers.CharField(help_text="What the experiment says, for people.")
    made_at = serializers.DateTimeField(allow_null=True, help_text="Null before the first report.")
    links = ReportLinksSerializer()


class ReportListSerializer(serializers.Serializer[object]):
    reports = ReportSummarySerializer(many=True, help_text="Running experiments first, then the newest.")


class ReportSerializer(serializers.Serializer[object]):
    """What is not told of an experiment is left out: figures of a broken split, metrics of an interleaving."""

    experiment = serializers.CharField()
    status = serializers.ChoiceField(Experiment.Status.choices)
    made_at = serializers.DateTimeField(allow_null=True)
    state = serializers.CharField(help_text=STATES)
    sentence = serializers.CharField()
    variant = serializers.CharField(required=False, allow_blank=True, help_text="What the sentence is about.")
    variants = serializers.ListField(child=serializers.CharField(), required=False, help_text="The champion first.")
    visitors = CountsField(help_text="Visitors counted, by variant.")
    outliers = CountsField(help_text="Visitors left out because they searched too often, by variant.")
    programs = CountsField(help_text="Visitors left out because they clicked as programs do, by variant.")
    late = CountsField(help_text="Visitors left out because they came after their variant was stopped, by variant.")
    stopped = serializers.DictField(child=serializers.CharField(), required=False, help_text="Why, by variant.")
    simulated = serializers.BooleanField(required=False, help_text="Whether simulated visitors are counted.")
    ratio = serializers.DictField(required=False, help_text="Whether the visitors are split as the weights say.")
    comparisons = serializers.ListField(
        child=serializers.DictField(), required=False, help_text="A metric of a variant beside the champion's, each."
    )
    slow_ms = serializers.FloatField(
        required=False, allow_null=True, help_text="What the slow guardrail calls slow; null until that is known."
    )
    guardrails = serializers.DictField(required=False, help_text="By variant and metric.")
    days = serializers.ListField(child=serializers.DictField(), required=False, help_text="As known after each day.")
    queries = serializers.DictField(required=False, help_text="That gained and lost clicks, by variant.")
    funnel = serializers.DictField(required=False, help_text="Visitors by variant and step.")
    offline = serializers.DictField(required=False, help_text="The last offline evaluation of its variants.")
    preference = serializers.DictField(required=False, help_text="What visitors chose from, of an interleaving.")


@extend_schema(
    operation_id="list_reports",
    tags=["reports"],
    summary="List reports of experiments",
    responses={200: ReportListSerializer, **ERRORS},
)
@api_view(["GET"])
@permission_classes([ReportsKey])
@throttle_classes([SearchThrottle])
def list_all(request: Request) -> Response:
    """What each experiment that was ever started says. The key must be one that may read reports."""
    return Response({"reports": [_sum_up(request, page) for page in list_reports()]})


@extend_schema(
    operation_id="read_report",
    tags=["reports"],
    summary="Read the report of an experiment",
    responses={200: ReportSerializer, 404: ErrorSerializer, **ERRORS},
)
@api_view(["GET"])
@permission_classes([ReportsKey])
@throttle_classes([SearchThrottle])
def read_one(request: Request, name: str) -> Response:
    """All that the report says, as /reports/NAME.json has it for people who log in."""
    experiment = Experiment.objects.select_related("report").filter(name=name).first()
    if experiment is None:
        raise NotFound(f"There is no experiment {name!r:.80}. Those with reports: {reverse('api:reports')}")
    return Response(ReportPage.of(experiment).to_dict())


def _sum_up(request: Request, page: ReportPage) -> dict[str, Any]:
    experiment = page.experiment
    addresses = {"report": reverse("api:report", args=[experiment.name]),
                 "page": reverse("reports:report", args=[experiment.name])}  # fmt: skip
    return {
        "name": experiment.name,
        "kind": experiment.kind,
        "status": experiment.status,
        "state": page.content["state"],
        "sentence": page.content["sentence"],
        "made_at": page.made_at,
        "links": {name: request.build_absolute_uri(address) for name, address in addresses.items()},
    }
