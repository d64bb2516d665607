"""What a shopper's words ask for: phrases, codes, and the words probably meant by misspelt ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from retrieval.engine.lexicon import SHORTEST_CORRECTED, Lexicon, is_slip
from retrieval.engine.text import STOPWORDS, Analyzer, expand_word, has_digit, normalize, split_words

MAX_LENGTH = 500  # characters; more is no product search
# A mark behind a word opens nothing: 24" monitor, 8" x 10" frame.
_PHRASE = re.compile(r'(?<![^\W_])["“”„«»]([^"“”„«»]+)["“”„«»]')


@dataclass(frozen=True, slots=True)
class ParsedQuery:
    """`text` is normalised, quotes removed; `phrases` must stand in a product word by word."""

    text: str
    phrases: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        return split_words(self.text)

    @property
    def code(self) -> str:
        """The query as a possible SKU or GTIN: without spaces, '' where it has no digit."""
        return self.text if has_digit(self.text) and " " not in self.text else ""


def parse_query(text: str) -> ParsedQuery:
    """Return the query in normal form, at most MAX_LENGTH characters of it."""
    cut = text[:MAX_LENGTH]
    phrases = tuple(normalize(phrase) for phrase in _PHRASE.findall(cut))
    plain = normalize(re.sub(r'["“”„«»]', " ", cut))
    return ParsedQuery(plain, tuple(phrase for phrase in phrases if split_words(phrase)))


def correct_query(
    query: ParsedQuery, lexicon: Lexicon, analyzer: Analyzer, is_word: Callable[[str], bool]
) -> tuple[ParsedQuery, str]:
    """Return the query with misspelt words replaced by the catalogue's, and a further correction to offer or ''.

    A word no product has is misspelt unless `is_word` knows it: 'couch' may be in no text and still be
    understood, and must not become 'pouch'; that is only offered. So is a word less near than a slip of the finger:
    who wants a 'settee' is not shown kettles. Quoted words and tokens with digits stay as typed; so does a compound
    known joined, or part by part.
    """
    quoted = {word for phrase in query.phrases for word in split_words(phrase)}
    applied = offered = query.text
    for word in dict.fromkeys(query.words):
        if word in quoted or _is_known(word, lexicon, analyzer):
            continue
        corrected = lexicon.correct_word(word)
        offered = _replace_word(offered, word, corrected)
        if is_slip(word, corrected) and not is_word(word):
            applied = _replace_word(applied, word, corrected)
    return ParsedQuery(applied, query.phrases), offered if offered != applied else ""


def _replace_word(text: str, word: str, other: str) -> str:
    return re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", lambda match: other, text)


def _is_known(word: str, lexicon: Lexicon, analyzer: Analyzer) -> bool:
    # Nobody misspelt 'wi-fi' in a shop that has 'wifi', or 'usb-stick' in one that sells a 'usb stick'.
    joined, *parts = (
        len(token) < SHORTEST_CORRECTED
        or token in lexicon.words
        or token in STOPWORDS
        or analyzer.stem(token) in lexicon.stems
        for token in expand_word(word)
    )
    return joined or (bool(parts) and all(parts))


def contains_phrases(text: str, phrases: tuple[str, ...], analyzer: Analyzer) -> bool:
    """Return whether every phrase stands in `text` as consecutive words, by their stems. Stopwords ask nothing."""
    words = f" {' '.join(analyzer.tokens(text))} "
    asked = [" ".join(analyzer.tokens(phrase)) for phrase in phrases]
    return all(f" {phrase} " in words for phrase in asked if phrase)
