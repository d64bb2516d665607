"""Signed references: what was signed is read, nothing else is."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest

from experiments import references
from experiments.references import BadReference, ForeignReference, Reference, read, sign
from experiments.visitors import ShopVisitor

ADA, BOB = ShopVisitor("ada"), ShopVisitor("bob")
QUERY_ID = str(uuid.UUID(int=7))
MUG = Reference(QUERY_ID, "MUG/1 %", 25)


@pytest.mark.parametrize("sku", ["A1", "MUG/1 %", "Größe-😀", "x" * 100])
@pytest.mark.parametrize("is_narrowed", [True, False])
def test_what_is_signed_is_read(sku, is_narrowed):
    text = sign(Reference(QUERY_ID, sku, 1_000_000, is_narrowed), ADA)
    found = read(text, ADA)
    assert (found.query_id, found.sku, found.position, found.is_narrowed) == (QUERY_ID, sku, 1_000_000, is_narrowed)
    assert timedelta() <= found.age < timedelta(seconds=10)
    assert not found.is_expired


def test_it_is_short_and_needs_no_escaping():
    text = sign(Reference(QUERY_ID, "SKU-12345", 3), ADA)
    assert len(text) < 80
    assert text.replace("-", "a").replace("_", "a").isalnum()


def test_every_character_counts():
    text = sign(MUG, ADA)
    for place, character in enumerate(text):
        forged = text[:place] + ("A" if character != "A" else "B") + text[place + 1 :]
        try:
            assert read(forged, ADA) == read(text, ADA)  # the last character's spare bits say nothing
            assert place == len(text) - 1
        except BadReference:
            pass


@pytest.mark.parametrize("text", ["", "a", "=", "é", "😀" * 20, "A" * 80, "A" * 5000, "../..", "a b", "\x00" * 60])
def test_other_texts_are_no_references(text):
    with pytest.raises(BadReference):
        read(text, ADA)


def test_a_shortened_one_is_none():
    text = sign(MUG, ADA)
    for length in range(len(text) - 1):
        with pytest.raises(BadReference):
            read(text[:length])


def test_it_is_good_for_its_visitor_alone():
    text = sign(MUG, ADA)
    with pytest.raises(ForeignReference):
        read(text, BOB)
    assert read(text).is_of(ADA)
    assert not read(text).is_of(BOB)


def test_one_of_another_shop_is_none(settings):
    text = sign(MUG, ADA)
    settings.SECRET_KEY = "another shop's"
    with pytest.raises(BadReference):
        read(text, ADA)


def test_a_change_of_the_secret_leaves_old_ones_good_while_the_old_secret_is_named(settings):
    text, before = sign(MUG, ADA), settings.SECRET_KEY
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", [before]
    assert read(text, ADA).sku == MUG.sku


def test_it_grows_old(settings):
    found = read(sign(MUG, ADA))
    settings.SEARCHSITE = settings.SEARCHSITE | {"ATTRIBUTION_HOURS": 1}
    old = Reference(*(QUERY_ID, "A", 1), signed_at=found.signed_at - 3700)
    assert not found.is_expired
    assert old.is_expired


def test_only_searches_of_this_site_are_signed():
    with pytest.raises(ValueError, match="badly formed"):
        sign(Reference("shop-query-1", "A", 1), ADA)


def test_it_does_not_tell_who_the_visitor_is():
    assert references.hash_visitor("ada") not in b"ada"
    assert b"ada" not in sign(MUG, ADA).encode()
