"""The site's processes: which run beside the web server, and what each takes from the queue."""

from __future__ import annotations

from django.core.management import call_command

from searchsite.management.commands import serve
from searchsite.processes import Supervisor, learner_command, worker_command


def names_started(monkeypatch, *options: str) -> list[str]:
    started: list[str] = []
    monkeypatch.setattr(Supervisor, "run", lambda self: started.extend(child.name for child in self.children))
    monkeypatch.setattr(serve, "check_port", lambda host, port: None)
    monkeypatch.setattr(serve, "call_command", lambda *arguments, **options: None)
    call_command("serve", *options)
    return started


def test_a_worker_and_a_learner_run_beside_the_web_server(monkeypatch, capsys):
    assert names_started(monkeypatch) == ["web server", "worker", "learner"]
    assert names_started(monkeypatch, "--no-learner") == ["web server", "worker"]
    assert names_started(monkeypatch, "--no-worker") == ["web server"]


def test_a_training_keeps_no_other_work_waiting():
    worker, learner = worker_command(), learner_command()
    assert worker[worker.index("--queues") + 1] == "celery"
    assert learner[learner.index("--queues") + 1] == "learn"
    assert "--beat" in worker
    assert "--beat" not in learner
    assert learner[learner.index("--hostname") + 1] == "learner@%h"
