"""What the commands that train have in common: their options, their progress bar, and what they print at the end."""

from __future__ import annotations

import json
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import IO, Any, cast

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from retrieval import training_runs
from retrieval.build_bar import build_bar
from retrieval.engine.types import EngineError
from retrieval.models import ModelVersion, TrainingRun
from retrieval.training_progress import OnProgress
from retrieval.training_settings import SETTINGS
from retrieval.training_sources import NAMES

State = TrainingRun.State


class TrainingCommand(BaseCommand):
    """A command that trains one kind of model, here or on the worker."""

    kind: str
    command: str

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--source",
            action="append",
            default=[],
            metavar="NAME[=WEIGHT]",
            help=f"learn from this, may be given several times: {NAMES}; twice the weight is drawn twice as often "
            "(default: the catalogue, and every judgement set with weight 2; where nothing is judged, two towers learn "
            "from pseudo with weight 3 too)",
        )
        for name, setting in SETTINGS[self.kind].items():
            option = f"--{name.replace('_', '-')}"
            if setting.type is bool:
                parser.add_argument(option, action="store_const", const=True, help=setting.help)
            elif setting.type is list:
                parser.add_argument(option, metavar="0,2,4", help=setting.help)
            else:
                metavar = None if setting.choices else {int: "N", float: "X"}.get(setting.type, "NAME")
                parser.add_argument(
                    option, type=setting.type, choices=setting.choices or None, metavar=metavar, help=setting.help
                )
        parser.add_argument(
            "--resume",
            nargs="?",
            const=0,
            type=int,
            metavar="ID",
            help="go on with a training that was stopped, killed or failed (default: the last one)",
        )
        parser.add_argument("--queue", action="store_true", help="have the worker train, and return at once")
        parser.add_argument("--promote", action="store_true", help="let the model serve if the gate lets it pass")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["queue"] and options["promote"]:
            raise CommandError("--queue and --promote: expected one of them; promote what the worker made afterwards")
        try:
            run = self._find_run(options)
            if options["queue"]:
                training_runs.queue_training(run)
                run.refresh_from_db()
                self._tell_queued(run, options["json"])
            else:
                self._tell_result(self._train(run), options)
        except EngineError as error:
            raise CommandError(str(error)) from error

    def _find_run(self, options: Mapping[str, Any]) -> TrainingRun:
        given = {name: options[name] for name in SETTINGS[self.kind] if options[name] is not None}
        if options["resume"] is None:
            return training_runs.create_training(self.kind, [split_source(one) for one in options["source"]], given)
        if given or options["source"]:
            raise CommandError("--resume goes on with the settings and sources the training has; leave out the others")
        if not options["resume"]:
            return training_runs.reopen(training_runs.find_resumable(self.kind))
        run = TrainingRun.objects.filter(pk=options["resume"], kind=self.kind).first()
        if run is None:
            raise CommandError(f"there is no {self.kind} training {options['resume']}")
        return training_runs.reopen(run)

    def _train(self, run: TrainingRun) -> TrainingRun:
        from retrieval.finetuning import run_training  # brings torch

        claimed = training_runs.claim(run.pk)
        if claimed is None:
            raise CommandError(f"training {run.pk} is in another process's hands")
        with _interrupts() as is_cancelled, progress_bar() as show:
            return run_training(claimed, on_progress=show, is_cancelled=is_cancelled)

    def _tell_queued(self, run: TrainingRun, as_json: bool) -> None:
        if run.error:
            self.stderr.write(run.error)
        told = f"Training {run.pk} is queued; watch it in the admin, under Training runs."
        self.stdout.write(json.dumps(to_facts(run)) if as_json else told)

    def _tell_result(self, run: TrainingRun, options: Mapping[str, Any]) -> None:
        again = f"go on with it: manage.py {self.command} --resume {run.pk}"
        if run.state == State.CANCELLED:
            raise CommandError(f"training {run.pk} was stopped; {again}", returncode=130)
        if run.state != State.FINISHED or run.result is None:
            raise CommandError(f"training {run.pk} failed: {run.error}")
        is_promoted = options["promote"] and self._promote(run.result)
        if options["json"]:
            self.stdout.write(json.dumps(to_facts(run) | {"is_promoted": is_promoted}, ensure_ascii=False))
            return
        Console(file=cast(IO[str], self.stdout)).print(to_table(run.result.verdict))
        self.stdout.write(run.result.verdict.get("reason", ""))
        if run.result.name != run.settings.get("name", run.result.name):
            self.stdout.write(
                f"It is called {run.result.name}: another took the name {run.settings['name']} meanwhile."
            )
        if is_promoted:
            self.stdout.write(f"{run.result.name} serves now.")
        elif options["promote"]:
            self.stdout.write(f"{run.result.name} was not promoted: the gate did not let it pass.")
        elif run.result.verdict.get("is_passed"):
            self.stdout.write(f"{run.result.name} is here; to let it serve: manage.py models promote {run.result.name}")

    def _promote(self, version: ModelVersion) -> bool:
        from retrieval.finetuning import promote_result

        with build_bar() as show:
            return promote_result(version, show)


def split_source(text: str) -> tuple[str, float]:
    """Return the name and the weight, 1 by default, of NAME=WEIGHT."""
    name, sign, weight = text.rpartition("=")
    if not sign:
        return text, 1.0
    try:
        return name, float(weight)
    except ValueError as error:
        raise CommandError(f"--source {text!r}: expected NAME or NAME=WEIGHT, such as catalogue=2") from error


def to_facts(run: TrainingRun) -> dict[str, Any]:
    """Return a run's facts as JSON can hold them."""
    return {
        "training": run.pk,
        "kind": run.kind,
        "state": run.state,
        "sources": run.sources,
        "settings": run.settings,
        "steps": run.steps_done,
        "scores": run.scores,
        "version": run.result.name if run.result else None,
        "metrics": run.result.metrics if run.result else {},
        "verdict": run.result.verdict if run.result else {},
    }


def to_table(verdict: Mapping[str, Any]) -> Table:
    """Return the gate's figures, set by set."""
    table = Table("Queries", "Number", "Live", "New", "Difference", "95 % interval", "Finding")
    for each in verdict.get("sets", ()):
        interval = f"{each['low']:+.3f} to {each['high']:+.3f}"
        figures = (f"{each['champion']:.3f}", f"{each['challenger']:.3f}", f"{each['difference']:+.3f}")
        table.add_row(each["name"], f"{each['queries']:,}", *figures, interval, each["state"])
    return table


@contextmanager
def _interrupts() -> Iterator[Any]:
    """Give whether Ctrl-C was pressed; pressed again, it stops at once."""
    pressed: list[int] = []
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)
        sys.stderr.write("\nStopping; what was learned is kept. Once more stops at once.\n")

    try:
        signal.signal(signal.SIGINT, note)
    except ValueError:  # not the main thread
        yield lambda: False
        return
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def progress_bar() -> Iterator[OnProgress]:
    """A bar on the terminal that follows a training; silent where there is no terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
    task = progress.add_task("starts", total=None, loss="")

    def show(run: TrainingRun) -> None:
        loss = f"loss {run.losses[-1][1]:.3f}" if run.losses else ""
        phase = run.phase.partition(", about")[0] or run.state
        progress.update(task, description=phase, completed=run.steps_done, total=run.steps_total or None, loss=loss)

    with progress:
        yield show
