"""How fast is a search over HTTP, alone and under load, beside the plain stack one would write otherwise?"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from urllib.parse import urlencode

import numpy as np

from bench.plain import PlainStack
from bench.report import Claim, run
from bench.shops import Shop, Site, open_icecat, serve, wait_for

WARM_UP = 40
CLIENTS = 4


def measure(arguments: argparse.Namespace) -> Iterator[Claim]:
    shop = open_icecat()
    queries = shop.make_queries(WARM_UP + 3 * arguments.queries)
    warm_up, queries = queries[:WARM_UP], queries[WARM_UP:]
    for_api, for_page, for_load = (queries[part::3] for part in range(3))
    with serve(shop, "--no-worker") as site:
        yield from measure_start(site)
        time_requests(site, "/api/v1/search/", warm_up)
        time_requests(site, "/search/", warm_up)
        api_ms = time_requests(site, "/api/v1/search/", for_api)
        yield Claim("API search, p50", float(np.median(api_ms)), "ms", "<= 15")
        yield Claim("API search, p95", float(np.quantile(api_ms, 0.95)), "ms", "<= 30")
        page_ms = time_requests(site, "/search/", for_page)
        yield Claim("results page, p50", float(np.median(page_ms)), "ms")
        yield Claim("results page, p95", float(np.quantile(page_ms, 0.95)), "ms", "<= 50")
        yield Claim(f"API searches, {CLIENTS} clients at once", measure_throughput(site, for_load), "/s")
        yield Claim("web process, resident", site.resident_mb(), "MB", "<= 450")
        yield Claim("torch loaded in the web process", float(site.has_loaded("libtorch")), "", "<= 0")
    plain = build_plain(shop)
    for name, search in (("plain stack", plain.search), ("plain stack with bm25s", plain.search_with_bm25s)):
        time_each(search, warm_up)
        plain_ms = time_each(search, for_api)
        yield Claim(f"{name}, p50", float(np.median(plain_ms)), "ms")
        yield Claim(f"{name}, p95", float(np.quantile(plain_ms, 0.95)), "ms")
        bar = ">= 10" if search == plain.search else ""
        yield Claim(f"times faster than the {name}, p50", float(np.median(plain_ms) / np.median(api_ms)), "", bar)


def measure_start(site: Site) -> Iterator[Claim]:
    seconds = wait_for(site, "/api/v1/search/?q=printer")
    yield Claim("first search answered, from the web server's start", site.web_age_s(), "s", "<= 2")
    yield Claim("first search answered, from `manage.py serve`", seconds, "s", "<= 10")


def time_requests(site: Site, path: str, queries: Sequence[str]) -> list[float]:
    """Return the milliseconds of one request per query, over one kept connection."""
    connection = site.connect()

    def ask(query: str) -> None:
        connection.request("GET", f"{path}?{urlencode({'q': query})}")
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise RuntimeError(f"{path} answered {response.status} to {query!r}: {body[:200]!r}")

    return time_each(ask, queries)


def time_each(function: Callable[[str], object], queries: Sequence[str]) -> list[float]:
    timings = []
    for query in queries:
        start = time.perf_counter()
        function(query)
        timings.append((time.perf_counter() - start) * 1000)
    return timings


def measure_throughput(site: Site, queries: Sequence[str]) -> float:
    """Return searches a second of several clients that each ask without pause."""
    parts = [queries[number::CLIENTS] for number in range(CLIENTS)]
    clients = [threading.Thread(target=time_requests, args=(site, "/api/v1/search/", part)) for part in parts]
    start = time.perf_counter()
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return len(queries) / (time.perf_counter() - start)


def build_plain(shop: Shop) -> PlainStack:
    import gzip

    with gzip.open(shop.products, "rt", encoding="utf-8") as file:
        return PlainStack([json.loads(line) for line in file], shop)


if __name__ == "__main__":
    run(
        __doc__,
        measure,
        queries={"type": int, "default": 250, "help": "different queries for each figure (default: 250)"},
    )
