"""How many events come in a second over HTTP, and what does recording them add to a search?"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlencode

import numpy as np
import psycopg

from bench.report import Claim, run
from bench.shops import FOLDER, Shop, Site, open_icecat, serve, wait_for
from catalog.sample.shop import generate_products

BATCH = 500
CLIENTS = 2
PRODUCTS = 500
WARM_UP = 40
ACTIONS = ("impression", "impression", "impression", "click", "add_to_cart")
VISITOR = "b" * 22


def measure(arguments: argparse.Namespace) -> Iterator[Claim]:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=FOLDER) as folder, make_database(arguments.database) as url:
        yield from measure_intake(make_shop(Path(folder), url), arguments.seconds)
    yield from measure_logging(open_icecat(), arguments.queries)


# --- taking in ----------------------------------------------------------------------------------------


@contextmanager
def make_database(server: str) -> Iterator[str]:
    """Yield the address of an empty database beside the one named, and remove it in the end."""
    name = f"searchsite_bench_{uuid.uuid4().hex[:8]}"
    try:
        connection = psycopg.connect(server, autocommit=True)
    except psycopg.OperationalError as error:
        sys.exit(f"no PostgreSQL at {server} ({error}); name one with --database")
    with connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    try:
        yield f"{server.rpartition('/')[0]}/{name}"
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def make_shop(folder: Path, url: str) -> Shop:
    """Return a shop with products and no index: events need none."""
    settings = {"DATABASE_URL": url, "SEARCHSITE_EVENTS_RATE": "1000000/min"}
    shop = Shop("events", folder / "shop", folder, folder, folder / "products.jsonl", settings)
    lines = (json.dumps(product, default=str) for product in generate_products(PRODUCTS, seed=1))
    shop.products.write_text("\n".join(lines), encoding="utf-8")
    shop.manage("migrate", "--verbosity", "0")
    shop.manage("import_products", str(shop.products), "--json")
    return shop


def measure_intake(shop: Shop, seconds: float) -> Iterator[Claim]:
    key = json.loads(shop.manage("make_api_key", "bench", "--json"))["key"]
    skus = [str(product["sku"]) for product in generate_products(PRODUCTS, seed=1)]
    with serve(shop, "--no-worker") as site:
        wait_for(site, "/healthz")
        send_events(site, key, skus, 1.0)
        senders = [_Sender(site, key, skus, seconds) for _ in range(CLIENTS)]
        start = time.perf_counter()
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        passed = time.perf_counter() - start
    accepted = sum(sender.accepted for sender in senders)
    batches_ms = [one for sender in senders for one in sender.batches_ms]
    told = f"{CLIENTS} clients, batches of {BATCH}, PostgreSQL"
    yield Claim(f"events taken in over HTTP, {told}", accepted / passed, "/s", ">= 1000")
    yield Claim("… a batch answered, p95", float(np.quantile(batches_ms, 0.95)), "ms")


class _Sender(threading.Thread):
    """A front end that sends batches without pause."""

    def __init__(self, site: Site, key: str, skus: Sequence[str], seconds: float) -> None:
        super().__init__()
        self._arguments = (site, key, skus, seconds)
        self.accepted, self.batches_ms = 0, [0.0]

    def run(self) -> None:
        self.accepted, self.batches_ms = send_events(*self._arguments)


def send_events(site: Site, key: str, skus: Sequence[str], seconds: float) -> tuple[int, list[float]]:
    """Return how many events were taken in that time and the milliseconds of each batch."""
    connection, accepted, timings = site.connect(), 0, []
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        connection.request("POST", "/api/v1/events/", json.dumps({"events": make_events(skus)}), headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        if response.status != 200 or answer["accepted"] != BATCH:
            raise RuntimeError(f"a batch was answered {response.status}: {answer}")
        accepted += BATCH
        timings.append((time.perf_counter() - start) * 1000)
    return accepted, timings


def make_events(skus: Sequence[str]) -> list[dict[str, object]]:
    """Return a batch of one visitor's events."""
    now, visitor, query_id = datetime.now(UTC).isoformat(), uuid.uuid4().hex, str(uuid.uuid4())
    return [
        {
            "action_name": ACTIONS[number % len(ACTIONS)],
            "event_id": uuid.uuid4().hex,
            "client_id": visitor,
            "query_id": query_id,
            "timestamp": now,
            "application": "bench",
            "event_attributes": {
                "object": {"object_id": skus[number % len(skus)]},
                "position": {"ordinal": number % 24 + 1},
            },
        }
        for number in range(BATCH)
    ]


# --- what a search pays -------------------------------------------------------------------------------


def measure_logging(shop: Shop, queries: int) -> Iterator[Claim]:
    """The same queries go to two sites side by side, one of which records; each pair in another order."""
    quiet = Shop(**{**vars(shop), "settings": shop.settings | {"SEARCHSITE_EVENTS": "off"}})
    found = shop.make_queries(WARM_UP + 2 * queries)
    with serve(quiet, "--no-worker") as off, serve(shop, "--no-learner") as on:
        for site in (off, on):
            wait_for(site, "/api/v1/search/?q=printer")
        for name, path, part in (
            ("results page", "/search/", found[WARM_UP::2]),
            ("API search", "/api/v1/search/", found[WARM_UP + 1 :: 2]),
        ):
            time_pairs(off, on, path, found[:WARM_UP])
            off_ms, on_ms = time_pairs(off, on, path, part)
            yield Claim(f"{name} without events, p50", float(np.median(off_ms)), "ms")
            yield Claim(f"{name} with events, p50", float(np.median(on_ms)), "ms")
            yield Claim("… what events add, p50", float(np.median(on_ms) - np.median(off_ms)), "ms", "<= 1")
            yield Claim("… what they add to the same query, median", float(np.median(on_ms - off_ms)), "ms")
    shop.manage("write_events")
    shop.manage("prune_events", "--older-than", "0")


def time_pairs(off: Site, on: Site, path: str, queries: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the milliseconds of each query at both sites."""
    connections, timings = (off.connect(), on.connect()), np.zeros((2, len(queries)))
    for number, query in enumerate(queries):
        address = f"{path}?{urlencode({'q': query, 'client_id': VISITOR})}"
        for side in (0, 1) if number % 2 else (1, 0):
            start = time.perf_counter()
            connections[side].request("GET", address, headers={"Cookie": f"visitor={VISITOR}"})
            response = connections[side].getresponse()
            body = response.read()
            timings[side, number] = (time.perf_counter() - start) * 1000
            if response.status != 200:
                raise RuntimeError(f"{address} was answered {response.status}: {body[:200]!r}")
    return timings[0], timings[1]


if __name__ == "__main__":
    run(
        __doc__,
        measure,
        database={"default": "postgres:///test", "help": "a database of the server to use (default: postgres:///test)"},
        seconds={"type": float, "default": 30.0, "help": "how long to send events (default: 30)"},
        queries={"type": int, "default": 400, "help": "different queries for each comparison (default: 400)"},
    )
