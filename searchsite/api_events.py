"""What visitors of a shop's own front end do, sent in batches: User Behavior Insights 1.3."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import api_view, permission_classes, throttle_classes
from rest_framework.exceptions import ParseError, PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from experiments.deliveries import Receipt, leave_out, take_in
from experiments.visitors import has_opted_out
from searchsite.keys import ReadOrKey
from searchsite.parsers import TooLargeError
from searchsite.serializers import ErrorSerializer
from searchsite.throttles import RateThrottle

MAX_ROWS = 1_000
SHOWN_LENGTH = 100  # of a wrong value
COUNTS = ("accepted", "unattributed", "duplicates", "refused", "opted_out")
ERRORS = dict.fromkeys((400, 401, 403, 413, 429, 503), ErrorSerializer)


class EventThrottle(RateThrottle):
    scope = "events"


class ObjectSerializer(serializers.Serializer[object]):
    object_id = serializers.CharField(max_length=256, help_text="The product's SKU.")


class PositionSerializer(serializers.Serializer[object]):
    ordinal = serializers.IntegerField(required=False, help_text="From 1, over all pages of the results.")


class EventAttributesSerializer(serializers.Serializer[object]):
    object = ObjectSerializer(required=False)
    position = PositionSerializer(required=False)
    quantity = serializers.IntegerField(required=False, help_text="Pieces added or bought; 1 when not given.")
    value_cents = serializers.IntegerField(required=False, help_text="Of all pieces together, in minor units.")
    currency = serializers.CharField(required=False, help_text="ISO 4217.")


class EventSerializer(serializers.Serializer[object]):
    action_name = serializers.CharField(help_text="impression, click, add_to_cart, purchase, or one of your own.")
    timestamp = serializers.DateTimeField(help_text="ISO 8601; UTC where it names no offset.")
    client_id = serializers.CharField(max_length=100, help_text="Your id of the visitor, the same as in searches.")
    event_id = serializers.CharField(
        required=False, max_length=100, help_text="Your id of the event: sent again, it counts once. Else all it says."
    )
    query_id = serializers.CharField(required=False, max_length=100, help_text="Of the search that led to it.")
    ref = serializers.CharField(required=False, help_text="Of a hit, in place of query_id, object and position.")
    application = serializers.CharField(required=False, max_length=100)
    session_id = serializers.CharField(required=False, max_length=100)
    user_id = serializers.CharField(required=False, max_length=100)
    message_type = serializers.CharField(required=False, max_length=100)
    message = serializers.CharField(required=False, max_length=1024)
    event_attributes = EventAttributesSerializer(required=False)


class UbiQuerySerializer(serializers.Serializer[object]):
    query_id = serializers.CharField(required=False, max_length=100)
    user_query = serializers.CharField(allow_blank=True)
    client_id = serializers.CharField(max_length=100)
    timestamp = serializers.DateTimeField()
    application = serializers.CharField(required=False, max_length=100)
    query_response_hit_ids = serializers.ListField(child=serializers.CharField(), required=False)
    query_attributes = serializers.DictField(required=False, help_text="`total`, filters and the like.")


class DeliverySerializer(serializers.Serializer[object]):
    events = EventSerializer(many=True, required=False, help_text="At most 1,000 with the queries.")
    queries = UbiQuerySerializer(many=True, required=False, help_text="Searches done by other means than this API.")


class RefusedSerializer(serializers.Serializer[object]):
    list = serializers.ChoiceField(["events", "queries"])
    index = serializers.IntegerField(help_text="In that list, from 0.")
    field = serializers.CharField(help_text="Empty when it is no object at all.")
    value = serializers.CharField()
    reason = serializers.CharField()


class ReceiptSerializer(serializers.Serializer[object]):
    accepted = serializers.IntegerField(help_text="Written, and new.")
    unattributed = serializers.IntegerField(
        help_text="Of those accepted, without the search they name: another visitor's, or too long before."
    )
    duplicates = serializers.IntegerField(help_text="There before, or twice in the batch: written once.")
    refused = serializers.IntegerField()
    opted_out = serializers.IntegerField(help_text="All that was sent, where the request says DNT: 1 or Sec-GPC: 1.")
    errors = RefusedSerializer(many=True)  # type: ignore[assignment]


@extend_schema(
    operation_id="record_events",
    tags=["events"],
    summary="Tell what visitors did",
    request=DeliverySerializer,
    responses={200: ReceiptSerializer, **ERRORS},
)
@api_view(["POST"])
@permission_classes([ReadOrKey])
@throttle_classes([EventThrottle])
def record_events(request: Request) -> Response:
    """Up to 1,000 events and queries of User Behavior Insights 1.3. A wrong one is named, the others are written.

    Events go by their `event_id`: a batch that was sent before changes nothing, so send again whatever got no answer.
    Leave out visitors who ask not to be tracked, or pass their headers on: of a request with `DNT: 1` or `Sec-GPC: 1`
    nothing is written.
    """
    if not settings.SEARCHSITE["EVENTS"]:
        raise PermissionDenied("This shop records no events: SEARCHSITE_EVENTS is off.")
    body = request.data if isinstance(request.data, dict) else {"events": request.data}
    queries, events = _read_list(body, "queries"), _read_list(body, "events")
    if not body.keys() & {"queries", "events"}:
        raise ParseError('The body has no list: expected {"events": […], "queries": […]}, one of them, or […].')
    if (count := len(queries) + len(events)) > MAX_ROWS:
        told = f"{count:,} events and queries were sent, expected at most {MAX_ROWS:,}: send them in parts."
        raise TooLargeError(told)
    receipt = leave_out(count) if has_opted_out(request.headers) else take_in(queries, events)
    return Response(_describe(receipt))


def _read_list(body: dict[str, Any], name: str) -> list[Any]:
    found = body.get(name, [])
    if not isinstance(found, list):
        raise ParseError(f"{name!r} is no list: expected […].")
    return found


def _describe(receipt: Receipt) -> dict[str, Any]:
    errors = [
        {"list": error.part, "index": error.index, "field": error.problem.field,
         "value": str(error.problem.value)[:SHOWN_LENGTH], "reason": error.problem.reason}
        for error in receipt.errors
    ]  # fmt: skip
    counts = {name: getattr(receipt, name) for name in COUNTS}
    return counts | {"errors": errors}
