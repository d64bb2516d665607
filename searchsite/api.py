"""What all of the API shares: its errors, always JSON, and how it is described."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import OperationalError
from django.http import Http404
from django.urls import reverse
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import api_view
from rest_framework.exceptions import APIException, NotFound, ParseError, ValidationError
from rest_framework.exceptions import PermissionDenied as ApiPermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import exception_handler

from retrieval.engine.types import IndexUnavailable
from searchsite.keys import HEADER_HELP, ApiKeyAuthentication
from searchsite.parsers import TooLargeError

logger = logging.getLogger(__name__)


class ServerError(APIException):
    default_code = "server_error"
    default_detail = "The server made an error, and has noted it. Trying again may help."


class DatabaseUnavailable(APIException):
    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "database_unavailable"
    default_detail = "The database does not answer now; try again in a few seconds."
    wait = 5


class SearchUnavailable(APIException):
    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "index_unavailable"
    default_detail = "No search index can answer now; try again in a few seconds."
    wait = 5


KNOWN_ERRORS: tuple[tuple[type[Exception], Callable[[], APIException]], ...] = (
    (Http404, NotFound),
    (PermissionDenied, ApiPermissionDenied),
    (RequestDataTooBig, lambda: TooLargeError("The request is too large.")),
    (SuspiciousOperation, lambda: ParseError("The request is not sound.")),
    (OperationalError, DatabaseUnavailable),
    (IndexUnavailable, SearchUnavailable),
)


def handle_exception(exception: Exception, context: dict[str, Any]) -> Response:
    """Return the error as JSON: {"error": {"code", "message", "fields"?}}. `fields` names wrong parameters."""
    known = _to_api_exception(exception)
    if isinstance(known, ServerError | DatabaseUnavailable | SearchUnavailable):
        logger.error("%s: %s", context["request"].path, exception, exc_info=exception)
    response = exception_handler(known, context)
    assert response is not None  # it is one of REST framework's own
    response.data = {"error": _describe(known)}
    return response


def _to_api_exception(exception: Exception) -> APIException:
    if isinstance(exception, APIException):
        return exception
    return next((make() for kinds, make in KNOWN_ERRORS if isinstance(exception, kinds)), ServerError())


def _describe(exception: APIException) -> dict[str, object]:
    if isinstance(exception, ValidationError) and isinstance(exception.detail, dict):
        fields = {name: [str(message) for message in messages] for name, messages in exception.detail.items()}
        message = "; ".join(f"{name}: {' '.join(messages)}" for name, messages in fields.items())
        return {"code": "invalid", "message": message, "fields": fields}
    detail = exception.detail
    if isinstance(detail, list):
        detail = detail[0]
    return {"code": getattr(detail, "code", exception.default_code), "message": str(detail)}


@extend_schema(exclude=True)
@api_view(["GET", "POST", "PUT", "PATCH", "DELETE"])
def find_nothing(request: Request) -> Response:
    """Send on to the address with a slash at its end, keeping method and body; else say that nothing is there."""
    if request.path.endswith("/"):
        raise NotFound(f"There is nothing at {request.path}. What there is: {reverse('api:docs')}")
    address = request.get_full_path(force_append_slash=True)
    return Response(status=status.HTTP_308_PERMANENT_REDIRECT, headers={"Location": address})


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Tells the OpenAPI schema how a key is sent."""

    target_class = ApiKeyAuthentication
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": f"An API key; {HEADER_HELP}."}
