"""Addresses of a results page with one thing changed: every facet value, chip, sort and page is a plain link."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlencode

from django.conf import settings
from django.http import QueryDict
from django.urls import reverse

from catalog.money import format_price, to_major
from retrieval.engine.types import Facet, FacetValue, Sort
from searchsite.forms import ATTRIBUTE_PREFIX, SearchForm
from searchsite.search import SearchPage

SORT_LABELS = {
    Sort.RELEVANCE: "Best match",
    Sort.PRICE_ASC: "Price, low to high",
    Sort.PRICE_DESC: "Price, high to low",
    Sort.RATING: "Best rated",
    Sort.NEWEST: "Newest",
}
# What stays the same question when a filter, sort or page changes.
QUESTION = ("q", "verbatim")
OPEN_FACETS = 5
Parameters = dict[str, list[str]]
PAGES_AROUND = 2


@dataclass(frozen=True, slots=True)
class Link:
    label: str
    url: str
    count: int = 0
    is_selected: bool = False
    depth: int = 0
    key: str = ""  # names the same choice on the page before and after, for the keyboard focus to stay on it


@dataclass(frozen=True, slots=True)
class FacetLinks:
    """Choices of one field. Where one `adds` to what is chosen, its count is how many more it shows."""

    field: str
    label: str
    links: tuple[Link, ...]
    is_open: bool
    adds: bool


@dataclass(frozen=True, slots=True)
class Choice:
    value: str
    label: str
    is_selected: bool


class ResultLinks:
    """All links of one results page."""

    def __init__(self, parameters: QueryDict, page: SearchPage) -> None:
        self._parameters, self._page, self._path = tidy_parameters(parameters), page, reverse("search:results")

    @property
    def here(self) -> str:
        return to_url(self._path, self._parameters)

    @property
    def title(self) -> str:
        """What the page shows, in a few words."""
        query, results = self._page.query, self._page.results
        if query.text.strip():
            return f"“{results.searched_text if results.corrected_from else query.text.strip()}”"
        if query.filters.category:
            return self._name_category(query.filters.category)
        return query.filters.brands[0] if len(query.filters.brands) == 1 else "All products"

    # --- narrowing ------------------------------------------------------------------------------------

    @cached_property
    def facets(self) -> list[FacetLinks]:
        return [self._facet(facet, number) for number, facet in enumerate(self._page.results.facets)]

    def _facet(self, facet: Facet, number: int) -> FacetLinks:
        links = tuple(self._facet_link(facet, value) for value in facet.values)
        is_chosen = any(link.is_selected for link in links)
        is_multiple = facet.field == "brand" or facet.field.startswith(ATTRIBUTE_PREFIX)
        is_open = number < OPEN_FACETS or is_chosen
        return FacetLinks(facet.field, facet.label, links, is_open, adds=is_multiple and is_chosen)

    def _facet_link(self, facet: Facet, value: FacetValue) -> Link:
        label = label_price(value.value) if facet.field == "price" else value.label
        key = f"f{zlib.crc32(f'{facet.field}={value.value}'.encode()):08x}"
        return Link(label, self._toggle(facet.field, value), value.count, value.is_selected, value.depth, key)

    def _toggle(self, field: str, value: FacetValue) -> str:
        """Return the address with this value chosen, or no longer."""
        if field == "category":
            parent = value.value.rpartition("/")[0]
            return self._with(category=parent if value.is_selected else value.value)
        if field == "price":
            low, high = ("", "") if value.is_selected else split_price(value.value)
            return self._with(price_min=low, price_max=high)
        if field == "rating":
            return self._with(rating="" if value.is_selected else value.value)
        if field == "stock":
            return self._with(in_stock="" if value.is_selected else "1")
        return self._toggle_in_list(field, value.value)

    def _toggle_in_list(self, name: str, value: str) -> str:
        chosen = self._parameters.get(name, [])
        others = [other for other in chosen if other.casefold() != value.casefold()]
        values = others if len(others) < len(chosen) else [*chosen, value]
        return to_url(self._path, self._without("page", name) | {name: values})

    @cached_property
    def chips(self) -> list[Link]:
        """Return what is filtered now, each with the address without it."""
        return list(self._find_chips())

    def _find_chips(self) -> Iterator[Link]:
        filters, currency = self._page.query.filters, settings.SEARCHSITE["CURRENCY"]
        if filters.category:
            yield Link(self._name_category(filters.category), self._with(category=""))
        for brand in filters.brands:
            yield Link(brand, self._toggle_in_list("brand", brand))
        low, high = filters.price_min_cents, filters.price_max_cents
        if low is not None or high is not None:
            yield Link(describe_range(low or None, high, currency), self._with(price_min="", price_max=""))
        if filters.rating_min is not None:
            yield Link(f"{filters.rating_min:g} stars and up", self._with(rating=""))
        if filters.in_stock:
            yield Link("In stock", self._with(in_stock=""))
        for name, values in filters.attributes:
            for value in values:
                yield Link(f"{name}: {value}", self._toggle_in_list(ATTRIBUTE_PREFIX + name, value))

    def _name_category(self, path: str) -> str:
        values = (value for facet in self._page.results.facets if facet.field == "category" for value in facet.values)
        names = {value.value: value.label for value in values}
        return names.get(path) or path.rpartition("/")[2].replace("-", " ").capitalize()

    @property
    def without_filters(self) -> str:
        return to_url(self._path, self._without(*(self._parameters.keys() - QUESTION)))

    # --- orders and pages -----------------------------------------------------------------------------

    @property
    def sorts(self) -> list[Choice]:
        current = self._page.query.sort
        return [Choice(sort.value, label, sort is current) for sort, label in SORT_LABELS.items()]

    @cached_property
    def pages(self) -> list[Link | None]:
        """Return links to the first, last and nearby pages, None where some are left out."""
        current, last = self._page.query.page, self._page.page_count
        near = range(current - PAGES_AROUND, current + PAGES_AROUND + 1)
        links: list[Link | None] = []
        before = 0
        for number in sorted(number for number in {1, last, *near} if 1 <= number <= last):
            # A gap of one page is that page's own link.
            skipped = range(before + 1, number)
            links += [self._page_link(number) for number in skipped] if len(skipped) == 1 else [None] * bool(skipped)
            links.append(self._page_link(number))
            before = number
        return links

    def _page_link(self, number: int) -> Link:
        return Link(str(number), self._page_url(number), is_selected=number == self._page.query.page)

    @property
    def previous(self) -> str:
        return self._page_url(self._page.query.page - 1) if self._page.query.page > 1 else ""

    @property
    def next(self) -> str:
        return self._page_url(self._page.query.page + 1) if self._page.query.page < self._page.page_count else ""

    @property
    def last(self) -> str:
        return self._page_url(max(self._page.page_count, 1))

    def _page_url(self, number: int) -> str:
        return self._with(page=str(number) if number > 1 else "")

    # --- the text -------------------------------------------------------------------------------------

    @property
    def verbatim(self) -> str:
        """The same search for exactly what was typed."""
        return self._with(q=self._page.results.corrected_from or self._page.query.text, verbatim="1")

    @property
    def suggested(self) -> str:
        return self._with(q=self._page.results.suggestion, verbatim="")

    # --- forms ----------------------------------------------------------------------------------------

    @property
    def kept_by_price(self) -> list[tuple[str, str]]:
        """Return the parameters that the form for a price range sends along."""
        return self._list_without("price_min", "price_max", "page")

    @property
    def kept_by_sort(self) -> list[tuple[str, str]]:
        return self._list_without("sort", "page")

    def _list_without(self, *names: str) -> list[tuple[str, str]]:
        return [(name, value) for name, values in self._without(*names).items() for value in values]

    def _with(self, **changes: str) -> str:
        changed = {name: [value] for name, value in changes.items() if value}
        return to_url(self._path, self._without("page", *changes) | changed)

    def _without(self, *names: str) -> Parameters:
        return {name: values for name, values in self._parameters.items() if name not in names}


def tidy_parameters(parameters: QueryDict) -> Parameters:
    """Return what a search reads of an address, once and in few words: nothing empty, unknown or usual."""
    tidy: Parameters = {}
    for name, values in parameters.lists():
        if name.startswith(ATTRIBUTE_PREFIX):
            tidy[name] = list(dict.fromkeys(values))
        elif name == "brand":
            tidy[name] = list(dict.fromkeys(map(str.strip, values)))
        elif (name in SearchForm.base_fields or name == "explain") and values[-1].strip() != USUAL.get(name):
            tidy[name] = [values[-1].strip()]
    told = {name: list(filter(None, values)) for name, values in tidy.items()}
    return {name: values for name, values in told.items() if values}


USUAL = {"page": "1", "sort": Sort.RELEVANCE.value}


def drop_parameters(parameters: QueryDict, names: Iterable[str]) -> str:
    """Return the address of the same search without these parameters; '' stands for all attributes."""
    dropped = set(names)
    kept = {
        name: values
        for name, values in tidy_parameters(parameters).items()
        if name not in dropped and not ("" in dropped and name.startswith(ATTRIBUTE_PREFIX))
    }
    return to_url(reverse("search:results"), kept)


def to_url(path: str, parameters: Parameters) -> str:
    text = urlencode(parameters, doseq=True, safe="/")
    return f"{path}?{text}" if text else path


def split_price(value: str) -> tuple[str, str]:
    """Return the ends of a price facet's 'LOW-HIGH' in major units, '' for an open end."""
    currency = settings.SEARCHSITE["CURRENCY"]
    low, _, high = value.partition("-")
    return f"{to_major(int(low), currency):f}", f"{to_major(int(high), currency):f}" if high else ""


def label_price(value: str) -> str:
    low, _, high = value.partition("-")
    return describe_range(int(low) or None, int(high) if high else None, settings.SEARCHSITE["CURRENCY"])


def describe_range(low: int | None, high: int | None, currency: str) -> str:
    """Return a price range in words; one end may be open."""
    if high is None:
        return f"{format_price(low or 0, currency)} and up"
    if low is None:
        return f"Up to {format_price(high, currency)}"
    return f"{format_price(low, currency)} to {format_price(high, currency)}"
