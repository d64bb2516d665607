"""What experiments keep in the database."""

from experiments.models.events import Event, Reason, Refusal, SearchLog, TakenBatch
from experiments.models.experiments import Experiment, Variant
from experiments.models.reports import StoredReport, VisitorDay

__all__ = [
    "Event",
    "Experiment",
    "Reason",
    "Refusal",
    "SearchLog",
    "StoredReport",
    "TakenBatch",
    "Variant",
    "VisitorDay",
]
