"""Does the real site find a ranking planted to be better, stop one planted to be worse, and how soon?"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import django

from bench.report import Claim, run

AB_LOOK, INTERLEAVING_LOOK, WORSE_LOOK = 500, 250, 250  # visitors between two looks at the report
Changes = Mapping[str, Any]
# Champion and challenger. Of the better one, the champion finds the same products, ordered by their words alone.
BETTER: tuple[Changes, Changes] = {"fusion": "weighted", "dense_weight": 0.0}, {"fusion": "adaptive"}
# Of the worse one, shoppers see what has all their words, as typed.
WORSE: tuple[Changes, Changes] = {}, {"fusion": "lexical", "lexical_share": 1.0, "correct_spelling": False}


def measure(arguments: argparse.Namespace) -> Iterator[Claim]:
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        start_django(Path(folder))
        yield from plant(Path(folder), arguments)


def start_django(folder: Path) -> None:
    """Set up an empty site on SQLite."""
    cleared = dict.fromkeys(("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "QDRANT_URL"), "")
    settings = {"SEARCHSITE_CONFIG": "hybrid", "SEARCHSITE_RECENT_SEARCHES": "10000", "SEARCHSITE_RERANKER": "none"}
    os.environ |= cleared | settings
    os.environ |= {"SEARCHSITE_DATA_DIR": str(folder), "DJANGO_SETTINGS_MODULE": "searchsite.settings"}
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def plant(folder: Path, arguments: argparse.Namespace) -> Iterator[Claim]:
    """Yield what each kind of test needed."""
    from searchsite.loop import Loop, Size

    loop = Loop(folder / "loop", Size(products=arguments.products, queries=arguments.queries, seed=arguments.seed))
    list(loop.open_shop())
    site = Site(loop, arguments.most)
    needs: dict[str, list[int]] = {"ab": [], "interleaving": []}
    for repeat in range(1, arguments.repeats + 1):
        for kind, look in (("ab", AB_LOOK), ("interleaving", INTERLEAVING_LOOK)):
            needs[kind].append(site.count_visitors(f"{kind}-{repeat}", kind, BETTER, look, is_found))
            yield Claim(f"{kind} {repeat}: visitors until the better ranking is found", needs[kind][-1])
    yield Claim("interleaving needs fewer visitors, times", sum(needs["ab"]) / sum(needs["interleaving"]), "", ">= 1")
    visitors = site.count_visitors("worse", "ab", WORSE, WORSE_LOOK, is_stopped)
    yield Claim("visitors until its guardrail stops the worse ranking", visitors)


@dataclass
class Site:
    """A site with visitors who come as long as they are needed; no two of them are the same."""

    loop: Any
    most: int
    seeds: Iterator[int] = field(default_factory=lambda: count(1000))

    def count_visitors(
        self, name: str, kind: str, planted: tuple[Changes, Changes], look: int, is_done: Callable[[Any, Any], bool]
    ) -> int:
        """Return how many had come at the first look at which it was done; exits where none of `most` does it."""
        from experiments import control

        own, changes = planted
        experiment = self.loop.start(name, kind, changes, own)
        for visitors in range(look, self.most + 1, look):
            self.loop.simulate(look, next(self.seeds))
            content = self.loop.report(experiment)
            if is_done(experiment, content):
                control.stop(experiment, "decided")
                return visitors
        raise SystemExit(f"{name}, {self.most:,} visitors: {content['sentence']}")


def is_found(experiment: Any, content: Mapping[str, Any]) -> bool:
    return bool(content["state"] == "winner")


def is_stopped(experiment: Any, content: Mapping[str, Any]) -> bool:
    experiment.refresh_from_db()
    return not experiment.is_running


if __name__ == "__main__":
    run(
        __doc__,
        measure,
        products={"type": int, "default": 3000, "help": "products of the sample shop (default: 3000)"},
        queries={"type": int, "default": 600, "help": "queries of the sample shop (default: 600)"},
        repeats={"type": int, "default": 3, "help": "tests of each kind (default: 3)"},
        most={"type": int, "default": 40_000, "help": "visitors after which a test is given up (default: 40000)"},
        seed={"type": int, "default": 7, "help": "of the shop (default: 7)"},
    )
