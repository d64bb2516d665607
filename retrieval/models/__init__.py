"""What the search keeps in the database: the index's state, and what models learn from and become."""

from retrieval.models.index import Asker, Diagnosis, Embedding, IndexBuild, PastQuery, PendingChange
from retrieval.models.learning import Judgement, JudgementSet, ModelVersion, TrainingRun

__all__ = [
    "Asker",
    "Diagnosis",
    "Embedding",
    "IndexBuild",
    "Judgement",
    "JudgementSet",
    "ModelVersion",
    "PastQuery",
    "PendingChange",
    "TrainingRun",
]
