"""Running sample shops for browsers, in processes of their own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MANAGE = (sys.executable, "manage.py")
READ_LOG = """
import json
from experiments.events import flush_recorded
from experiments.models import Event, SearchLog
flush_recorded()
fields = ("action_name", "query_id", "client_id", "object_id", "position", "quantity", "value_cents", "currency")
events = list(Event.objects.order_by("timestamp").values(*fields))
print(json.dumps({"searches": list(SearchLog.objects.values("query_id", "client_id", "text")), "events": events}))
"""


@dataclass(frozen=True)
class Site:
    address: str
    environment: dict[str, str]

    def run(self, code: str) -> str:
        """Run code in the shop's environment and return what it prints."""
        command = [*MANAGE, "shell", "--verbosity", "0", "--command", code]
        return subprocess.run(
            command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, text=True, check=True
        ).stdout

    def read_log(self, visitor: str, is_there: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return a visitor's searches and events, oldest first, once what is waited for is among them."""
        found: dict[str, Any] = {}
        for _ in range(20):
            log = json.loads(self.run(READ_LOG))
            found = {name: [row for row in rows if row["client_id"] == visitor] for name, rows in log.items()}
            if is_there(found):
                return found
            time.sleep(0.5)
        raise AssertionError(f"it did not come: {found}")


@contextmanager
def serve_shop(folder: Path, model: Path, products: int) -> Iterator[Site]:
    """Have a sample shop run on the embedded profile, without a worker, with the encoder in `model`."""
    (folder / "models").symlink_to(model.parent)
    cleared = dict.fromkeys(("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "QDRANT_URL"), "")
    environment, port = os.environ | cleared | {"SEARCHSITE_DATA_DIR": str(folder)}, find_port()
    made = [*MANAGE, "demo", "--products", str(products), "--no-serve"]
    subprocess.run(made, cwd=ROOT, env=environment, check=True)
    process = subprocess.Popen([*MANAGE, "serve", "--no-worker", "--port", str(port)], cwd=ROOT, env=environment)
    site = Site(f"http://127.0.0.1:{port}", environment)
    try:
        wait_for(site.address, process)
        yield site
    finally:
        process.terminate()
        process.wait(30)


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:  # refused, or no answer in time
            assert process.poll() is None, "the site ended before it answered"
            time.sleep(0.1)
    raise AssertionError(f"{address} does not answer")
