"""Shops to measure on, each in a folder of its own, built once and kept."""

from __future__ import annotations

import csv
import gzip
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A real catalogue with ratings; it is not part of the project.
ICECAT = Path(os.environ.get("SEARCHSITE_BENCH_ICECAT", ROOT.parent / "shared" / "data" / "icecat"))
FOLDER = Path(os.environ.get("SEARCHSITE_BENCH_DIR", ROOT / "var" / "bench"))


@dataclass(frozen=True)
class Shop:
    """A filled and indexed shop; `queries` and `qrels` are files for `manage.py evaluate`."""

    name: str
    data_dir: Path
    queries: Path
    qrels: Path
    products: Path
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        cleared = dict.fromkeys(("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "QDRANT_URL"), "")
        limits = dict.fromkeys(("SEARCHSITE_SEARCH_RATE", "SEARCHSITE_SUGGEST_RATE"), "1000000/min")
        return os.environ | cleared | limits | {"SEARCHSITE_DATA_DIR": str(self.data_dir), **self.settings}

    def manage(self, *arguments: str) -> str:
        """Run a command on this shop and return what it prints."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout

    def read_queries(self) -> list[str]:
        with self.queries.open(encoding="utf-8") as file:
            return [row["query"] for row in csv.DictReader(file, delimiter="\t")]

    def make_queries(self, count: int, seed: int = 1) -> list[str]:
        """Return `count` different queries: shoppers' own, then words from titles."""
        rng = random.Random(seed)
        with gzip.open(self.products, "rt", encoding="utf-8") as file:
            titles = [json.loads(line)["title"].split() for line in file]
        found = dict.fromkeys(self.read_queries())
        while len(found) < count:
            words = rng.choice(titles)
            start = rng.randrange(max(len(words) - 2, 1))
            found[" ".join(words[start : start + rng.randint(1, 4)])] = None
        queries = list(found)
        rng.shuffle(queries)
        return queries[:count]


def open_icecat() -> Shop:
    """Return the shop of the Icecat catalogue; exits naming the cure when its files are not there."""
    if not (ICECAT / "products.jsonl.gz").exists():
        sys.exit(f"the Icecat catalogue is not in {ICECAT}; set SEARCHSITE_BENCH_ICECAT to its folder")
    shop = Shop(
        "icecat",
        FOLDER / "icecat",
        ICECAT / "queries.tsv",
        ICECAT / "qrels_pooled.tsv",
        ICECAT / "products.jsonl.gz",
    )
    return fill(shop)


def open_sample(products: int = 5000, seed: int = 7) -> Shop:
    """Return a sample shop of so many products."""
    folder = FOLDER / f"sample-{products}-{seed}"
    files = folder / "sample"
    shop = Shop("sample", folder, files / "queries.tsv", files / "qrels.tsv", files / "products.jsonl.gz")
    if not shop.products.exists():
        shop.manage("make_sample_shop", str(files), "--products", str(products), "--seed", str(seed))
    return fill(shop)


def fill(shop: Shop) -> Shop:
    """Return the shop, its products imported and indexed where they were not yet."""
    shop.manage("migrate", "--verbosity", "0")
    done = shop.data_dir / "filled"
    if not done.exists():
        shop.manage("import_products", str(shop.products), "--json")
        done.touch()
    try:
        shop.manage("search", "a", "--json")
    except subprocess.CalledProcessError:  # no index yet, or one of another version
        shop.manage("reindex", "--json")
    return shop


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Site:
    """A running site."""

    port: int
    process: subprocess.Popen[bytes]
    started_at: float

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def find_web_process(self) -> int:
        """Return the process that answers: the deepest child, gunicorn's worker."""
        found = self.process.pid
        while children := Path(f"/proc/{found}/task/{found}/children").read_text().split():
            found = int(children[0])
        return found

    def web_age_s(self) -> float:
        """Return the seconds since the web server's first process began."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        began = int(Path(f"/proc/{children[0]}/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - began / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> float:
        status = Path(f"/proc/{self.find_web_process()}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024

    def has_loaded(self, library: str) -> bool:
        return library in Path(f"/proc/{self.find_web_process()}/maps").read_text()


@contextmanager
def serve(shop: Shop, *options: str) -> Iterator[Site]:
    """Run the shop's site and stop it in the end."""
    port, started_at = free_port(), time.perf_counter()
    command = [sys.executable, "manage.py", "serve", "--port", str(port), *options]
    process = subprocess.Popen(
        command, cwd=ROOT, env=shop.environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield Site(port, process, started_at)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def wait_for(site: Site, path: str) -> float:
    """Return the seconds from the site's start to its first good answer."""
    while True:
        if site.process.poll() is not None:
            raise RuntimeError(f"the site ended with {site.process.returncode} before it answered")
        try:
            connection = site.connect()
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return time.perf_counter() - site.started_at
        except OSError:
            pass
        time.sleep(0.02)
