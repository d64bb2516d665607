"""The catalogue's own words: how rare each is, which are close to a misspelt one, which begin like one half typed."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from math import log
from pathlib import Path

from rapidfuzz import process
from rapidfuzz.distance import OSA

from retrieval.engine.text import (
    STOPWORDS,
    Analyzer,
    document_fields,
    expand_word,
    field_tokens,
    has_digit,
    normalize,
    split_words,
)
from retrieval.engine.types import Document

FILE_NAME = "lexicon.json"
# Fields whose words shoppers type; long descriptions are full of words nobody means.
SPOKEN_FIELDS = ("title", "brand", "category")
SHORTEST_CORRECTED = 4  # letters: shorter words have too many near them
SHORTEST_TWICE = 8  # letters of a word that two edits leave itself: a 'shaver' is no 'silver'


@dataclass(frozen=True)
class Lexicon:
    """Document counts: `stems` over all fields, `words` as written in titles, brands and categories.

    `average_lengths` gives the mean number of tokens of each field.
    """

    document_count: int
    stems: dict[str, int]
    words: dict[str, int]
    average_lengths: dict[str, float]

    def idf(self, stem: str) -> float:
        """Return ln(1 + (N - n + 0.5) / (n + 0.5)), as the index computes it; highest for unknown stems."""
        count = self.stems.get(stem, 0)
        return log(1 + (self.document_count - count + 0.5) / (count + 0.5))

    def merge(self, other: Lexicon) -> Lexicon:
        """Return the counts of both together; the lengths stay, as the vectors made with them do."""
        return Lexicon(
            self.document_count + other.document_count,
            dict(Counter(self.stems) + Counter(other.stems)),
            dict(Counter(self.words) + Counter(other.words)),
            self.average_lengths,
        )

    def correct_word(self, word: str) -> str:
        """Return the catalogue's word most likely meant, or `word` itself when known, short, or a code.

        At most one edit is assumed in words of up to 5 letters, two in longer ones (Damerau 1964: 80 % of
        misspellings are one edit). Among equally near words the more frequent wins, then the first by alphabet.
        """
        if len(word) < SHORTEST_CORRECTED or has_digit(word) or word in self.words or word in STOPWORDS:
            return word
        limit = 1 if len(word) <= 5 else 2
        near = process.extract(
            word, self._correctable, scorer=OSA.distance, score_cutoff=limit, limit=None, processor=None
        )
        best = min(near, key=lambda item: self._correction_cost(word, item[0], item[1]), default=None)
        return best[0] if best else word

    def _correction_cost(self, word: str, candidate: str, distance: float) -> tuple[float, int, str]:
        # People seldom get the first letter wrong: count that as half an edit more.
        return distance + 0.5 * (word[0] != candidate[0]), -self.words[candidate], candidate

    def complete_word(self, prefix: str, limit: int = 20) -> list[str]:
        """Return the most frequent words that begin with `prefix`, most frequent first."""
        start = bisect_left(self._sorted_words, prefix)
        end = bisect_left(self._sorted_words, prefix + "\U0010ffff")
        return sorted(self._sorted_words[start:end], key=lambda word: -self.words[word])[:limit]

    @cached_property
    def _sorted_words(self) -> list[str]:
        return sorted(self.words)

    @cached_property
    def _correctable(self) -> list[str]:
        # A word seen once may itself be a misspelling.
        minimum = 2 if self.document_count >= 500 else 1
        return [
            word for word, count in self.words.items() if count >= minimum and len(word) >= 3 and not has_digit(word)
        ]

    def save(self, folder: Path) -> None:
        # Not by asdict: it copies every count one by one, which takes longer than all else of a small update.
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        (folder / FILE_NAME).write_text(json.dumps(content), encoding="ascii")

    @classmethod
    def load(cls, folder: Path) -> Lexicon:
        return cls(**json.loads((folder / FILE_NAME).read_text(encoding="utf-8")))


class LexiconBuilder:
    """Counts documents and their words one by one."""

    def __init__(self) -> None:
        self._stems: Counter[str] = Counter()
        self._words: Counter[str] = Counter()
        self._lengths: Counter[str] = Counter()
        self._count = 0

    def add(self, document: Document, tokens: Mapping[str, Sequence[str]]) -> None:
        """Count a document with the tokens of its fields."""
        self._count += 1
        self._stems.update({token for found in tokens.values() for token in found})
        texts = document_fields(document)
        self._words.update(spoken_words(" ".join(texts[name] for name in SPOKEN_FIELDS)))
        self._lengths.update({name: len(found) for name, found in tokens.items()})

    def build(self, average_lengths: dict[str, float] | None = None) -> Lexicon:
        """Return the lexicon, with these lengths where vectors were made with them, else the lengths counted."""
        lengths = {name: total / self._count for name, total in self._lengths.items()}
        return Lexicon(self._count, dict(self._stems), dict(self._words), average_lengths or lengths)


def build_lexicon(documents: Iterable[Document], analyzer: Analyzer) -> Lexicon:
    """Return the lexicon of these documents."""
    builder = LexiconBuilder()
    for document in documents:
        builder.add(document, field_tokens(document, analyzer))
    return builder.build()


def is_slip(typed: str, word: str) -> bool:
    """Return whether `word` is so near to what was typed that it need not be asked for.

    That is one edit, or two of SHORTEST_TWICE typed letters or more. One of the first letter counts as two.
    """
    edits = OSA.distance(typed, word) + (typed[:1] != word[:1])
    return edits <= (1 if len(typed) < SHORTEST_TWICE else 2)


def spoken_words(text: str) -> set[str]:
    """Return the words and parts of words in `text` as a shopper may type them."""
    return {part for word in split_words(normalize(text)) for part in (word, *expand_word(word))}
