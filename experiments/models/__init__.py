"""What experiments keep in the database."""

from experiments.models.analytics import (
    OfflineEvaluation,
    PositionDay,
    QueryDay,
    SearchDay,
    SearcherDay,
    SearchSummary,
)
from experiments.models.events import Event, Reason, Refusal, SearchLog, TakenBatch
from experiments.models.experiments import Experiment, Variant
from experiments.models.offline import OfflineRun
from experiments.models.reports import StoredReport, VisitorDay

__all__ = [
    "Event",
    "Experiment",
    "OfflineEvaluation",
    "OfflineRun",
    "PositionDay",
    "QueryDay",
    "Reason",
    "Refusal",
    "SearchDay",
    "SearchLog",
    "SearchSummary",
    "SearcherDay",
    "StoredReport",
    "TakenBatch",
    "Variant",
    "VisitorDay",
]
