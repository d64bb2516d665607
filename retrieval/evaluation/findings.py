"""What a diagnosis means: each figure in one sentence, and what to do where it is bad."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

GOOD, BAD, NOTE = "good", "bad", "note"
LEAST_RECALL = 0.95
LEAST_INT8_RECALL = 0.98
MOST_COSINE = 0.3  # of random pairs: above, whitening is offered
MOST_FIRST_SHARE = 0.2  # of the variance, in one direction
MOST_UNIFORMITY = -1.5
MOST_ALIGNMENT = 0.8  # of the distance that queries have to products by chance
MOST_CUT = 0.2
MOST_TWINS = 0.1
MOST_SHIFT = 0.1
KEPT = 0.98  # recall with rescoring at which a size counts as enough


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure as people read it; `cure` is empty unless `state` is bad."""

    name: str
    title: str
    value: str
    state: str  # good, bad or note
    meaning: str
    cure: str = ""


def find_all(report: Mapping[str, Any]) -> list[Finding]:
    """Return what a report of retrieval.diagnostics says, in the order of the page."""
    return [finding for explain in EXPLAIN for finding in explain(report)]


def _judge(names: tuple[str, str], value: str, is_bad: bool, meaning: str, cure: str) -> Finding:
    return Finding(*names, value, BAD if is_bad else GOOD, meaning, cure if is_bad else "")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _stale(report: Mapping[str, Any]) -> list[Finding]:
    stale = report["stale"]
    count = stale["missing"] + stale["gone"] + stale["changed"]
    details = f"{stale['missing']:,} missing, {stale['gone']:,} no longer on sale, {stale['changed']:,} changed since"
    waiting = f"{stale['pending']:,} products wait to be indexed."
    return [
        _judge(
            ("stale", "Stale vectors"),
            f"{count:,}",
            count > 0,
            f"Products the index does not hold as they are now: {details}; {waiting}",
            "Start a worker, which brings waiting changes in, or run: manage.py reindex --pending; where nothing "
            "waits, run: manage.py reindex",
        ),
        _judge(
            ("drifted", "Vectors the model would make differently"),
            f"{stale['drifted']} of {stale['embedded_again']}",
            stale["drifted"] > 0,
            "Unchanged products embedded again and compared with the index: all should be the same.",
            "The model's files or the recipe of texts changed under the same version; run: manage.py reindex",
        ),
    ]


def _texts(report: Mapping[str, Any]) -> list[Finding]:
    texts = report["texts"]
    return [
        _judge(
            ("cut", "Texts cut"),
            _percent(texts["cut_share"]),
            texts["cut_share"] > MOST_CUT,
            f"Products whose text is longer than the {texts['max_tokens']} tokens the model reads; half of them "
            f"take {texts['median_tokens']:.0f} or fewer.",
            "Put what shoppers ask for first in descriptions, or choose a model that reads more tokens.",
        )
    ]


def _graph(report: Mapping[str, Any]) -> list[Finding]:
    live, exact = report["graph"]["live"], report["graph"]["exact"]
    return [
        _judge(
            ("recall", "recall@10 of the graph"),
            f"{live['recall']:.3f}",
            live["recall"] < LEAST_RECALL,
            f"Share of the true ten nearest that a search finds as the site does it (ef {live['ef']}, "
            f"{live['p50_ms']:.2f} ms; comparing with every product takes {exact['p50_ms']:.2f} ms).",
            "Raise SEARCHSITE_HNSW_M or SEARCHSITE_HNSW_EF_CONSTRUCT, or SEARCHSITE_VECTOR_DIM where it is set, and "
            "run: manage.py reindex",
        )
    ]


def _space(report: Mapping[str, Any]) -> list[Finding]:
    space = report["space"]
    is_narrow = space["mean_cosine"] > MOST_COSINE
    first = space["variance_shares"]["1"]
    findings = [
        _judge(
            ("anisotropy", "Mean cosine of random products"),
            f"{space['mean_cosine']:.3f}",
            is_narrow,
            "Near 0, vectors use the whole space; near 1, all products look alike to the model.",
            f"Train on this shop (manage.py finetune), which spreads them. {_offer_whitening(report)}",
        ),
        _judge(
            ("variance", "Variance in the first direction"),
            _percent(first),
            first > MOST_FIRST_SHARE,
            f"As even as {space['effective_dims']:.0f} directions of equal variance, of {report['dim']} there are.",
            f"One property outweighs all others. {_offer_whitening(report)}",
        ),
        _judge(
            ("uniformity", "Uniformity"),
            f"{space['uniformity']:.2f}",
            space["uniformity"] > MOST_UNIFORMITY,
            "How evenly products lie on the sphere: lower is better, evenly is about -4.",
            "Train on this shop (manage.py finetune) with larger batches: more negatives push products apart.",
        ),
    ]
    return findings + _alignment(space)


