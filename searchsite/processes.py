"""The site's processes on one machine: a web server and workers beside it, started and stopped together."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from django.conf import settings

STOP_TIMEOUT_S = 20
RESTART_PAUSE_S = 2


@dataclass
class Child:
    """One process that is started again when it dies."""

    name: str
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0

    def start(self) -> None:
        self.started_at = time.monotonic()
        # Few arenas: threads that come and go would each keep memory of their own otherwise.
        environment = os.environ | {"MALLOC_ARENA_MAX": os.environ.get("MALLOC_ARENA_MAX", "2")}
        self.process = subprocess.Popen(self.command, cwd=settings.BASE_DIR, env=environment, start_new_session=True)

    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        if self.process and self.is_alive():
            self.process.terminate()

    def wait(self) -> None:
        if self.process:
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)


@dataclass
class Supervisor:
    """Keeps its children running until told to stop."""

    children: list[Child]
    log: Callable[[str], object]
    is_stopping: bool = field(default=False, init=False)

    def run(self) -> None:
        """Start all children and return when a signal has stopped them."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)
        for child in self.children:
            child.start()
        while not self.is_stopping:
            for child in self.children:
                self._revive(child)
            time.sleep(0.2)
        for child in self.children:
            child.stop()
        for child in self.children:
            child.wait()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.is_stopping = True

    def _revive(self, child: Child) -> None:
        if not child.is_alive() and time.monotonic() - child.started_at > RESTART_PAUSE_S and not self.is_stopping:
            self.log(f"The {child.name} stopped; starting it again.")
            child.start()


def web_command(bind: str, workers: int, threads: int) -> list[str]:
    options = ["--bind", bind, "--workers", str(workers), "--threads", str(threads)]
    config = Path(__file__).with_name("gunicorn_config.py")
    return [sys.executable, "-m", "gunicorn", "searchsite.wsgi", "--config", str(config), *options]


WORKER = [sys.executable, "-m", "celery", "--app", "searchsite", "worker", "--pool", "solo", "--loglevel", "WARNING"]
QUIET = ["--without-gossip", "--without-mingle"]


def worker_command() -> list[str]:
    """Return the command of a worker with its clock: one task at a time, in one process."""
    return [*WORKER, *QUIET, "--queues", "celery", "--beat"]


def learner_command() -> list[str]:
    """Return the command of the worker that trains, one model at a time; searches go first where it can be told so."""
    nice = ["nice", "-n", "10"] if shutil.which("nice") else []
    return [*nice, *WORKER, *QUIET, "--queues", "learn", "--hostname", "learner@%h"]
