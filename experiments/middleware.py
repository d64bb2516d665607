"""Every request knows its visitor; a cookie is set only once something was recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.utils.cache import patch_cache_control

from experiments.visitors import COOKIE, COOKIE_AGE_S, ShopVisitor, has_opted_out, read_visitor

Response = TypeVar("Response", bound=HttpResponseBase)


class VisitorMiddleware:
    """Sets `request.visitor`."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.visitor = visitor = read_visitor(request)  # type: ignore[attr-defined]
        response = self._get_response(request)
        if COOKIE in request.COOKIES and has_opted_out(request.headers):
            response.delete_cookie(COOKIE, samesite="Lax")
        return remember(request, visitor, response)


def remember(request: HttpRequest, visitor: ShopVisitor, response: Response) -> Response:
    """Keep a page that holds references out of shared caches, and give a visitor just recorded a cookie."""
    if visitor.traces:
        patch_cache_control(response, private=True)
        if request.COOKIES.get(COOKIE) != visitor.id:
            is_secure = settings.SESSION_COOKIE_SECURE
            response.set_cookie(
                COOKIE, visitor.id, max_age=COOKIE_AGE_S, httponly=True, samesite="Lax", secure=is_secure
            )
    return response
