"""What kind of question a query is, for experiments that are for some of them alone."""

from __future__ import annotations

from enum import StrEnum

from retrieval.engine.text import has_digit, normalize, split_words

FEW_WORDS = 2


class Segment(StrEnum):
    BROWSE = "browse"  # no words: a category, a brand, everything
    CODE = "code"  # every word has a digit: an SKU, a model number
    SHORT = "short"  # one word or two, such as "kettle"
    LONG = "long"  # more, such as "kettle for a small kitchen"


def find_segment(text: str) -> Segment:
    """Return the segment of a query as it was typed."""
    words = split_words(normalize(text))
    if not words:
        return Segment.BROWSE
    if all(has_digit(word) for word in words):
        return Segment.CODE
    return Segment.SHORT if len(words) <= FEW_WORDS else Segment.LONG
