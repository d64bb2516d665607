"""How fast does a catalogue come in: rows parsed and stored, products embedded and indexed, changes made visible?"""

from __future__ import annotations

import argparse
import csv
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.report import Claim, run
from bench.shops import FOLDER, ROOT, Shop, open_icecat, serve, wait_for
from catalog.sample.shop import generate_products


def measure(arguments: argparse.Namespace) -> Iterator[Claim]:
    FOLDER.mkdir(parents=True, exist_ok=True)
    yield from measure_import(arguments.rows, arguments.large_rows)
    shop = open_icecat()
    yield from measure_encoding(shop)
    yield from measure_visibility(shop)


def measure_import(rows: int, large_rows: int) -> Iterator[Claim]:
    with TemporaryDirectory(dir=FOLDER) as folder:
        shop = make_empty_shop(Path(folder))
        small, large = Path(folder) / "small.csv", Path(folder) / "large.csv"
        write_csv(small, rows)
        seconds, _ = time_import(shop, small)
        yield Claim(f"CSV rows parsed and stored, of {rows:,}", rows / seconds, "rows/s", ">= 5000")
        seconds, _ = time_import(shop, small)
        yield Claim("the same file again, nothing changed", rows / seconds, "rows/s", ">= 5000")
        if large_rows:
            write_csv(large, large_rows)
            seconds, peak_mb = time_import(shop, large)
            yield Claim(f"CSV rows parsed and stored, of {large_rows:,}", large_rows / seconds, "rows/s", ">= 5000")
            yield Claim(f"peak memory of importing {large_rows:,} rows", peak_mb, "MB", "<= 400")


def make_empty_shop(folder: Path) -> Shop:
    shop = Shop("empty", folder / "shop", folder, folder, folder)
    shop.manage("migrate", "--verbosity", "0")
    return shop


def write_csv(path: Path, rows: int) -> None:
    """Write `rows` products of the sample shop; beyond 100,000 they repeat under other SKUs."""
    products = list(generate_products(min(rows, 100_000), seed=1))
    names = ["sku", "title", "description", "brand", "category", "price", "currency", "rating", "stock", "popularity"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*names, "color", "material"], extrasaction="ignore", restval="")
        writer.writeheader()
        for number in range(rows):
            product = products[number % len(products)]
            attributes = dict(islice(product["attributes"].items(), 2))
            values = dict(zip(("color", "material"), attributes.values(), strict=False))
            writer.writerow(product | values | {"sku": f"{product['sku']}-{number}"})


def time_import(shop: Shop, path: Path) -> tuple[float, float]:
    """Return the seconds the import itself took, and the process's peak memory in MB."""
    command = [sys.executable, "manage.py", "import_products", str(path), "--json"]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env=shop.environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    facts = json.loads(output)
    if process.returncode or facts["rejected"]:
        raise RuntimeError(f"importing {path} went wrong: {facts}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def measure_encoding(shop: Shop) -> Iterator[Claim]:
    environment = shop.environment | {"DJANGO_SETTINGS_MODULE": "searchsite.settings"}
    command = [sys.executable, "-m", "bench.encoding"]
    output = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    facts = json.loads(output.splitlines()[-1])
    texts, alone_s = facts["texts"], facts["alone_s"]
    yield Claim(f"encoder alone, {texts:,} texts", texts / alone_s, "products/s")
    yield Claim("catalogue read, embedded and stored", texts / facts["stored_s"], "products/s")
    yield Claim("… as a share of the encoder's own speed", alone_s / facts["stored_s"], "", ">= 0.85")
    yield Claim("catalogue embedded and indexed, a whole rebuild", texts / facts["rebuild_s"], "products/s")
    yield Claim("… as a share of the encoder's own speed, whole rebuild", alone_s / facts["rebuild_s"], "")


def measure_visibility(shop: Shop) -> Iterator[Claim]:
    """A new product is sent to the API of a running site; how long until a search finds it?"""
    key = json.loads(shop.manage("make_api_key", "bench", "--json"))["key"]
    with serve(shop) as site:
        wait_for(site, "/api/v1/search/?q=printer")
        connection = site.connect()
        seconds = {}
        for number in range(3):
            sku = f"BENCH-{number}-{time.time_ns()}"
            seconds[sku] = time_change(connection, key, sku)
        for sku in seconds:
            send(connection, "DELETE", f"/api/v1/products/{sku}/", key)
    yield Claim("a change visible in search, slowest of three", max(seconds.values()), "s", "<= 5")


def time_change(connection: http.client.HTTPConnection, key: str, sku: str) -> float:
    start = time.perf_counter()
    send(connection, "PUT", f"/api/v1/products/{sku}/", key, {"title": f"Walnut metronome {sku}", "price": "10.00"})
    while not any(hit["sku"] == sku for hit in send(connection, "GET", f"/api/v1/search/?q={sku}", key)["hits"]):
        if time.perf_counter() - start > 60:
            raise RuntimeError(f"{sku} is not found a minute after it was sent")
        time.sleep(0.05)
    return time.perf_counter() - start


def send(
    connection: http.client.HTTPConnection, method: str, path: str, key: str, body: dict[str, str] | None = None
) -> Any:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection.request(method, path, json.dumps(body) if body else None, headers)
    response = connection.getresponse()
    answer = response.read()
    if response.status >= 400:
        raise RuntimeError(f"{method} {path} was answered {response.status}: {answer[:300]!r}")
    return json.loads(answer) if answer else {}


if __name__ == "__main__":
    run(
        __doc__,
        measure,
        rows={"type": int, "default": 100_000, "help": "rows of the file for the rate (default: 100000)"},
        large_rows={"type": int, "default": 1_000_000, "help": "rows of the large file, 0 for none (default: 1000000)"},
    )
