"""Settings of the web server, and the warm-up of each of its processes."""

from __future__ import annotations

import faulthandler
import gc
import threading
from contextlib import suppress
from typing import Any

worker_class = "gthread"
timeout = 60
graceful_timeout = 10
keepalive = 15
# It would be one file for all shops of a user, and a thread in the process that forks.
control_socket_disable = True
# Memory that long-lived processes gather goes back now and then.
max_requests = 200_000
max_requests_jitter = 20_000


def post_worker_init(worker: Any) -> None:
    """Open the index and load the encoder before a shopper has to wait for it, and each new index after it."""
    faulthandler.enable()  # a worker that stands still is aborted: tell where it stood
    threading.Thread(target=_warm_up_and_watch, name="index-watch", daemon=True).start()


def _warm_up_and_watch() -> None:
    from django.urls import get_resolver

    from retrieval.engine.types import EngineError, Query
    from retrieval.setup import get_pipeline, watch_generations

    with suppress(EngineError):  # the site answers without an index too, and says so
        get_pipeline().search(Query("a"))
    _ = get_resolver().url_patterns
    gc.collect()
    gc.freeze()  # what is loaded now stays: no later collection looks at it again
    watch_generations(threading.Event())
