"""Who visits: what a request tells of them, whether they are recorded, and the cookie they get for it."""

from __future__ import annotations

import re

import pytest
from django.test import RequestFactory

from experiments.events import flush_recorded
from experiments.models import SearchLog
from experiments.visitors import COOKIE, name_visitor, read_visitor
from tests.factories import make_product

PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Version/17.5 Mobile/15E148 Safari"
ANDROID = "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 Chrome/126.0.0.0 Mobile Safari/537.36"
TABLET = "Mozilla/5.0 (Linux; Android 14; SM-X910) AppleWebKit/537.36 Chrome/126.0.0.0 Safari/537.36"
DESKTOP = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/126.0.0.0 Safari/537.36"
CUBOT = "Mozilla/5.0 (Linux; Android 11; CUBOT X30) AppleWebKit/537.36 Chrome/126.0.0.0 Mobile Safari/537.36"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


def ask(method: str = "GET", **headers: str):
    return RequestFactory(headers={name.replace("_", "-"): value for name, value in headers.items()}).generic(
        method, "/"
    )


@pytest.mark.parametrize(
    ("agent", "device"),
    [(PHONE, "mobile"), (ANDROID, "mobile"), (TABLET, "tablet"), (DESKTOP, "desktop"), ("", "desktop")],
)
def test_the_device_is_told_by_the_browser(agent, device):
    assert read_visitor(ask(user_agent=agent)).device == device


@pytest.mark.parametrize(
    ("accepted", "language"),
    [("de-AT,de;q=0.9,en;q=0.5", "de-AT"), ("en", "en"), ("fr;q=0.8", "fr"), ("*", ""), ("", ""), ("<script>", "")],
)
def test_the_language_is_the_one_named_first(accepted, language):
    assert read_visitor(ask(accept_language=accepted)).language == language


@pytest.mark.parametrize("agent", [GOOGLEBOT, "bingbot/2.0", "Baiduspider+(x)", "facebookexternalhit/1.1"])
def test_bots_are_not_logged(agent):
    for visitor in (read_visitor(ask(user_agent=agent)), name_visitor(ask(user_agent=agent), "shop-id")):
        assert (visitor.is_bot, visitor.is_logged) == (True, False)


@pytest.mark.parametrize("agent", [PHONE, DESKTOP, CUBOT])
def test_people_are_logged(agent):
    for visitor in (read_visitor(ask(user_agent=agent)), name_visitor(ask(user_agent=agent), "shop-id")):
        assert (visitor.is_bot, visitor.is_logged) == (False, True)


@pytest.mark.parametrize("headers", [{"dnt": "1"}, {"sec_gpc": "1"}])
def test_who_opts_out_is_not_logged_under_any_name(headers):
    request = ask(**headers)
    request.COOKIES[COOKIE] = "a" * 22
    visitor = read_visitor(request)
    assert not visitor.is_logged
    assert visitor.id != "a" * 22
    assert not name_visitor(request, "shop-id").is_logged


@pytest.mark.parametrize("headers", [{"dnt": "0"}, {"sec_gpc": "0"}])
def test_who_does_not_opt_out_is_logged(headers):
    assert read_visitor(ask(**headers)).is_logged


def test_looking_ahead_is_no_visit():
    assert not read_visitor(ask(sec_purpose="prefetch;prerender")).is_logged
    assert not read_visitor(ask("HEAD")).is_logged


def test_nobody_is_logged_when_the_shop_keeps_no_events(settings):
    settings.SEARCHSITE = settings.SEARCHSITE | {"EVENTS": False}
    assert not read_visitor(ask()).is_logged
    assert not name_visitor(ask(), "shop-id").is_logged


@pytest.mark.parametrize("cookie", ["", "short", "a" * 23, "a" * 5000, "é" * 22, "a\x00" + "b" * 20])
def test_a_cookie_that_is_not_ours_is_no_name(cookie):
    request = ask()
    request.COOKIES[COOKIE] = cookie
    assert re.fullmatch(r"[\w-]{22}", read_visitor(request).id)
    assert read_visitor(request).id != cookie


def test_a_cookie_comes_with_the_first_search_and_stays(client, log):
    assert COOKIE not in client.get("/").cookies
    answer = client.get("/search/", {"q": "mug"})
    cookie = answer.cookies[COOKIE]
    assert (cookie["httponly"], cookie["samesite"], cookie["max-age"]) == (True, "Lax", 365 * 86_400)
    assert not cookie["secure"]
    assert "private" in answer["Cache-Control"]
    assert COOKIE not in client.get("/search/", {"q": "pot"}).cookies
    flush_recorded()
    assert set(SearchLog.objects.values_list("client_id", flat=True)) == {cookie.value}


def test_the_cookie_is_for_https_alone_where_the_site_is(client, log, settings):
    settings.SESSION_COOKIE_SECURE = True
    assert client.get("/search/", {"q": "mug"}).cookies[COOKIE]["secure"]


@pytest.mark.parametrize("headers", [{"DNT": "1"}, {"Sec-GPC": "1"}, {"User-Agent": GOOGLEBOT}])
def test_nothing_is_kept_or_signed_of_who_is_not_logged(client, log, headers):
    make_product("Red mug", sku="M1")
    answer = client.get("/search/", {"q": "mug"}, headers=headers)
    html = answer.content.decode()
    assert "/product/M1/" in html
    assert "?ref=" not in html
    assert "X-Query-Id" not in html
    assert COOKIE not in answer.cookies
    assert flush_recorded() == 0


def test_who_opts_out_later_loses_the_cookie(client, log):
    client.get("/search/", {"q": "mug"})
    answer = client.get("/", headers={"Sec-GPC": "1"})
    assert answer.cookies[COOKIE]["max-age"] == 0
