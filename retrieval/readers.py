"""Cross-encoders in the form the engine runs, measured and quantised with pairs of the sample shop.

So each stays the same model whatever the catalogue becomes. Not for the web process.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from retrieval.learning.export import Pair, export_reranker
from retrieval.live import reader_precisions
from retrieval.training_sources import make_sample_pairs


def export_reader(name: str, models_dir: Path, *, quantize_with: Sequence[Pair] = ()) -> Path:
    """Return the folder of a cross-encoder that knows how far apart it scores right and wrong.

    `quantize_with`: as `export_reranker` has it.
    """
    return export_reranker(name, models_dir, quantize_with=quantize_with, measure_with=make_sample_pairs())


def export_for_searches(name: str, models_dir: Path) -> Path:
    """Return the folder of a cross-encoder exported in the precision that the settings want here."""
    is_int8 = reader_precisions()[0] == "int8"
    return export_reader(name, models_dir, quantize_with=quantisation_pairs() if is_int8 else ())


def quantisation_pairs() -> list[Pair]:
    """Return the pairs from which the ranges of int8 are taken."""
    return [(pair.query, pair.text) for pair in make_sample_pairs()]
