"""What experiments keep in the database."""

from experiments.models.events import Event, Reason, Refusal, SearchLog, TakenBatch

__all__ = [
    "Event",
    "Reason",
    "Refusal",
    "SearchLog",
    "TakenBatch",
]
