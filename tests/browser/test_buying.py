"""A shopper who searches, buys and comes back to the order, in a real browser; and what is known of it then."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.shops import Site

pytestmark = pytest.mark.browser
START = """
from django.contrib.auth.models import Permission, User
from experiments.control import start
from experiments.models import Experiment, Variant
experiment = Experiment.objects.create(name="words", metric="revenue")
Variant.objects.create(experiment=experiment, name="own", is_champion=True)
Variant.objects.create(experiment=experiment, name="words", changes={"dense_weight": 0.5})
start(experiment)
analyst = User.objects.create_user("analyst", password="reads")
analyst.user_permissions.add(Permission.objects.get(codename="view_report"))
"""
REPORT = "from experiments.events import flush_recorded; flush_recorded()\n"
REPORT += "from experiments.reports import refresh_running; refresh_running()"


@pytest.mark.parametrize("has_script", [True, False], ids=["with JavaScript", "without"])
def test_search_open_add_buy(browser: Browser, site: Site, has_script: bool):
    context = browser.new_context(base_url=site.address, java_script_enabled=has_script)
    page = context.new_page()
    page.goto("/search/?q=chair&in_stock=1")
    page.locator(".card a").first.click()
    title = page.locator("h1").inner_text()
    page.get_by_label("Quantity").fill("2")
    page.get_by_role("button", name="Add to cart").press("Enter")
    expect(page.get_by_role("status").first).to_have_text(f"In your cart: 2 × {title}.")
    expect(page.get_by_role("status").first).to_be_focused()

    page.get_by_role("button", name=f"Remove {title}").click()
    expect(page.get_by_role("heading", name="The cart is empty.")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_label(f"Quantity of {title}")).to_have_value("2")
    expect(page.get_by_role("link", name="Cart 2 pieces")).to_be_visible()

    page.get_by_role("link", name="Check out").click()
    expect(page.get_by_text("This shop takes no payment")).to_be_visible()
    page.get_by_label("Name").fill("Ada")
    page.get_by_role("button", name="Place the order").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Thank you, Ada")
    address, number = page.url, page.locator(".number").inner_text()
    page.reload()
    expect(page.locator(".number")).to_have_text(number)
    page.go_back()
    expect(page.get_by_role("heading", name="The cart is empty.")).to_be_visible()
    page.goto(address)
    expect(page.locator("tbody tr")).to_have_count(1)

    client_id = next(cookie["value"] for cookie in context.cookies() if cookie["name"] == "visitor")
    context.close()
    log = site.read_log(client_id, lambda log: any(event["action_name"] == "purchase" for event in log["events"]))
    click, added, bought = [event for event in log["events"] if event["action_name"] != "impression"]
    assert [event["action_name"] for event in (click, added, bought)] == ["click", "add_to_cart", "purchase"]
    assert click["query_id"] == added["query_id"] == bought["query_id"]
    assert (click["object_id"], click["position"]) == (bought["object_id"], bought["position"])
    assert bought["position"] == 1
    assert (bought["quantity"], bought["currency"]) == (2, "USD")
    assert bought["value_cents"] == added["value_cents"] > 0


def test_an_analyst_reads_exactly_what_shoppers_did(browser: Browser, site: Site):
    site.run(START)
    time.sleep(1.5)  # running experiments are read anew each second
    for number in range(2):
        context = browser.new_context(base_url=site.address)
        page = context.new_page()
        page.goto("/search/?q=table&in_stock=1")
        page.locator(".card a").first.click()
        if number == 0:
            page.get_by_role("button", name="Add to cart").press("Enter")
            page.get_by_role("link", name="Check out").click()
            page.get_by_label("Name").fill("Grace")
            page.get_by_role("button", name="Place the order").click()
            expect(page.get_by_role("heading", level=1)).to_have_text("Thank you, Grace")
        context.close()
    page = browser.new_context(base_url=site.address).new_page()
    page.goto("/reports/words/")
    page.get_by_label("Username").fill("analyst")
    page.get_by_label("Password").fill("reads")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("words")
    for _ in range(10):  # what the site recorded leaves its memory each second
        site.run(REPORT)
        page.reload()
        if read_funnel(page) == (2, 2, 1, 1):
            break
        time.sleep(1)
    assert read_funnel(page) == (2, 2, 1, 1)
    expect(page.get_by_role("status").first).to_contain_text("Not yet")


def read_funnel(page: Page) -> tuple[int, ...]:
    """Return how many visitors of both variants searched, clicked, added and bought."""
    steps = [int(text.split(" ")[0]) for text in page.locator(".funnels li > span:last-child").all_inner_texts()]
    return tuple(steps[place] + steps[place + 4] for place in range(4)) if len(steps) == 8 else ()
