"""What the live index and its model are like: measured over a sample, kept as one report for the admin page."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from django.conf import settings
from django.core.cache import cache
from django.utils import timezone

from catalog.models import Product
from retrieval.engine.files import write_atomically
from retrieval.engine.pipeline import Pipeline
from retrieval.engine.text import embedding_text
from retrieval.engine.types import EngineError, Vectors
from retrieval.evaluation import geometry, nearest
from retrieval.evaluation.metrics import Floats
from retrieval.sampling import (
    MADE,
    PAST,
    Encoder,
    Sample,
    draw_products,
    draw_sample,
    draw_vectors,
    encoder_of,
    known_queries,
)
from retrieval.setup import get_pipeline
from retrieval.staleness import find_stale

FILE, FORMAT = "diagnostics.json", 2
PROGRESS_KEY, PROGRESS_S = "diagnostics-progress", 300
UNLIMITED = 1 << 30  # tokens
MOST_TOLD = 10  # queries far from all products
COSINE_BINS = np.linspace(-0.2, 1.0, 37)

Report = dict[str, Any]
Progress = Callable[[str, float], None]


def diagnose(on_progress: Progress = lambda phase, share: None, *, seed: int = 1) -> Report:
    """Return what was measured of the live generation, as JSON can hold it; the same sample for the same seed.

    `on_progress` is told what is being done and the share done before. Nothing is changed.
    Raises IndexUnavailable without an index, EngineError for one that cannot be measured.
    """
    start, pipeline = perf_counter(), get_pipeline()
    encoder = encoder_of(pipeline)
    on_progress("reading products and queries", 0.0)
    sample = draw_sample(pipeline, encoder, seed)
    if len(sample.products) < 2:
        raise EngineError(
            f"generation {pipeline.generation.name} holds {len(sample.products)} products that are on sale, expected "
            "at least 2; import a catalogue, then run: manage.py reindex"
        )
    report = _facts(pipeline, encoder, sample)
    on_progress("looking for stale vectors", 0.2)
    report["stale"] = find_stale(pipeline, encoder, sample)
    on_progress("measuring texts", 0.3)
    report["texts"] = measure_texts(encoder, sample)
    on_progress("comparing vectors", 0.5)
    report |= measure_space(sample)
    report["twins"] = measure_twins(pipeline, sample)
    report |= measure_losses(draw_vectors(pipeline, seed), sample.queries)
    on_progress("searching", 0.6)
    report["graph"] = measure_graph(pipeline, sample, lambda share: on_progress("searching", 0.6 + 0.3 * share))
    on_progress("looking for queries out of place", 0.9)
    report["shift"] = measure_shift(pipeline, encoder, sample)
    return report | {"seconds": round(perf_counter() - start, 1)}


def _facts(pipeline: Pipeline, encoder: Encoder, sample: Sample) -> Report:
    return {
        "format": FORMAT,
        "made_at": timezone.now().isoformat(timespec="seconds"),
        "generation": pipeline.generation.name,
        "model_version": encoder.model_version,
        "dim": int(sample.products.shape[1]),
        "products": len(pipeline.generation.columns),
        "sampled_products": len(sample.products),
        "sampled_queries": len(sample.texts),
        "query_source": sample.source,
    }


def measure_texts(encoder: Encoder, sample: Sample) -> Report:
    """Return the share of products whose text does not fit the model whole, and the tokens texts take, cut."""
    tokens, cut = [], 0
    for document in sample.documents:
        whole = embedding_text(document, lambda text: 0, UNLIMITED)
        text = embedding_text(document, encoder.count_tokens, encoder.max_tokens)
        tokens.append(encoder.count_tokens(text))
        cut += text != whole
    counts, edges = np.histogram(tokens, bins=20, range=(0, encoder.max_tokens))
    return {
        "max_tokens": encoder.max_tokens,
        "cut_share": cut / len(sample.documents),
        "median_tokens": float(np.median(tokens)),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
    }


def measure_space(sample: Sample) -> Report:
    """Return how the sampled vectors lie, and what whitening would change."""
    products = sample.products
    counts, edges = np.histogram(geometry.sample_cosines(products), bins=COSINE_BINS)
    return {
        "space": _describe_space(sample, products, sample.pair_queries)
        | {"histogram": {"edges": edges.round(4).tolist(), "counts": counts.tolist()}},
        "whitened": _whiten(sample),
    }


def measure_losses(vectors: Vectors, queries: Vectors) -> Report:
    """Return what searching in smaller vectors would lose; among few products it would seem to lose less."""
    return {
        "compared_products": len(vectors),
        "sizes": [asdict(each) for each in nearest.measure_sizes(vectors, queries)],
        "quantization": asdict(nearest.measure_quantization(vectors, queries)),
    }


def measure_twins(pipeline: Pipeline, sample: Sample) -> Report:
    """Return the share of sampled products that have a near-duplicate in the whole index, and the most alike."""
    twins = geometry.find_near_duplicates(pipeline.generation.index, sample.products, sample.product_ids)
    shown = {product_id for one, other, _ in twins.pairs for product_id in (one, other)}
    titles = dict(Product.objects.filter(pk__in=shown).values_list("pk", "title"))
    return {
        "count": twins.count,
        "share": twins.products / len(sample.products),
        "pairs": [
            {"first": titles[one], "second": titles[other], "ids": [one, other], "cosine": round(cosine, 4)}
            for one, other, cosine in twins.pairs
            if one in titles and other in titles
        ],
    }


def _describe_space(sample: Sample, products: Vectors, pair_queries: Vectors) -> Report:
    anisotropy = geometry.measure_anisotropy(products)
    facts: Report = {
        "mean_cosine": anisotropy.mean_cosine,
        "variance_shares": {str(number): share for number, share in anisotropy.variance_shares.items()},
        "effective_dims": anisotropy.effective_dims,
        "uniformity": geometry.measure_uniformity(products),
        "pairs": len(sample.answers),
    }
    if sample.answers:
        owners = np.repeat(np.arange(len(sample.answers)), [len(rows) for rows in sample.answers])
        rows = [row for answers in sample.answers for row in answers]
        facts["alignment"] = geometry.measure_alignment(pair_queries[owners], products[rows])
        facts["chance_alignment"] = 2 - 2 * float(pair_queries.mean(0) @ products.mean(0))
        facts["found_share"] = nearest.found_share(pair_queries, products, sample.answers)
    return facts


def _whiten(sample: Sample) -> Report | None:
    """Return the space as it would be whitened, None where the sample is too small for it."""
    try:
        whitening = geometry.fit_whitening(sample.products)
    except ValueError:
        return None
    return _describe_space(sample, whitening.apply(sample.products), whitening.apply(sample.pair_queries))


def write_whitening(path: Path) -> None:
    """Write the whitening of the live generation's sampled vectors; raises EngineError where they are too few."""
    try:
        geometry.fit_whitening(draw_products(get_pipeline())[1]).save(path)
    except ValueError as error:
        raise EngineError(f"whitening cannot be made: {error}") from error


