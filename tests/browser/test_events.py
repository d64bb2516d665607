"""What a browser tells of its visitor: results seen and clicked, with and without JavaScript."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.shops import Site

pytestmark = pytest.mark.browser


def find_visitor(page: Page) -> str:
    return next((str(cookie["value"]) for cookie in page.context.cookies() if cookie["name"] == "visitor"), "")


def count(log: dict[str, Any], action: str) -> int:
    return sum(event["action_name"] == action for event in log["events"])


def test_what_is_in_view_is_seen_and_what_is_clicked_is_clicked(browser: Browser, site: Site):
    context = browser.new_context(base_url=site.address, viewport={"width": 1000, "height": 600})
    page = context.new_page()
    with page.expect_request("**/seen/") as told:
        page.goto("/search/")
    assert told.value.method == "POST"
    visitor = find_visitor(page)
    shown = page.locator("#results .card").count()
    seen = count(site.read_log(visitor, lambda log: count(log, "impression") > 0), "impression")
    assert 0 < seen < shown == 24

    with page.expect_request("**/seen/"):
        page.get_by_label("Sort by").select_option("price_asc")  # swaps the results
        page.wait_for_url("**sort=price_asc")
    page.get_by_role("link", name="Next").scroll_into_view_if_needed()
    title = page.locator("#results .card .title").last
    title.scroll_into_view_if_needed()
    title.click()
    expect(page.locator("article.product")).to_be_visible()
    log = site.read_log(visitor, lambda log: count(log, "click") == 1 and count(log, "impression") > seen)
    click = next(event for event in log["events"] if event["action_name"] == "click")
    assert click["position"] == 24
    assert [click["query_id"]] == [search["query_id"] for search in log["searches"]]
    context.close()


def test_a_click_counts_without_javascript(browser: Browser, site: Site):
    context = browser.new_context(base_url=site.address, java_script_enabled=False)
    page = context.new_page()
    page.goto("/search/?page=2")
    page.locator("#results .card a").nth(2).click()
    page.reload()
    log = site.read_log(find_visitor(page), lambda log: count(log, "click") == 1)
    assert [(event["action_name"], event["position"]) for event in log["events"]] == [("click", 27)]
    assert len(log["searches"]) == 1
    context.close()


def test_nothing_is_told_of_who_asks_for_it(browser: Browser, site: Site):
    context = browser.new_context(base_url=site.address, extra_http_headers={"Sec-GPC": "1"})
    page = context.new_page()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto("/search/")
    page.wait_for_timeout(3_500)  # longer than it takes to see and to tell
    page.locator("#results .card a").first.click()
    expect(page.locator("article.product")).to_be_visible()
    assert not [url for url in requests if "/seen/" in url or "ref=" in url]
    assert find_visitor(page) == ""
    context.close()
