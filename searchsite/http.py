"""Small facts about requests and responses that several views need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from django.http import HttpRequest, HttpResponseBase
from django_htmx.middleware import HtmxDetails

from experiments.visitors import ShopVisitor

Response = TypeVar("Response", bound=HttpResponseBase)


class ShopRequest(HttpRequest):
    """A request after the middleware."""

    htmx: HtmxDetails
    visitor: ShopVisitor


def wants_fragment(request: ShopRequest) -> bool:
    """Return whether htmx swaps in a part: not for a boosted link or a page restored from history."""
    return bool(request.htmx) and not request.htmx.boosted and not request.htmx.history_restore_request


def add_server_timing(response: Response, timings_ms: Mapping[str, float]) -> Response:
    """Add each stage's milliseconds as a `Server-Timing` header, which browsers show beside the request."""
    response["Server-Timing"] = ", ".join(f"{stage};dur={ms:.2f}" for stage, ms in timings_ms.items())
    return response
