"""What a browser tells of its visitor: results seen and clicked, with and without JavaScript."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.test_shopper import ROOT, browser, free_port, wait_for  # noqa: F401 - a fixture

pytestmark = pytest.mark.browser
READ_LOG = """
import json
from experiments.events import flush_recorded
from experiments.models import Event, SearchLog
flush_recorded()
events = Event.objects.order_by("position").values("action_name", "query_id", "client_id", "object_id", "position")
print(json.dumps({"searches": list(SearchLog.objects.values("query_id", "client_id", "text")), "events": list(events)}))
"""


@dataclass(frozen=True)
class Site:
    address: str
    environment: dict[str, str]

    def read_log(self, visitor: str, is_there: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return a visitor's searches and events once what is waited for is among them."""
        command = [sys.executable, "manage.py", "shell", "--verbosity", "0", "--command", READ_LOG]
        found: dict[str, Any] = {}
        for _ in range(10):
            answer = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=True)
            log = json.loads(answer.stdout)
            found = {name: [row for row in rows if row["client_id"] == visitor] for name, rows in log.items()}
            if is_there(found):
                return found
            time.sleep(0.5)
        raise AssertionError(f"it did not come: {found}")


@pytest.fixture(scope="module")
def site(tmp_path_factory, default_model) -> Iterator[Site]:
    """A running sample shop of 300 products without a worker, in processes of its own."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "models").symlink_to(default_model.parent)
    cleared = dict.fromkeys(("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "QDRANT_URL"), "")
    environment = os.environ | cleared | {"SEARCHSITE_DATA_DIR": str(folder)}
    manage, port = [sys.executable, "manage.py"], free_port()
    subprocess.run([*manage, "demo", "--products", "300", "--no-serve"], cwd=ROOT, env=environment, check=True)
    process = subprocess.Popen([*manage, "serve", "--no-worker", "--port", str(port)], cwd=ROOT, env=environment)
    try:
        wait_for(f"http://127.0.0.1:{port}", process)
        yield Site(f"http://127.0.0.1:{port}", environment)
    finally:
        process.terminate()
        process.wait(30)


def find_visitor(page: Page) -> str:
    return next((str(cookie["value"]) for cookie in page.context.cookies() if cookie["name"] == "visitor"), "")


def count(log: dict[str, Any], action: str) -> int:
    return sum(event["action_name"] == action for event in log["events"])


def test_what_is_in_view_is_seen_and_what_is_clicked_is_clicked(browser: Browser, site: Site):  # noqa: F811
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


def test_a_click_counts_without_javascript(browser: Browser, site: Site):  # noqa: F811
    context = browser.new_context(base_url=site.address, java_script_enabled=False)
    page = context.new_page()
    page.goto("/search/?page=2")
    page.locator("#results .card a").nth(2).click()
    page.reload()
    log = site.read_log(find_visitor(page), lambda log: count(log, "click") == 1)
    assert [(event["action_name"], event["position"]) for event in log["events"]] == [("click", 27)]
    assert len(log["searches"]) == 1
    context.close()


def test_nothing_is_told_of_who_asks_for_it(browser: Browser, site: Site):  # noqa: F811
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
