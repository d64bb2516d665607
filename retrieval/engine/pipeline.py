"""One query's way from words to a page of products. Parts are handed in; values come out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from retrieval.engine import fusion
from retrieval.engine.columns import Rows
from retrieval.engine.config import RERANK_BLEND, RERANK_DEPTH, SearchConfig
from retrieval.engine.facets import FacetCounter, Mask, combine, filter_masks, sort_rows
from retrieval.engine.fusion import Candidates, Evidence
from retrieval.engine.generation import Generation
from retrieval.engine.parts import ProductSource, QueryEncoder, Reranker, Stopwatch
from retrieval.engine.query import ParsedQuery, contains_phrases, correct_query, parse_query
from retrieval.engine.recent import Recent
from retrieval.engine.result_set import ExplanationTable, ResultSet, join_tables
from retrieval.engine.text import full_text, reader_input
from retrieval.engine.types import Document, Hit, Ids, Query, Ranking, Results, Vectors

RECENT_SEARCHES = 100  # texts whose result sets are kept, so that pages, filters and sorts speak of the same set
EMPTY = Ranking(np.empty(0, np.int64), np.empty(0, np.float32))


def _unknown(word: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Selected:
    """What of a result set passes the filters: the catalogue's rows of the set, which pass, and places in the set."""

    rows: Rows
    masks: dict[str, Mask]
    order: npt.NDArray[np.intp]  # as the query sorts


