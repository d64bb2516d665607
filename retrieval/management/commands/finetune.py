"""Train the two towers on what this shop knows."""

from __future__ import annotations

from retrieval.live import TWO_TOWER
from retrieval.training_command import TrainingCommand


class Command(TrainingCommand):
    help = (
        "Train the two towers, which search by meaning, on this shop's catalogue and ratings, and judge the result "
        "against the live model. Nothing serves that was not promoted. Ctrl-C stops; --resume goes on."
    )
    kind, command = TWO_TOWER, "finetune"
