"""Train the cross-encoder on what this shop knows."""

from __future__ import annotations

from retrieval.live import CROSS_ENCODER
from retrieval.training_command import TrainingCommand


class Command(TrainingCommand):
    help = (
        "Train the cross-encoder, which reads the best hits of a search again, on this shop's catalogue and ratings, "
        "and judge the result against the live one. Nothing serves that was not promoted. Ctrl-C stops; --resume "
        "goes on."
    )
    kind, command = CROSS_ENCODER, "train_reranker"