def _alignment(space: Mapping[str, Any]) -> list[Finding]:
    if "alignment" not in space:
        return []
    return [
        _judge(
            ("alignment", "Alignment"),
            f"{space['alignment']:.2f}",
            space["alignment"] > MOST_ALIGNMENT * space["chance_alignment"],
            f"Squared distance of {space['pairs']} queries to products that answer them: lower is better; to any "
            f"product it is {space['chance_alignment']:.2f}. {_percent(space['found_share'])} find one in the first "
            "ten.",
            "The model does not understand how this shop names things; train it: manage.py finetune",
        )
    ]


def _offer_whitening(report: Mapping[str, Any]) -> str:
    """Return what whitening would change, '' where it cannot be made."""
    before, after = report["space"], report["whitened"]
    if not after:
        return ""
    told = f"Whitening would bring the mean cosine from {before['mean_cosine']:.2f} to {after['mean_cosine']:.2f}"
    if "found_share" in before:
        shares = f"{_percent(before['found_share'])} to {_percent(after['found_share'])}"
        told += f" and queries with an answer in the first ten from {shares}"
    return f"{told}; manage.py diagnose --whitening FILE.npz writes it."


def _sizes(report: Mapping[str, Any]) -> list[Finding]:
    enough = next((each for each in report["sizes"] if each["recall_rescored"] >= KEPT), report["sizes"][-1])
    int8, among = report["quantization"], _say_among(report["compared_products"], report["products"])
    return [
        Finding(
            "sizes",
            "Dimensions that are enough",
            f"{enough['dims']} of {report['dim']}",
            NOTE,
            f"So many first dimensions, rescored with full vectors, find {_percent(enough['recall_rescored'])} of the "
            f"true ten nearest {among}, in {_percent(enough['memory_share'])} of the memory; SEARCHSITE_VECTOR_DIM "
            "sets how many are searched in.",
        ),
        _judge(
            ("quantization", "recall@10 in int8, rescored"),
            f"{int8['recall_rescored']:.3f}",
            int8["recall_rescored"] < LEAST_INT8_RECALL,
            f"Share of the true ten nearest {among}, in a quarter of the memory; without rescoring "
            f"{int8['recall']:.3f}.",
            "Leave SEARCHSITE_QUANTIZATION at none.",
        ),
    ]


def _say_among(compared: int, products: int) -> str:
    return f"of {compared:,} products drawn by chance" if compared < products else f"of all {products:,} products"


def _twins(report: Mapping[str, Any]) -> list[Finding]:
    twins = report["twins"]
    return [
        _judge(
            ("twins", "Products with a near-duplicate"),
            _percent(twins["share"]),
            twins["share"] > MOST_TWINS,
            f"Share of {report['sampled_products']:,} products, drawn by chance, of which another of the index's "
            f"{report['products']:,} has nearly the same vector; {twins['count']:,} such pairs were found.",
            "Merge what is the same product; say in title or description what tells variants apart.",
        )
    ]


def _shift(report: Mapping[str, Any]) -> list[Finding]:
    shift, names = report["shift"], ("shift", "Queries far from all products")
    if shift["far_from_products"] is None:
        told = "It takes more past queries to tell; those made from the catalogue are never far from it."
        return [Finding(*names, "not known", NOTE, told)]
    far = shift["far_from_known"]
    known = (
        ""
        if far is None
        else f" {_percent(far)} are far from {shift['known']:,} judged queries the model learned from."
    )
    return [
        _judge(
            names,
            _percent(shift["far_from_products"]),
            shift["far_from_products"] > MOST_SHIFT,
            f"Past queries whose best product has a cosine below {shift['limit']:.2f}, which 95 % of queries made from "
            f"the catalogue reach.{known}",
            "Shoppers ask for what is not sold, or in words the model does not know: look at the queries below, "
            "then grade some and train: manage.py finetune",
        )
    ]


EXPLAIN: tuple[Callable[[Mapping[str, Any]], list[Finding]], ...] = (
    _graph, _stale, _texts, _space, _twins, _sizes, _shift,
)  # fmt: skip
