"""Who is at the shop: what is known of a visitor from one request, and whether anything may be recorded."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from django.conf import settings
from django.http import HttpRequest

from experiments.assignment import Visitor
from experiments.forcing import read_forced

COOKIE = "visitor"
COOKIE_AGE_S = 365 * 86_400
MAX_CLIENT_ID = 100  # UBI 1.3
SITE = "shop"  # the application that what happens on the site's own pages names
API = "api"  # what is searched through the API
SHOWN_HEADER = "X-Query-Id"

_ID = re.compile(r"[A-Za-z0-9_-]{22}")
_BOT = re.compile(r"(?<!cu)bot(?:\b|_)|crawl|spider|slurp|scrape|monitor|preview|facebookexternalhit|lighthouse", re.I)
_TABLET = re.compile(r"ipad|tablet|kindle|silk/|playbook|android(?!.*mobile)", re.I)
_MOBILE = re.compile(r"mobi|iphone|ipod|windows phone|opera mini", re.I)
_LANGUAGE = re.compile(r"\s*([A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8}){0,4})\s*(?:[,;]|$)")


@dataclass(frozen=True, slots=True)
class ShopVisitor(Visitor):
    """A visitor of the site. `device`: mobile, tablet or desktop.

    `is_logged`: whether what the visitor does is recorded. `shown`: id of the search on the page that the request
    comes from. `traces`: what was recorded in this request, for the middleware to know that a cookie is needed.
    """

    is_logged: bool = True
    is_bot: bool = False
    application: str = SITE
    shown: str = ""
    traces: list[str] = field(default_factory=list, compare=False, repr=False)


def read_visitor(request: HttpRequest) -> ShopVisitor:
    """Return the visitor of this request: the one of its cookie, or a new one.

    Staff who were sent to see a variant are not logged: what they search for and click is no shopper's choice.
    """
    may_log = may_record(request.headers) and not (is_mere_look(request) or read_forced(request))
    return ShopVisitor(
        id=find_cookie(request) if may_log else make_id(),
        device=find_device(request.headers),
        language=find_language(request.headers),
        is_logged=may_log,
        is_bot=is_of_bot(request.headers),
        shown=request.headers.get(SHOWN_HEADER, ""),
    )


def name_visitor(request: HttpRequest, client_id: str) -> ShopVisitor:
    """Return the visitor whom a shop's own front end names by an id of its own, and whose headers it passes on."""
    return ShopVisitor(
        id=client_id,
        device=find_device(request.headers),
        language=find_language(request.headers),
        is_logged=may_record(request.headers),
        is_bot=is_of_bot(request.headers),
        application=API,
        shown=request.headers.get(SHOWN_HEADER, ""),
    )


def make_id() -> str:
    """Return a new visitor's id: 128 random bits, which nobody guesses."""
    return secrets.token_urlsafe(16)


def find_cookie(request: HttpRequest) -> str:
    """Return the id in the request's cookie, a new one where there is none of ours."""
    found = request.COOKIES.get(COOKIE, "")
    return found if _ID.fullmatch(found) else make_id()


def may_record(headers: Mapping[str, str]) -> bool:
    """Return whether the shop keeps events, and of whoever sends these headers: no bot, and nobody who opted out."""
    return settings.SEARCHSITE["EVENTS"] and not (is_of_bot(headers) or has_opted_out(headers))


def is_of_bot(headers: Mapping[str, str]) -> bool:
    """Return whether the sender calls itself a program."""
    return bool(_BOT.search(headers.get("User-Agent", "")))


def has_opted_out(headers: Mapping[str, str]) -> bool:
    """Return whether the browser asks not to be tracked: Do Not Track, or Global Privacy Control."""
    return headers.get("DNT") == "1" or headers.get("Sec-GPC") == "1"


def is_mere_look(request: HttpRequest) -> bool:
    """Return whether a program looks ahead or checks a link: nobody has seen or clicked anything then."""
    purpose = request.headers.get("Sec-Purpose", "") or request.headers.get("Purpose", "")
    return request.method == "HEAD" or "prefetch" in purpose


def find_device(headers: Mapping[str, str]) -> str:
    """Return mobile, tablet or desktop, as far as the browser tells."""
    agent = headers.get("User-Agent", "")
    if _TABLET.search(agent):
        return "tablet"
    is_mobile = headers.get("Sec-CH-UA-Mobile") == "?1" or _MOBILE.search(agent)
    return "mobile" if is_mobile else "desktop"


def find_language(headers: Mapping[str, str]) -> str:
    """Return the language the browser names first, a tag such as 'de-AT'; '' where it names none."""
    found = _LANGUAGE.match(headers.get("Accept-Language", ""))
    return found[1] if found else ""
