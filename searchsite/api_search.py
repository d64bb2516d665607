"""Searching and suggesting through the API: the same search as the page, as JSON."""

from __future__ import annotations

from decimal import Decimal

from django import forms
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import api_view, throttle_classes
from rest_framework.request import Request
from rest_framework.response import Response

from catalog.models import Product
from experiments.visitors import MAX_CLIENT_ID, name_visitor
from retrieval.engine.config import CONFIGS
from retrieval.engine.types import Sort
from retrieval.suggest import suggest
from searchsite.api_answers import Addresses, describe_category, describe_page, describe_suggested
from searchsite.api_parameters import NamedChoiceField, clean_parameters, describe_parameter
from searchsite.forms import FlagField, SearchForm
from searchsite.http import add_server_timing
from searchsite.search import search_products
from searchsite.serializers import ErrorSerializer, SearchResponseSerializer, SuggestResponseSerializer
from searchsite.throttles import SearchThrottle, SuggestThrottle

MAX_SUGGESTIONS = 20


class ApiSearchForm(SearchForm):
    """The page's parameters, and what only programs ask for."""

    sort = NamedChoiceField([sort.value for sort in Sort])
    config = NamedChoiceField(list(CONFIGS))
    explain = FlagField(required=False, initial=False)
    facets = FlagField(required=False, initial=True)
    client_id = forms.CharField(required=False, max_length=MAX_CLIENT_ID)


class SuggestForm(forms.Form):
    q = forms.CharField(required=False)
    limit = forms.IntegerField(required=False, min_value=1, max_value=MAX_SUGGESTIONS)


SEARCH_PARAMETERS = [
    describe_parameter("q", str, "What a shopper types. Empty browses everything."),
    describe_parameter("category", str, "A category's path, its whole subtree: 'kitchen/mugs'."),
    describe_parameter("brand", str, "Repeatable: any of them.", many=True),
    describe_parameter("price_min", Decimal, "Lowest price, in major units of the shop's currency: 12.50."),
    describe_parameter("price_max", Decimal, "Highest price."),
    describe_parameter("rating", float, "Fewest stars, 0 to 5."),
    describe_parameter("in_stock", bool, "Only what is in stock."),
    describe_parameter("attr.NAME", str, "Any attribute by its name: attr.colour=Red. Repeatable.", many=True),
    describe_parameter("sort", str, "The order of the hits.", enum=[sort.value for sort in Sort]),
    describe_parameter("page", int, "From 1."),
    describe_parameter("page_size", int, "Hits a page, 1 to 100; 24 when not given."),
    describe_parameter("verbatim", bool, "Search exactly this: no spelling correction."),
    describe_parameter("config", str, "How to search; the shop's own when not given.", enum=list(CONFIGS)),
    describe_parameter("explain", bool, "Tell of each hit its rank and score at every stage."),
    describe_parameter("facets", bool, "Count the values that narrow the results; on when not given.", default=True),
    describe_parameter("client_id", str, "Your id of the visitor: the search is then recorded, and has a `query_id`."),
]


@extend_schema(
    operation_id="search",
    tags=["search"],
    summary="Search the catalogue",
    parameters=SEARCH_PARAMETERS,
    responses={200: SearchResponseSerializer, 400: ErrorSerializer, 429: ErrorSerializer},
)
@api_view(["GET"])
@throttle_classes([SearchThrottle])
def search(request: Request) -> Response:
    """One page of hits with facets whose counts are true for the whole result set."""
    form = ApiSearchForm(request.query_params)
    asked = clean_parameters(form)
    visitor = name_visitor(request, asked["client_id"]) if asked["client_id"] else None
    page = search_products(form.to_query(), visitor, asked["config"] or None)
    response = Response(
        describe_page(page, Addresses(request), is_explained=asked["explain"], has_facets=asked["facets"])
    )
    return add_server_timing(response, page.results.timings_ms)


@extend_schema(
    operation_id="suggest",
    tags=["search"],
    summary="Complete a half-typed query",
    parameters=[
        describe_parameter("q", str, "What was typed so far."),
        describe_parameter("limit", int, "Products, 1 to 20; or 8."),
    ],
    responses={200: SuggestResponseSerializer, 400: ErrorSerializer, 429: ErrorSerializer},
)
@api_view(["GET"])
@throttle_classes([SuggestThrottle])
def suggest_queries(request: Request) -> Response:
    """Products, categories and what others searched for."""
    asked = clean_parameters(SuggestForm(request.query_params))
    found = suggest(asked["q"], limit=asked["limit"] or 8)
    addresses = Addresses(request)
    products = Product.objects.in_order([product.product_id for product in found.products])
    return Response(
        {
            "products": [describe_suggested(product, addresses) for product in products],
            "categories": list(map(describe_category, found.categories)),
            "queries": list(found.queries),
        }
    )
