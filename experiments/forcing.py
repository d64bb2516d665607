"""Links with which staff see a variant before, or while, shoppers do. What they do there is not counted."""

from __future__ import annotations

from django.core import signing
from django.http import HttpRequest, HttpResponse

COOKIE, SALT = "variants", "experiments.forcing"
LINK_LASTS_S, COOKIE_LASTS_S = 7 * 86_400, 8 * 3600
MOST_FORCED = 10  # experiments in one cookie


class BadLinkError(ValueError):
    """A link that was not made here, or is too old."""


def make_link_token(experiment: str, variant: str) -> str:
    """Return what a link carries; '' for the variant ends the forcing."""
    return signing.dumps([experiment, variant], salt=SALT, compress=True)


def read_link_token(token: str) -> tuple[str, str]:
    """Return experiment and variant; raises BadLinkError for a token not made here or older than a week."""
    try:
        experiment, variant = signing.loads(token, salt=SALT, max_age=LINK_LASTS_S)
    except (signing.BadSignature, ValueError, TypeError) as error:
        raise BadLinkError("the link is too old or was not made by this shop: make a new one in the admin") from error
    return str(experiment), str(variant)


def read_forced(request: HttpRequest) -> dict[str, str]:
    """Return the variants this browser was sent to see, by experiment; {} for a cookie that was not made here."""
    if COOKIE not in request.COOKIES:
        return {}
    try:
        found = signing.loads(request.COOKIES[COOKIE], salt=SALT, max_age=COOKIE_LASTS_S)
    except (signing.BadSignature, ValueError):
        return {}
    return {str(name): str(variant) for name, variant in found.items()} if isinstance(found, dict) else {}


def force(request: HttpRequest, response: HttpResponse, experiment: str, variant: str) -> None:
    """Have this browser see the variant for a working day; '' gives it back its own."""
    forced = dict([*read_forced(request).items()][-MOST_FORCED:]) | {experiment: variant}
    forced = {name: each for name, each in forced.items() if each}
    if not forced:
        response.delete_cookie(COOKIE)
        return
    response.set_cookie(
        COOKIE,
        signing.dumps(forced, salt=SALT, compress=True),
        max_age=COOKIE_LASTS_S,
        httponly=True,
        samesite="Lax",
        secure=request.is_secure(),
    )
