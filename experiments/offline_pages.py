"""What pages show of offline evaluations: the last one in words, and how they changed over time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.utils import timezone
from django.utils.safestring import SafeString

from experiments.models import Experiment, OfflineEvaluation, OfflineRun
from experiments.offline_runs import find_last
from retrieval.evaluation.metrics import NDCG
from retrieval.models import JudgementSet
from retrieval.plots import Line, draw_lines

MOST_EXPERIMENTS = 100  # to choose from
FAILURE_TOLD_FOR = timedelta(days=1)
MOST_EVALUATIONS = 50  # of one judgement set that its history shows, the last ones


@dataclass(frozen=True)
class OfflineResult:
    """One evaluation, in words."""

    evaluation: OfflineEvaluation

    @classmethod
    def last_of(cls, experiment: Experiment) -> OfflineResult | None:
        """Return the last evaluation of an experiment's variants, None without one."""
        found = OfflineEvaluation.objects.filter(experiment=experiment).select_related("judgement_set").first()
        return cls(found) if found else None

    @property
    def pk(self) -> int:
        return int(self.evaluation.pk)

    @property
    def content(self) -> dict[str, Any]:
        return dict(self.evaluation.content)

    def to_dict(self) -> dict[str, Any]:
        """Return the evaluation for programs: on which judgements it was made and when, and all that was found."""
        return {"judgement_set": self.judgement_set, "made_at": self.made_at, **self.content}

    @property
    def judgement_set(self) -> str:
        return self.evaluation.judgement_set.name

    @property
    def made_at(self) -> datetime:
        return self.evaluation.made_at

    @property
    def configs(self) -> list[str]:
        """The configs' names; the others are compared with the first."""
        return self.evaluation.names

    @property
    def metrics(self) -> list[str]:
        return list(self.content["metrics"])

    @property
    def means(self) -> Iterator[tuple[str, list[tuple[str, str]]]]:
        """Yield each config with the mean and the interval of every metric."""
        for name in self.configs:
            found = [self.content["configs"][name][metric] for metric in self.metrics]
            yield name, [(f"{one['mean']:.3f}", f"{one['low']:.3f} to {one['high']:.3f}") for one in found]

    @property
    def differences(self) -> Iterator[dict[str, Any]]:
        """Yield what the table of differences from the first config shows, with its verdict: better, worse or ''."""
        for pair in self.content["pairs"]:
            yield {
                "config": pair["config"],
                "metric": pair["metric"],
                "difference": f"{pair['mean']:+.3f}",
                "interval": f"{pair['low']:+.3f} to {pair['high']:+.3f}",
                "queries": f"{pair['wins']:,} / {pair['losses']:,} / {pair['ties']:,}",
                "detectable": "–" if pair["detectable"] is None else f"{pair['detectable']:.3f}",
                "verdict": "better" if pair["low"] > 0 else "worse" if pair["high"] < 0 else "",
            }

    @property
    def changed(self) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
        """Yield config, won or lost, and the queries."""
        for name in self.configs[1:]:
            for what in ("won", "lost"):
                if queries := self.content["changed"][name][what]:
                    yield name, what, queries


@dataclass(frozen=True)
class OfflinePage:
    """One evaluation, the last one unless another is asked for, with those of its judgement set before and after it."""

    result: OfflineResult | None
    notice: str = ""
    refusal: str = ""

    @classmethod
    def of(cls, asked: Mapping[str, str], refusal: str = "") -> OfflinePage:
        """Return the page of an address: `evaluation`, a number, or the last one. `refusal`: of what was asked for."""
        wanted = asked.get("evaluation", "")
        rows = OfflineEvaluation.objects.select_related("judgement_set", "experiment")
        found = rows.filter(pk=int(wanted)).first() if wanted.isdecimal() and len(wanted) < 18 else None
        notice = f"There is no evaluation {wanted[:20]!r}: this is the last one." if wanted and not found else ""
        last = found or rows.first()
        return cls(OfflineResult(last) if last else None, notice if last else "", refusal)

    @cached_property
    def run(self) -> OfflineRun | None:
        """The evaluation that was asked for last, while it is open or if it failed lately."""
        found = find_last()
        is_told = found and (found.is_open or (found.error and timezone.now() - found.created_at < FAILURE_TOLD_FOR))
        return found if is_told else None

    @cached_property
    def sets(self) -> list[str]:
        """The judgement sets that there are."""
        return list(JudgementSet.objects.values_list("name", flat=True))

    @cached_property
    def experiments(self) -> list[str]:
        """The experiments whose variants can be evaluated, newest first."""
        return list(Experiment.objects.values_list("name", flat=True)[:MOST_EXPERIMENTS])

    @cached_property
    def history(self) -> list[tuple[OfflineEvaluation, list[tuple[str, str]]]]:
        """The last evaluations of the same judgement set, newest first: each config with its nDCG@10."""
        if self.result is None:
            return []
        rows = OfflineEvaluation.objects.filter(judgement_set=self.result.evaluation.judgement_set)
        return [
            (row, [(name, f"{row.content['configs'][name][NDCG]['mean']:.3f}") for name in row.names])
            for row in rows.select_related("experiment")[:MOST_EVALUATIONS]
        ]

    @property
    def chart(self) -> SafeString:
        """nDCG@10 of each config, evaluation by evaluation; variants of experiments under both names."""
        points: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for number, (row, _) in enumerate(reversed(self.history), 1):
            for name in row.names:
                label = f"{row.experiment.name}: {name}" if row.experiment else name
                points[label].append((number, row.content["configs"][name][NDCG]["mean"]))
        return draw_lines(
            f"{NDCG} over time", "The mean over the queries of the judgement set, evaluation by evaluation.",
            [Line(name, found) for name, found in points.items()], x_label="evaluation", y_label=NDCG,
        )  # fmt: skip

    @property
    def others(self) -> list[OfflineEvaluation]:
        """The last evaluation of each other judgement set."""
        if self.result is None:
            return []
        rows = OfflineEvaluation.objects.exclude(judgement_set=self.result.evaluation.judgement_set)
        last: dict[int, OfflineEvaluation] = {}
        for row in rows.select_related("judgement_set").defer("content").order_by("made_at", "pk"):
            last[row.judgement_set_id] = row
        return sorted(last.values(), key=lambda row: row.judgement_set.name)
