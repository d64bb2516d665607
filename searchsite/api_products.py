"""The catalogue through the API: anyone reads what is on sale, a key that may write keeps it up to date."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import api_view, permission_classes, throttle_classes
from rest_framework.exceptions import NotAuthenticated, NotFound, ParseError, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from catalog.models import Product, ProductQuerySet
from searchsite.api_answers import Addresses, describe_products
from searchsite.api_parameters import clean_parameters, describe_parameter
from searchsite.api_writes import delete_products, save_rows
from searchsite.forms import FlagField, MultiValueField
from searchsite.keys import HEADER_HELP, ReadOrKey
from searchsite.serializers import ErrorSerializer, ProductPageSerializer, ProductSerializer
from searchsite.throttles import ProductThrottle

MAX_PAGE_SIZE = 500
# Beyond these a moment has no equal in every time zone.
FIRST_MOMENT, LAST_MOMENT = datetime(1970, 1, 2, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
PUBLIC: Any = [{}, {"apiKey": []}]
ERRORS = {400: ErrorSerializer, 401: ErrorSerializer, 403: ErrorSerializer, 429: ErrorSerializer}


class ProductListForm(forms.Form):
    sku = MultiValueField(required=False)
    active = FlagField(required=False)
    updated_since = forms.DateTimeField(
        required=False,
        validators=[MinValueValidator(FIRST_MOMENT), MaxValueValidator(LAST_MOMENT)],
        error_messages={"invalid": "Expected a moment such as 2026-01-31T08:00:00Z; a + in it is written %2B."},
    )
    after = forms.IntegerField(required=False, min_value=0, max_value=2**63 - 1)
    page_size = forms.IntegerField(required=False, min_value=1, max_value=MAX_PAGE_SIZE)


LIST_PARAMETERS = [
    describe_parameter("sku", str, "Only this product; given again for more. Finds any SKU, also '..'.", many=True),
    describe_parameter("active", bool, "Only products on sale, or only others. Those others need an API key."),
    describe_parameter("updated_since", datetime, "Only what was written at this moment or later."),
    describe_parameter("page_size", int, f"Products a page, 1 to {MAX_PAGE_SIZE}; 100 when not given."),
    describe_parameter("after", int, "Where the page starts; the answer's `next` has it."),
]


@extend_schema(
    operation_id="list_products",
    auth=PUBLIC,
    tags=["products"],
    summary="List products",
    parameters=LIST_PARAMETERS,
    responses={200: ProductPageSerializer, 400: ErrorSerializer},
)
@api_view(["GET"])
@permission_classes([ReadOrKey])
@throttle_classes([ProductThrottle])
def list_products(request: Request) -> Response:
    """All products, oldest first, page by page: follow `next` until it is null."""
    asked = clean_parameters(ProductListForm(request.query_params))
    if asked["active"] is False and request.auth is None:
        raise NotAuthenticated(f"Products not on sale are shown to API keys only; {HEADER_HELP}.")
    found = _visible(request).filter(pk__gt=asked["after"] or 0)
    if asked["active"] is not None:
        found = found.filter(active=asked["active"])
    if asked["updated_since"]:
        found = found.filter(updated_at__gte=asked["updated_since"])
    if asked["sku"]:
        found = found.filter(sku__in=asked["sku"])
    return Response(_describe_list(request, found, asked["page_size"] or 100))


def _describe_list(request: Request, found: ProductQuerySet, page_size: int) -> dict[str, Any]:
    products = list(found.order_by("pk")[: page_size + 1])
    shown, address = products[:page_size], None
    if len(products) > page_size:
        address = replace_query_param(request.build_absolute_uri(), "after", shown[-1].pk)
    return {"products": describe_products(shown, Addresses(request)), "next": address}


def _visible(request: Request) -> ProductQuerySet:
    """Return the products that the client may see: what was taken off sale needs a key."""
    return Product.objects.active() if request.auth is None else Product.objects.all()


@extend_schema(
    methods=["GET"],
    operation_id="read_product",
    auth=PUBLIC,
    tags=["products"],
    summary="Read a product",
    responses={200: ProductSerializer, 404: ErrorSerializer},
)
@extend_schema(
    methods=["PUT"],
    operation_id="save_product",
    tags=["products"],
    summary="Create or change a product",
    request=ProductSerializer(partial=True),
    responses={200: ProductSerializer, 201: ProductSerializer, **ERRORS},
)
@extend_schema(
    methods=["DELETE"],
    operation_id="delete_product",
    tags=["products"],
    summary="Delete a product",
    responses={204: None, 404: ErrorSerializer, **ERRORS},
)
@api_view(["GET", "PUT", "DELETE"])
@permission_classes([ReadOrKey])
@throttle_classes([ProductThrottle])
def product(request: Request, sku: str) -> Response:
    """The product with this SKU, percent-encoded in the address. What a PUT does not mention stays as it is."""
    if request.method == "PUT":
        return _put_product(request, sku)
    if request.method == "DELETE":
        if "\x00" in sku or not delete_products([sku]):
            raise _no_product(sku)
        return Response(status=status.HTTP_204_NO_CONTENT)
    return Response(_describe_one(request, sku))


def _put_product(request: Request, sku: str) -> Response:
    row = request.data
    if not isinstance(row, dict) or not row:
        raise ParseError("The body is no product: expected a JSON object of columns.")
    if sku != sku.strip():
        raise ValidationError({"sku": [f"{sku!r:.120} begins or ends with a space: leave it out."]})
    if row.get("sku", sku) != sku:
        raise ValidationError({"sku": [f"The body says {row['sku']!r:.120}, the address {sku!r:.120}: send the same."]})
    result = save_rows([row | {"sku": sku}])
    if result.rejections:
        raise ValidationError({error.column or "row": [error.reason] for error in result.rejections})
    code = status.HTTP_201_CREATED if result.created else status.HTTP_200_OK
    return Response(_describe_one(request, sku), status=code)


def _describe_one(request: Request, sku: str) -> dict[str, Any]:
    found = _visible(request).filter(sku=sku) if "\x00" not in sku else Product.objects.none()
    if not (described := describe_products(list(found), Addresses(request))):
        raise _no_product(sku)
    return described[0]


def _no_product(sku: str) -> NotFound:
    return NotFound(f"There is no product with the SKU {sku!r:.120}.")
