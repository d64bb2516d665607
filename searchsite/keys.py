"""API keys at the door: `Authorization: Bearer ssk_…` says who asks, and what a key may do, it may."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from django.contrib.auth.models import AnonymousUser
from django.db import DatabaseError
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated, PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from searchsite.models import KEY_PREFIX, ApiKey

if TYPE_CHECKING:  # which loads the settings, and these load this module
    from rest_framework.views import APIView

SCHEME = "Bearer"
HEADER_HELP = f"send it as 'Authorization: {SCHEME} {KEY_PREFIX}…'"

logger = logging.getLogger(__name__)


class ApiKeyAuthentication(BaseAuthentication):
    """Reads the key of a request. No key is no error: reading is public."""

    def authenticate(self, request: Request) -> tuple[AnonymousUser, ApiKey] | None:
        """Return the key that the request carries, as its `auth`; raises AuthenticationFailed for a wrong one."""
        scheme, _, secret = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != SCHEME.lower():
            return None
        key = _find_key(secret.strip())
        try:
            key.note_use()
        except DatabaseError as error:  # a database too busy to write can still be read
            logger.warning("use of API key %s was not noted: %s", key, error)
        return AnonymousUser(), key

    def authenticate_header(self, request: Request) -> str:
        return f'{SCHEME} realm="api"'


def _find_key(secret: str) -> ApiKey:
    if not secret.startswith(KEY_PREFIX) or not secret.isascii() or not secret.isprintable():
        raise AuthenticationFailed(f"That is no API key of this site; {HEADER_HELP}.")
    try:
        key = ApiKey.objects.find(secret)
    except ApiKey.DoesNotExist:
        raise AuthenticationFailed("This API key is not known. Make one with: manage.py make_api_key NAME") from None
    if key.is_revoked:
        raise AuthenticationFailed(f"The API key {key} was revoked. Make one with: manage.py make_api_key NAME")
    return key


class ReadOrKey(BasePermission):
    """Anyone may read; whoever writes needs a key that may write."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if request.method in SAFE_METHODS:
            return True
        if not isinstance(request.auth, ApiKey):
            raise NotAuthenticated(f"Writing needs an API key; {HEADER_HELP}.")
        if not request.auth.can_write:
            raise PermissionDenied(f"The API key {request.auth} may only read.")
        return True


class ReportsKey(BasePermission):
    """Only a key that may read reports reads them."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not isinstance(request.auth, ApiKey):
            raise NotAuthenticated(f"Reading reports needs an API key; {HEADER_HELP}.")
        if not request.auth.can_read_reports:
            told = "allow it in the admin, or make one with: manage.py make_api_key NAME --reports"
            raise PermissionDenied(f"The API key {request.auth} may not read reports; {told}")
        return True
