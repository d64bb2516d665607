"""Batches through the encoder: each text once, in order, told of as it goes."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from retrieval.embedding import AHEAD, BATCH, embed_batches, embed_texts
from retrieval.models import Embedding, IndexBuild
from tests.fakes import DIM, HashEncoder, make_document

pytestmark = pytest.mark.django_db(transaction=True)


class CountingEncoder(HashEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def encode_products(self, texts, on_progress=None):
        self.asked += texts
        return super().encode_products(texts)


def embed(batches, encoder, on_progress=lambda build: None):
    build = IndexBuild.objects.create(products_total=sum(map(len, batches)))
    return build, list(embed_batches(iter(batches), encoder, build, on_progress))


def make_batches(*sizes, title="Mug {}"):
    numbers = iter(range(1, sum(sizes) + 1))
    return [[make_document(n, title.format(n)) for _, n in zip(range(size), numbers, strict=False)] for size in sizes]


def test_every_batch_comes_back_in_order_with_its_vectors():
    batches, encoder = make_batches(3, 4, 1, 2, 5), CountingEncoder()
    build, found = embed(batches, encoder)
    assert [documents for documents, _ in found] == batches
    for documents, vectors in found:
        assert vectors.shape == (len(documents), DIM)
        expected = encoder.encode_queries([document.title for document in documents])
        np.testing.assert_array_equal(vectors, expected)
    assert (build.products_done, build.embedded, Embedding.objects.count()) == (15, 15, 15)


def test_a_text_is_embedded_once_though_several_batches_at_the_encoder_have_it():
    encoder = CountingEncoder()
    build, found = embed(make_batches(*[3] * (AHEAD + 3), title="The same mug"), encoder)
    assert (encoder.asked, build.embedded) == (["The same mug"], 1)
    assert len({vector.tobytes() for _, vectors in found for vector in vectors}) == 1
    build, _ = embed(make_batches(2, 2, title="The same mug"), encoder)
    assert (len(encoder.asked), build.embedded, build.products_done) == (1, 0, 4)


def test_progress_never_goes_back_and_ends_at_the_total():
    seen = []
    embed(make_batches(2, 2, 2, 2), CountingEncoder(), lambda build: seen.append(build.products_done))
    assert seen == sorted(seen)
    assert seen[-1] == 8


def test_nothing_to_embed_is_nothing_done():
    assert embed([], CountingEncoder())[1] == []
    assert embed([[]], CountingEncoder())[1][0][1].shape == (0, DIM)


def test_a_failing_encoder_ends_the_build_and_leaves_python_as_it_was():
    class Broken(CountingEncoder):
        def encode_products(self, texts, on_progress=None):
            raise RuntimeError("out of memory")

    usual = sys.getswitchinterval()
    with pytest.raises(RuntimeError, match="out of memory"):
        embed(make_batches(2, 2, 2), Broken())
    assert sys.getswitchinterval() == usual
    assert not Embedding.objects.exists()


def test_texts_are_embedded_once_and_stored_for_an_index_to_come():
    encoder: Any = CountingEncoder()
    told: list[int] = []
    texts = [f"Mug {n}" for n in range(BATCH + 3)] + ["Mug 1"]
    vectors = embed_texts(texts, encoder, told.append)
    np.testing.assert_array_equal(vectors, encoder.encode_queries(texts))
    assert (len(encoder.asked), Embedding.objects.count()) == (BATCH + 3, BATCH + 3)
    assert told
    np.testing.assert_array_equal(embed_texts(texts[:5], encoder, told.append), vectors[:5])
    build, _ = embed([[make_document(n, f"Mug {n}") for n in range(1, 5)]], encoder)
    assert (len(encoder.asked), build.embedded) == (BATCH + 3, 0)
    assert embed_texts([], encoder, told.append).shape == (0, DIM)