def measure_graph(pipeline: Pipeline, sample: Sample, report: Callable[[float], None]) -> Report:
    """Return recall and time of the real index by `ef`, as the site searches, and of exact search."""
    live = (max(pipeline.config.ef, pipeline.config.depth), pipeline.config.depth)
    settings_ = [(ef, nearest.TOP) for ef in nearest.EFS] + [live]
    points, exact = nearest.measure_graph(
        pipeline.generation.index, sample.queries, settings_, lambda done: report(done / (len(settings_) + 1))
    )
    return {"curve": [asdict(each) for each in points[:-1]], "live": asdict(points[-1]), "exact": asdict(exact)}


def measure_shift(pipeline: Pipeline, encoder: Encoder, sample: Sample) -> Report:
    """Return how many queries lie far from all products, and from judged queries the model learned from.

    Queries made from the catalogue are what others are compared with: by themselves they show nothing.
    """
    generation, known = pipeline.generation, known_queries(encoder.model_version)
    best, usual = _find_best(pipeline, sample.queries), _find_best(pipeline, sample.usual)
    shift = nearest.measure_shift(
        sample.queries,
        best,
        generation.moments,
        len(generation.columns),
        usual=usual if sample.source == PAST else None,
        known=encoder.encode_queries(known) if known else None,
    )
    edges = np.linspace(0, 1, 21)
    shares = {
        name: (np.histogram(np.clip(values, 0, 1), edges)[0] / len(values)).round(4).tolist()
        for name, values in {sample.source: best, MADE: usual}.items()
    }
    farthest = [sample.texts[row] for row in shift.farthest[:MOST_TOLD]]
    return asdict(shift) | {"farthest": farthest, "known": len(known), "edges": edges.tolist(), "shares": shares}


def _find_best(pipeline: Pipeline, queries: Vectors) -> Floats:
    """Return each query's highest cosine with any product."""
    index = pipeline.generation.index
    return np.array([index.search_dense(query, limit=1, is_exact=True).scores.max() for query in queries], np.float64)


# --- kept for the page ------------------------------------------------------------------------------------


def report_path() -> Path:
    return Path(settings.DATA_DIR) / FILE


def diagnose_and_keep() -> Report:
    """Measure, tell how far it is, and keep the report; an error is kept for the page and raised."""
    try:
        report = diagnose(tell_progress)
        write_atomically(report_path(), json.dumps(report, ensure_ascii=False, indent=1))
    except Exception as error:
        cache.set(PROGRESS_KEY, {"error": str(error) or repr(error)}, PROGRESS_S)
        raise
    forget_progress()
    return report


def tell_progress(phase: str, share: float) -> None:
    cache.set(PROGRESS_KEY, {"phase": phase, "percent": round(100 * share)}, PROGRESS_S)


def forget_progress() -> None:
    cache.delete(PROGRESS_KEY)


def read_progress() -> Report | None:
    """Return what a diagnosis under way does, with `phase` and `percent`, or the `error` of the last; else None."""
    found: Report | None = cache.get(PROGRESS_KEY)
    return found


def read_report() -> Report | None:
    """Return the last report, None where there is none of this format."""
    try:
        report: Report = json.loads(report_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) and report.get("format") == FORMAT else None
