"""Run the site: the web server, and in the embedded profile the workers beside it."""

from __future__ import annotations

import socket
from argparse import ArgumentParser
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from searchsite.processes import Child, Supervisor, learner_command, web_command, worker_command


class Command(BaseCommand):
    help = "Bring the database up to date, then run the web server, a worker and a learner until interrupted."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
        parser.add_argument("--port", type=int, default=8000, help="port to listen at (default: 8000)")
        parser.add_argument("--workers", type=int, default=1, help="web processes (default: 1)")
        parser.add_argument("--threads", type=int, default=4, help="threads in each (default: 4)")
        parser.add_argument("--no-worker", action="store_true", help="run the web server only")
        parser.add_argument("--no-learner", action="store_true", help="run no worker that trains models")

    def handle(self, *args: Any, host: str, port: int, workers: int, threads: int, **options: Any) -> None:
        check_port(host, port)
        call_command("migrate", verbosity=0)
        children = [Child("web server", web_command(f"{host}:{port}", workers, threads))]
        if not options["no_worker"]:
            children.append(Child("worker", worker_command()))
        if not (options["no_worker"] or options["no_learner"]):
            children.append(Child("learner", learner_command()))
        self.stdout.write(self.style.SUCCESS(f"The shop is at http://{host}:{port}/  (Ctrl+C stops it)"))
        Supervisor(children, self.stderr.write).run()


def check_port(host: str, port: int) -> None:
    """Raise CommandError when something already listens there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise CommandError(f"cannot listen at {host}:{port} ({error}); choose another with --port") from error
