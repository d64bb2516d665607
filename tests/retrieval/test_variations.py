"""Products written as other shops might write them."""

import random

from retrieval.engine.types import Document
from retrieval.learning.variations import add_codes, hide_type, leave_out, vary

GRINDER = Document(
    1, "S1", "Acme burr coffee grinder, black", "Grinds.", "Acme", ("Kitchen", "Coffee grinders"), "kitchen/grinders",
    {"Colour": "Black"}, "123",
)  # fmt: skip


def test_fields_left_out_are_empty_and_the_title_stays():
    bare = leave_out(GRINDER, 1.0, random.Random(1))
    assert (bare.brand, bare.category, bare.attributes, bare.description) == ("", (), {}, "")
    assert bare.title == GRINDER.title


def test_a_hidden_type_is_in_the_category_alone():
    assert hide_type(GRINDER).title == "Acme burr black"
    assert hide_type(GRINDER).category == GRINDER.category


def test_a_title_of_nothing_but_the_type_stays():
    plain = Document(1, "S1", "coffee grinder", category=("Kitchen", "Coffee grinders"))
    assert hide_type(plain) == plain
    assert hide_type(Document(1, "S1", "coffee grinder")).title == "coffee grinder"


def test_codes_are_added_behind_the_first_word():
    titles = {add_codes(GRINDER, random.Random(seed)).title for seed in range(20)}
    assert len(titles) == 20
    assert all(title.startswith("Acme ") for title in titles)
    assert all([word for word in title.split() if word in GRINDER.title.split()] == GRINDER.title.split()
               for title in titles)  # fmt: skip


def test_without_variety_nothing_but_the_codes_changes():
    for seed in range(10):
        varied = vary(GRINDER, 0.0, random.Random(seed))
        assert (varied.title, varied.brand, varied.category) == (GRINDER.title, GRINDER.brand, GRINDER.category)
