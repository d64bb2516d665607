"""A shopper in a real browser: once with JavaScript, once without."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.shops import serve_shop

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site(tmp_path_factory, default_model) -> Iterator[str]:
    """The address of a shop of 2,000 products."""
    with serve_shop(tmp_path_factory.mktemp("shop"), default_model, 2000) as served:
        yield served.address


@pytest.fixture
def page(browser: Browser, site: str) -> Iterator[Page]:
    """A new window at the front door; an error of a script fails the test."""
    context = browser.new_context(base_url=site)
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.goto("/")
    yield opened
    context.close()
    assert errors == []


def total(page: Page) -> int:
    return int(page.locator("#results").get_attribute("data-total") or -1)


def go_back(page: Page, end_of_url: str, shown: str) -> None:
    """Press the browser's Back; the results page may load itself anew then."""
    page.evaluate("setTimeout(() => history.back())")
    expect(page).to_have_url(re.compile(re.escape(end_of_url) + "$"))
    expect(page.locator("#results")).to_have_attribute("data-total", shown)


def test_search_by_keyboard_narrow_sort_turn_the_page_and_come_back(page: Page):
    box = page.get_by_role("combobox", name="Search products")
    box.press_sequentially("garden h", delay=30)
    listbox = page.get_by_role("listbox", name="Suggestions")
    expect(listbox).to_be_visible()
    expect(box).to_have_attribute("aria-expanded", "true")
    box.press("ArrowDown")
    expect(listbox.locator('[aria-selected="true"]')).to_have_count(1)
    expect(box).to_have_attribute("aria-activedescendant", "suggestion-0")
    box.press("Escape")
    expect(listbox).to_be_hidden()
    expect(box).to_have_value("garden h")

    box.fill("")
    box.press_sequentially("chair", delay=30)
    expect(listbox).to_be_visible()
    box.press("Enter")
    page.wait_for_url("**/search/?q=chair")
    everything = total(page)
    assert everything > 24

    choice = page.locator('details[data-facet="category"] li').first
    promised = int(choice.locator(".count").inner_text().replace(",", ""))
    choice.get_by_role("link").click()
    expect(page.get_by_role("list", name="Chosen filters")).to_be_visible()
    assert total(page) == promised < everything
    assert "category=" in page.url
    narrowed = page.url

    page.get_by_label("Sort by").select_option("price_asc")
    page.wait_for_url("**sort=price_asc**")
    sorted_url = page.url
    expect(page.locator(".card .price").first).to_be_visible()
    prices = [float(text.lstrip("$").replace(",", "")) for text in page.locator(".card .price").all_inner_texts()]
    assert prices == sorted(prices)

    page.get_by_role("link", name="Clear all").click()
    page.wait_for_url("**/search/?q=chair")
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Page 2").click()
    page.wait_for_url("**page=2")
    expect(page.locator('.pages [aria-current="page"]')).to_have_text("Page 2")
    title = page.locator(".card .title").first.inner_text()
    page.locator(".card a").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(title)
    go_back(page, "page=2", str(everything))
    expect(page.locator(".card .title").first).to_have_text(title)
    go_back(page, "/search/?q=chair", str(everything))
    go_back(page, sorted_url, str(promised))
    go_back(page, narrowed, str(promised))
    expect(page.get_by_role("list", name="Chosen filters")).to_be_visible()
    assert total(page) == promised


def test_a_suggested_product_opens_by_keyboard(page: Page):
    box = page.get_by_role("combobox", name="Search products")
    box.press_sequentially("teddy be", delay=30)
    products = page.get_by_role("group", name="Products").get_by_role("option")
    expect(products.first).to_contain_text("eddy")
    title = products.last.locator("[data-mark]").inner_text()
    box.press("ArrowUp")  # the last one is a product
    box.press("Enter")
    page.wait_for_url("**/product/**")
    expect(page.get_by_role("heading", level=1)).to_contain_text(title.removesuffix("…"))


def test_everything_works_without_javascript(browser: Browser, site: str):
    context = browser.new_context(base_url=site, java_script_enabled=False)
    page = context.new_page()
    page.goto("/")
    page.locator("#q").fill("chair")
    page.locator("#q").press("Enter")
    assert page.url.endswith("/search/?q=chair")
    everything = total(page)
    choice = page.locator('details[data-facet="category"] li').first
    promised = int(choice.locator(".count").inner_text().replace(",", ""))
    choice.get_by_role("link").click()
    assert total(page) == promised < everything
    page.locator("#sort").select_option("price_desc")
    page.locator(".sort button").click()
    assert "sort=price_desc" in page.url
    assert "category=" in page.url
    prices = [float(text.lstrip("$").replace(",", "")) for text in page.locator(".card .price").all_inner_texts()]
    assert prices == sorted(prices, reverse=True)
    page.get_by_role("link", name="Clear all").click()
    page.locator('.pages [rel="next"]').click()
    assert "page=2" in page.url
    title = page.locator(".card .title").first.inner_text()
    page.locator(".card a").first.click()
    assert page.locator("h1").inner_text() == title
    page.go_back()
    assert "page=2" in page.url
    context.close()


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(browser: Browser, site: str, width: int, scheme: str):
    context = browser.new_context(base_url=site, viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    for address in ("/", "/search/?q=chair", "/search/?q=" + "x" * 300, "/search/?page=0", "/nothing"):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address
    context.close()
