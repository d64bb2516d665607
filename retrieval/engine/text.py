"""Words of products and queries: tokens for matching, texts for embedding."""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

import Stemmer

from retrieval.engine.types import Document, EngineError

# Changes whenever `embedding_text` or the tokens would come out differently: old indexes are then refused.
RECIPE_VERSION = "1"

_WORD = re.compile(r"[^\W_]+(?:[-./'’&+][^\W_]+)*", re.UNICODE)
_PART = re.compile(r"[^\W_]+", re.UNICODE)
_NUMBER_AND_UNIT = re.compile(r"(\d+(?:[.,]\d+)?)([a-z]{1,4})")
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|[\r\n•]+")
# Far more than words have: what lies beyond would be cut anyway, so is not tokenized.
CHARACTERS_PER_TOKEN = 64
# Words that say nothing about which product is meant.
STOPWORDS = frozenset((
    "a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "has", "in", "into", "is", "it", "its",
    "of", "on", "or", "our", "that", "the", "their", "this", "to", "was", "were", "will", "with", "you", "your",
))  # fmt: skip


def normalize(text: str) -> str:
    """Return `text` in one case, one Unicode form and with single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text.replace("\x00", " ")).casefold().split())


def split_words(text: str) -> list[str]:
    """Return the words of a normalised text, compounds whole: 'usb-c', '802.11n', '27.5'."""
    return _WORD.findall(text)


def has_digit(token: str) -> bool:
    return any(character.isdigit() for character in token)


@lru_cache(maxsize=65_536)
def expand_word(word: str) -> tuple[str, ...]:
    """Return the tokens a word is found by: joined, and in its parts.

    'wi-fi' gives 'wifi', 'wi', 'fi'; '500ml' gives '500ml', '500', 'ml'; other words give themselves.
    """
    parts = _PART.findall(word)
    joined = word.replace(",", ".") if _is_decimal(word) else "".join(parts)
    if len(parts) == 1:
        measure = _NUMBER_AND_UNIT.fullmatch(word)
        return (word, *measure.groups()) if measure else (word,)
    return (joined,) if _is_decimal(word) else (joined, *parts)


def _is_decimal(word: str) -> bool:
    return bool(re.fullmatch(r"\d+[.,]\d+", word))


class Analyzer:
    """Turns text into stems. Tokens with digits (SKUs, sizes, models) are kept as they are."""

    def __init__(self, language: str = "english") -> None:
        if language not in Stemmer.algorithms():
            choices = ", ".join(Stemmer.algorithms())
            raise EngineError(f"unknown language {language!r} for stemming, expected one of: {choices}")
        self._language = language
        self._local = threading.local()
        self.stem = lru_cache(maxsize=262_144)(self._stem)
        self._tokens_of = lru_cache(maxsize=262_144)(self._analyze_word)

    def tokens(self, text: str) -> list[str]:
        """Return the stems of `text` in order, stopwords left out."""
        tokens_of = self._tokens_of
        return [token for word in split_words(normalize(text)) for token in tokens_of(word)]

    def _analyze_word(self, word: str) -> tuple[str, ...]:
        return tuple(self.stem(token) for token in expand_word(word) if token not in STOPWORDS)

    def _stem(self, token: str) -> str:
        if has_digit(token):
            return token
        stemmer = getattr(self._local, "stemmer", None)
        if stemmer is None:  # a stemmer keeps state and must not be shared between threads
            stemmer = self._local.stemmer = Stemmer.Stemmer(self._language)
        return str(stemmer.stemWord(token))


def field_tokens(document: Document, analyzer: Analyzer) -> dict[str, list[str]]:
    """Return the tokens of each BM25 field of a product."""
    return {name: analyzer.tokens(text) for name, text in document_fields(document).items()}


def document_fields(document: Document) -> dict[str, str]:
    """Return the texts of a product by the BM25 field they belong to."""
    return {
        "title": document.title,
        "brand": document.brand,
        "category": " ".join(document.category),
        "attributes": " ".join(_attribute_texts(document)),
        "description": document.description,
        "code": f"{document.sku} {document.gtin}",
    }


def full_text(document: Document) -> str:
    """Return all texts of a product."""
    return ". ".join(text for text in document_fields(document).values() if text)


def reader_text(document: Document) -> str:
    """Return what a cross-encoder reads of a product: most telling first, bare numbers last, and nothing twice.

    It reads few tokens. '340' is a height or a weight, nobody knows without its name, and takes as many as 'steel'.
    """
    said: set[str] = set()

    def news(texts: Iterable[str]) -> str:
        """Return those texts that say a word which was not said before, joined."""
        return " ".join([text for text in texts if _adds_words(text, said)])

    values = list(_attribute_texts(document))
    numbers = [value for value in values if not any(map(str.isalpha, value))]
    parts = (
        news([document.title]),
        news([document.brand]),
        news([" ".join(document.category)]),
        news(value for value in values if value not in numbers),
        "" if document.description == document.title else document.description,
        news(numbers),
        f"{document.sku} {document.gtin}".strip(),
    )
    return ". ".join(filter(None, parts))


def reader_input(document: Document) -> tuple[str, str]:
    """Return a product as rerankers take it: its content hash, by which they know it again, and what they read."""
    return document.content_hash, reader_text(document)


def _adds_words(text: str, said: set[str]) -> bool:
    """Return whether the text has words that were not said before, which then are."""
    words = _PART.findall(text.casefold())
    if said.issuperset(words):
        return False
    said.update(words)
    return True


def _attribute_texts(document: Document) -> Iterator[str]:
    for name, value in document.attributes.items():
        if value.casefold() in ("yes", "true"):
            yield name  # a feature the product has
        elif value.casefold() not in ("no", "false"):
            yield value


def embedding_text(document: Document, count_tokens: Callable[[str], int], budget: int) -> str:
    """Return the text the product tower reads, at most `budget` tokens long.

    Title first, then brand and category where the title does not say them, then as many whole sentences of
    the description as fit.
    """
    lead = document.title
    for extra in (document.brand, document.category[-1] if document.category else ""):
        if extra and extra.casefold() not in lead.casefold():
            lead = f"{lead}, {extra}"
    return fit_sentences([lead, *split_sentences(document.description)], count_tokens, budget)


def split_sentences(text: str) -> list[str]:
    return [sentence for part in _SENTENCE_END.split(text) if (sentence := part.strip())]


def fit_sentences(sentences: Sequence[str], count_tokens: Callable[[str], int], budget: int) -> str:
    """Return the longest run of whole sentences from the first that has at most `budget` tokens.

    The first is always there. It is cut at a word if it alone is too long; so is the first that does not fit
    where the whole ones fill less than half of the budget, as texts without sentence ends do.
    """

    def fits(text: str) -> bool:
        return len(text) <= budget * CHARACTERS_PER_TOKEN and count_tokens(text) <= budget

    text = ". ".join(sentence.rstrip(".") for sentence in sentences)
    if fits(text):
        return text
    number = _find_most(len(sentences) - 1, lambda number: fits(_join(sentences[:number])))
    whole = _join(sentences[:number])
    if number and count_tokens(whole) >= budget / 2:
        return whole
    return _fit_words(f"{whole.rstrip('.')}. " if number else "", sentences[number], fits)


def _join(sentences: Sequence[str]) -> str:
    return ". ".join([*(sentence.rstrip(".") for sentence in sentences[:-1]), *sentences[-1:]])


def _fit_words(lead: str, text: str, fits: Callable[[str], bool]) -> str:
    """Return `lead` and the most words of `text` that fit; of a first word that does not fit, its most characters."""
    words = text.split()
    number = _find_most(len(words), lambda number: fits(lead + " ".join(words[:number])))
    if number:
        return lead + " ".join(words[:number])
    return lead + text[: _find_most(len(text), lambda length: fits(lead + text[:length]))]


def _find_most(limit: int, fits: Callable[[int], bool]) -> int:
    """Return the largest number from 1 to `limit` that fits, by bisection; 0 if none does."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
