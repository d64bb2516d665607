"""Many products in one request."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.decorators import api_view, permission_classes, throttle_classes
from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from searchsite.api_writes import delete_products, save_rows
from searchsite.keys import ReadOrKey
from searchsite.parsers import TooLargeError
from searchsite.serializers import (
    BulkDeleteRequestSerializer,
    BulkDeleteResponseSerializer,
    BulkRequestSerializer,
    BulkResponseSerializer,
    ErrorSerializer,
)
from searchsite.throttles import ProductThrottle

MAX_ROWS = 1_000
ERRORS = dict.fromkeys((400, 401, 403, 413, 429), ErrorSerializer)


@extend_schema(
    operation_id="save_products",
    tags=["products"],
    summary="Create or change many products",
    request=BulkRequestSerializer,
    responses={200: BulkResponseSerializer, **ERRORS},
)
@api_view(["POST"])
@permission_classes([ReadOrKey])
@throttle_classes([ProductThrottle])
def save_products(request: Request) -> Response:
    """Up to 1,000 products, {"products": […]} or the array alone. A wrong one is named, the others are saved."""
    rows = _read_list(request.data, "products")
    result = save_rows(rows)
    errors = [
        {"row": error.row, "sku": _sku_of(rows[error.row - 1]), "column": error.column, "value": error.value,
         "reason": error.reason}
        for error in result.rejections
    ]  # fmt: skip
    counts = {"created": result.created, "updated": result.updated, "unchanged": result.unchanged}
    return Response(counts | {"rejected": len({error.row for error in result.rejections}), "errors": errors})


@extend_schema(
    operation_id="delete_products",
    tags=["products"],
    summary="Delete many products",
    request=BulkDeleteRequestSerializer,
    responses={200: BulkDeleteResponseSerializer, **ERRORS},
)
@api_view(["POST"])
@permission_classes([ReadOrKey])
@throttle_classes([ProductThrottle])
def remove_products(request: Request) -> Response:
    """Up to 1,000 products by their SKUs. Those not there are named."""
    skus = _read_list(request.data, "skus")
    for number, sku in enumerate(skus):
        if not isinstance(sku, str):
            raise ValidationError({"skus": [f"Item {number + 1} is {sku!r:.100}, expected a text."]})
    deleted = delete_products(skus)
    return Response({"deleted": len(deleted), "not_found": [sku for sku in dict.fromkeys(skus) if sku not in deleted]})


def _read_list(body: object, name: str) -> list[Any]:
    """Return the list that is the body, or stands in it under `name`; raises if there is none or it is too long."""
    found = body.get(name) if isinstance(body, dict) else body
    if not isinstance(found, list):
        raise ParseError(f'The body has no list: expected {{"{name}": […]}} or […].')
    if len(found) > MAX_ROWS:
        raise TooLargeError(f"{len(found):,} {name} were sent, expected at most {MAX_ROWS:,}: send them in parts.")
    return found


def _sku_of(row: object) -> str:
    return str(row.get("sku", "")) if isinstance(row, dict) else ""
