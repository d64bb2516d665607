"""A product's text as other shops might write it: fields missing, the type left to be guessed, codes in the title.

What learns from one catalogue must not rely on how that one is written.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from retrieval.engine.text import normalize, split_words
from retrieval.engine.types import Document

LETTERS = "ABCDEFGHKLMNPRSTVWXZ"
UNITS = ("mm", "cm", "m", "kg", "g", "W", "V", "l", "GB")
HIDDEN, CODED = 0.7, 0.8  # how often, beside a field's share, the type is hidden and codes are added
ENDING = 3  # letters in which two forms of a word may differ: 'grinder', 'grinders'


def vary(document: Document, share: float, rng: random.Random) -> Document:
    """Return the product with some of its fields left out, each this often, and its title written otherwise."""
    if rng.random() < share * HIDDEN:
        document = hide_type(document)
    if rng.random() < share * CODED:
        document = add_codes(document, rng)
    return leave_out(document, share, rng)


def leave_out(document: Document, share: float, rng: random.Random) -> Document:
    """Return the product without some of its fields, each left out this often; the title always stays."""
    blank: dict[str, Any] = {}
    if rng.random() < share:
        blank |= {"category": (), "category_path": ""}
    for name in ("brand", "description", "attributes"):
        if rng.random() < share:
            blank[name] = {} if name == "attributes" else ""
    if "attributes" not in blank and rng.random() < share:
        shown = rng.sample(list(document.attributes.items()), rng.randint(0, len(document.attributes)))
        blank["attributes"] = dict(shown)
    if rng.random() < 0.5:
        blank |= {"sku": "", "gtin": ""}
    return replace(document, **blank)


def hide_type(document: Document) -> Document:
    """Return the product with a title that lacks the words of its category, where others are left to name it."""
    if not document.category:
        return document
    named = {word[: max(len(word) - ENDING, ENDING)] for word in split_words(normalize(document.category[-1]))}
    left = [word for word in document.title.split() if not _begins_with(word, named)]
    return replace(document, title=" ".join(left)) if len(left) >= 2 else document


def _begins_with(word: str, beginnings: set[str]) -> bool:
    return any(part.startswith(tuple(beginnings)) for part in split_words(normalize(word)))


def add_codes(document: Document, rng: random.Random) -> Document:
    """Return the product with one to three numbers, sizes or codes somewhere in its title."""
    words = document.title.split()
    for _ in range(rng.choice((1, 1, 2, 3))):
        words.insert(rng.randint(1, max(len(words), 1)), make_code(rng))
    return replace(document, title=" ".join(words))


def make_code(rng: random.Random) -> str:
    """Return what titles are full of and queries seldom ask for: 'KX-450B', '120 x 60 cm', '2x'."""
    size, number = rng.randint(1, 400), rng.randint(100, 99_999)
    letters = "".join(rng.choice(LETTERS) for _ in range(2))
    model = f"{letters}{rng.choice(('-', ''))}{rng.randint(10, 9999)}{rng.choice(('', rng.choice(LETTERS)))}"
    sizes = (f"{size} x {rng.randint(1, 400)} {rng.choice(('mm', 'cm'))}", f"{size} {rng.choice(UNITS)}")
    return rng.choice((model, model, str(number), *sizes, f"({letters})", f"{rng.randint(2, 12)}x"))