@dataclass(frozen=True)
class Pipeline:
    generation: Generation
    encoder: QueryEncoder | None  # None searches by words alone
    source: ProductSource
    config: SearchConfig
    reranker: Reranker | None = None
    notice: str = ""
    recent: Recent[tuple[str, bool], ResultSet] = field(default_factory=lambda: Recent(RECENT_SEARCHES))

    def search(self, query: Query, shown: Sequence[int] | None = None) -> Results:
        """Return one page of the answer. Empty text browses everything, most popular first.

        `shown`: products of the answer to show, in this order, in place of the page's own.
        """
        stopwatch = Stopwatch()
        with stopwatch("total"):
            found = self._answer(query, stopwatch)
            results = self._page(query, found, shown, stopwatch)
        return replace(results, timings_ms={name: round(ms, 3) for name, ms in stopwatch.timings_ms.items()})

    def rank(self, query: Query, most: int) -> Ids:
        """Return the ids of the best `most` products of the answer, shape (products,), all pages' together."""
        found = self._answer(query, Stopwatch())
        return found.product_ids[self._select(query, found).order[:most]]

    def _answer(self, query: Query, stopwatch: Stopwatch) -> ResultSet:
        parsed = parse_query(query.text)
        if not parsed.words:
            return self._browse(parsed)
        key = (query.text, query.is_verbatim)
        result_set = self.recent.get(key)
        if result_set is None:
            result_set = self._find(parsed, query.is_verbatim, stopwatch)
            self.recent.put(key, result_set)
        return result_set

    def _browse(self, parsed: ParsedQuery) -> ResultSet:
        """Return everything for no text; one without a single word, such as '???' or an emoji, asks for nothing."""
        columns = self.generation.columns
        order = np.argsort(-columns.popularity, kind="stable")[: 0 if parsed.text else None]
        unknown = fusion.Side(np.zeros(len(order), np.int64), np.full(len(order), np.nan))
        table = ExplanationTable(unknown, unknown, np.full(len(order), np.nan), np.full(len(order), np.nan))
        return ResultSet(columns.product_ids[order], columns.popularity[order], table, parsed)

    # --- the result set -------------------------------------------------------------------------------

    def _find(self, typed: ParsedQuery, is_verbatim: bool, stopwatch: Stopwatch) -> ResultSet:
        with stopwatch("understand"):
            parsed, vector, suggestion = self._understand(typed, is_verbatim, stopwatch)
        lexical = self._search_lexical(parsed, stopwatch)
        dense = self._search_dense(vector, stopwatch)
        with stopwatch("fuse"):
            candidates = fusion.merge_candidates(lexical, dense)
            evidence = self._weigh_evidence(parsed, vector)
            scores = fusion.fuse(candidates, evidence, fusion=self._fusion, dense_weight=self.config.dense_weight)
            order = np.argsort(-scores, kind="stable")
            order = order[self._is_answer(candidates, evidence)[order]]
        if parsed.phrases:
            with stopwatch("phrases"):
                order = order[self._has_phrases(candidates.product_ids[order], parsed.phrases)]
        product_ids, table = (
            candidates.product_ids[order],
            ExplanationTable(candidates.lexical, candidates.dense, scores, np.full(len(scores), np.nan)).select(order),
        )
        final = self._rerank(parsed.text, product_ids, table, evidence, stopwatch)
        result_set = ResultSet(
            product_ids[final],
            table.fused[final].astype(np.float32),
            table.select(final),
            parsed,
            corrected_from=typed.text if parsed.text != typed.text else "",
            suggestion=suggestion,
        )
        return self._put_code_first(result_set, typed.code)

    @property
    def _fusion(self) -> str:
        return "lexical" if self.encoder is None else self.config.fusion

    def _understand(
        self, typed: ParsedQuery, is_verbatim: bool, stopwatch: Stopwatch
    ) -> tuple[ParsedQuery, Vectors | None, str]:
        """Return the query to search, its vector where meaning counts, and a correction offered but not applied."""
        generation, parsed, suggestion = self.generation, typed, ""
        if self.config.correct_spelling and not is_verbatim:
            parsed, suggestion = correct_query(
                typed, generation.lexicon, generation.bm25.analyzer, self.encoder.is_word if self.encoder else _unknown
            )
        if not self.config.uses_dense or self.encoder is None:
            return parsed, None, suggestion
        with stopwatch("encode"):
            return parsed, self.encoder.encode_queries([parsed.text])[0], suggestion

    def _search_lexical(self, parsed: ParsedQuery, stopwatch: Stopwatch) -> Ranking:
        vector = self.generation.bm25.query_vector(parsed.text)
        if self._fusion == "dense" or not len(vector.indices):
            return EMPTY
        with stopwatch("lexical"):
            return self.generation.index.search_sparse(vector, limit=self.config.depth)

    def _search_dense(self, vector: Vectors | None, stopwatch: Stopwatch) -> Ranking:
        if vector is None:
            return EMPTY
        with stopwatch("dense"):
            return self.generation.index.search_dense(vector, limit=self.config.depth, ef=self.config.ef)

    def _weigh_evidence(self, parsed: ParsedQuery, vector: Vectors | None) -> Evidence:
        generation = self.generation
        weights = {token: generation.lexicon.idf(token) for token in set(generation.bm25.analyzer.tokens(parsed.text))}
        mean, deviation = (0.0, 1.0) if vector is None else generation.moments.of_query(vector)
        return Evidence(
            lexical_bound=sum(weights.values()) * (generation.bm25.k1 + 1),
            dense_mean=mean,
            dense_deviation=deviation,
            code_share=fusion.share_of_codes(weights),
        )

    def _is_answer(self, candidates: Candidates, evidence: Evidence) -> npt.NDArray[np.bool_]:
        """Return which candidates belong to the result set: those near the best of either side.

        A product must also stand out from the catalogue. The best of N similarities without meaning lies
        about sqrt(2 ln N) standard deviations above their mean; the cut-off is a share of that.
        """
        config = self.config
        by_chance = math.sqrt(2 * math.log(max(len(self.generation.columns), 2)))
        deviations = fusion.deviations(candidates.dense, evidence)
        best = np.nanmax(deviations, initial=0.0)
        is_near = deviations >= max(config.semantic_cutoff * by_chance, config.semantic_share * best)
        covered = fusion.cover(candidates.lexical, evidence)
        is_covered = (covered > 0) & (covered >= config.lexical_share * covered.max(initial=0.0))
        return np.asarray(is_near | is_covered)

    def _has_phrases(self, product_ids: Ids, phrases: tuple[str, ...]) -> npt.NDArray[np.bool_]:
        documents, analyzer = self._fetch(product_ids), self.generation.bm25.analyzer
        return np.array([contains_phrases(full_text(one), phrases, analyzer) for one in documents], bool)

    def _fetch(self, product_ids: Ids) -> list[Document]:
        """Return the products in this order; one that the catalogue no longer has says nothing."""
        found = self.source.fetch_documents(product_ids.tolist())
        return [found.get(product_id) or Document(product_id, "", "") for product_id in product_ids.tolist()]

    def _rerank(
        self, text: str, product_ids: Ids, table: ExplanationTable, evidence: Evidence, stopwatch: Stopwatch
    ) -> npt.NDArray[np.intp]:
        """Return the order after the cross-encoder has read the best again; fills in its scores."""
        depth, blend = self._reranking
        depth = min(depth, len(product_ids))
        order = np.arange(len(product_ids))
        if self.reranker is None or depth < 2:
            return order
        with stopwatch("rerank"):
            documents = [reader_input(document) for document in self._fetch(product_ids[:depth])]
            scores = self.reranker.score(text, documents).astype(np.float64)
            table.rerank[:depth] = scores
            blend = fusion.soften_blend(blend, evidence.code_share)
            order[:depth] = fusion.order_by_blend(table.fused[:depth], scores, blend, self.reranker.span)
        return order

    @property
    def _reranking(self) -> tuple[int, float]:
        """How many products the reranker reads, and its share of their score."""
        depth, blend = self.config.rerank_depth, self.config.rerank_blend
        return RERANK_DEPTH if depth is None else depth, RERANK_BLEND if blend is None else blend

    def _put_code_first(self, found: ResultSet, code: str) -> ResultSet:
        """Return the set with the products whose SKU or GTIN was typed in front."""
        if not code:
            return found
        exact = np.array(self.source.find_code(code), np.int64)
        known = exact[self.generation.columns.rows_of(exact) >= 0]
        if not len(known):
            return found
        positions = np.flatnonzero(~np.isin(found.product_ids, known))
        side = fusion.Side(np.zeros(len(known), np.int64), np.full(len(known), np.nan))
        nothing = np.full(len(known), np.nan)
        first = ExplanationTable(side, side, nothing, nothing)
        return replace(
            found,
            product_ids=np.concatenate([known, found.product_ids[positions]]),
            scores=np.concatenate([np.full(len(known), 1e6, np.float32), found.scores[positions]]),
            explanations=join_tables(first, found.explanations.select(positions)),
        )

    # --- one page of it -------------------------------------------------------------------------------

    def _page(self, query: Query, found: ResultSet, shown: Sequence[int] | None, stopwatch: Stopwatch) -> Results:
        with stopwatch("filter"):
            selected = self._select(query, found)
            positions = selected.order[(query.page - 1) * query.page_size :][: query.page_size]
            if shown is not None:
                places = {product_id: place for place, product_id in enumerate(found.product_ids.tolist())}
                positions = np.array([places[one] for one in shown if one in places], np.intp)
        with stopwatch("facets"):
            facets = FacetCounter(self.generation.columns, selected.rows, selected.masks, query.filters).count()
        return Results(
            hits=tuple(self._hit(found, position) for position in positions.tolist()),
            total=len(selected.order),
            facets=facets,
            searched_text=found.parsed.text,
            corrected_from=found.corrected_from,
            suggestion=found.suggestion,
            notice=self.notice,
            config_name=self.config.name,
        )

    def _select(self, query: Query, found: ResultSet) -> Selected:
        columns = self.generation.columns
        all_rows = columns.rows_of(found.product_ids)
        positions = np.flatnonzero(all_rows >= 0)
        rows = all_rows[positions]
        masks = filter_masks(columns, rows, query.filters)
        passing = np.flatnonzero(combine(masks, len(rows)))
        return Selected(rows, masks, positions[passing[sort_rows(columns, rows[passing], query.sort)]])

    @staticmethod
    def _hit(found: ResultSet, position: int) -> Hit:
        return Hit(
            int(found.product_ids[position]),
            float(found.scores[position]),
            found.explanations.row(position, position + 1),
        )
