"""Fielded BM25, worked by hand."""

import zlib

import numpy as np
import pytest

from retrieval.engine.bm25 import FIELD_WEIGHTS, Bm25, term_id, to_sparse
from retrieval.engine.text import Analyzer, document_fields
from tests.fakes import make_document

# Two terms of one id, and what crc32 gives for both.
COLLIDING = ("plumless", "buckeroo")
TYPES = [np.dtype(np.uint32), np.dtype(np.float32)]


def weights(vector) -> dict[int, float]:
    return dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True))


def test_terms_are_weighed_by_field_and_relative_length():
    bm25 = Bm25(
        Analyzer(),
        average_lengths={"title": 2.0, "brand": 1.0, "attributes": 1.0, "description": 8.0, "code": 3.0},
        k1=1.2,
        b=0.6,
    )
    document = make_document(
        5, "Red mug red", brand="Potta", description="Red potta.", attributes={"colour": "Red"}
    )  # code: sku-5 is sku5, sku and 5
    title = 1 - 0.6 + 0.6 * 3 / 2  # longer than the average title
    description = 1 - 0.6 + 0.6 * 2 / 8
    frequencies = {
        "red": 3 * 2 / title + 0.5 * 1 / 1.0 + 1 * 1 / description,
        "mug": 3 * 1 / title,
        "potta": 1 * 1 / 1.0 + 1 * 1 / description,
        "sku5": 3.0,
        "sku": 3.0,
        "5": 3.0,
    }
    expected = {term_id(term): tf * 2.2 / (1.2 + tf) for term, tf in frequencies.items()}
    assert weights(bm25.product_vector(document)) == pytest.approx(expected, rel=1e-6)


def test_a_word_counts_more_in_a_title_than_in_a_description():
    bm25 = Bm25(Analyzer(), dict.fromkeys(FIELD_WEIGHTS, 1.0))
    titled = weights(bm25.product_vector(make_document(1, "mug", description="sofa")))
    described = weights(bm25.product_vector(make_document(1, "sofa", description="mug")))
    assert titled[term_id("mug")] > described[term_id("mug")]


def test_a_query_weighs_each_of_its_terms_once():
    vector = Bm25(Analyzer(), {}).query_vector("Mugs, mugs and the MUG for wi-fi")
    assert weights(vector) == {term_id(term): 1.0 for term in ("mug", "wifi", "wi", "fi")}
    assert [vector.indices.dtype, vector.values.dtype] == TYPES


@pytest.mark.parametrize("text", ["", "the", "???", "😀"])
def test_a_text_without_terms_gives_an_empty_vector(text):
    vector = Bm25(Analyzer(), {}).query_vector(text)
    assert len(vector.indices) == len(vector.values) == 0
    assert [vector.indices.dtype, vector.values.dtype] == TYPES


def test_fields_that_are_empty_in_all_products_divide_nothing_by_zero():
    vector = Bm25(Analyzer(), {}).product_vector(make_document(1, "mug"))
    # The title's length is 1, its average counts as 1: tf is the field's weight.
    assert weights(vector)[term_id("mug")] == pytest.approx(3 * 2.2 / 4.2)


def test_every_field_of_a_product_has_a_weight():
    assert FIELD_WEIGHTS.keys() == document_fields(make_document(1, "mug")).keys()


def test_terms_whose_ids_collide_add_up():
    assert len({zlib.crc32(term.encode()) for term in COLLIDING}) == 1
    vector = to_sparse({COLLIDING[0]: 1.5, COLLIDING[1]: 2.0, "mug": 1.0})
    assert weights(vector) == {term_id("plumless"): 3.5, term_id("mug"): 1.0}


def test_an_index_gives_a_query_the_product_s_weights():
    bm25 = Bm25(Analyzer(), {"title": 2.0})
    product = weights(bm25.product_vector(make_document(1, "Steel kettle")))
    query = weights(bm25.query_vector("kettles of steel"))
    assert query.keys() <= product.keys()
