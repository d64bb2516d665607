"""Queries made from the catalogue alone: what shoppers might ask for, with all products that satisfy it.

For a shop that has no clicks and no ratings yet. Positives are every product that meets all conditions of a query,
hard negatives those that miss exactly one.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from retrieval.engine.text import STOPWORDS, has_digit, normalize, split_words
from retrieval.engine.types import Document
from retrieval.learning.examples import EXACT, LabelledQuery

SOURCE = "catalogue"
MOST_POSITIVES, MOST_NEGATIVES = 500, 20
LONGEST_VALUE = 24  # characters of an attribute's value that a shopper would type
MISSED = 1.0  # the grade of a product that misses one condition
SHORTEST_MISSPELT = 5
LEAST_OF_A_TYPE, LARGEST_TYPE = 8, 0.1  # products, and share of the catalogue, that a phrase names as a type


@dataclass(frozen=True, slots=True)
class Condition:
    """`kind` is category, brand, attribute or words; `words` is how a shopper says it."""

    kind: str
    value: str
    words: str


class Shelves:
    """Products by every condition they meet."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self.documents = {document.product_id: document for document in documents}
        self.conditions: dict[int, list[Condition]] = {}
        self._members: dict[Condition, set[int]] = defaultdict(set)
        self._by_word: dict[str, set[int]] = defaultdict(set)
        for document in documents:
            self.conditions[document.product_id] = found = list(find_conditions(document))
            for condition in found:
                self._members[condition].add(document.product_id)
            for word in set(title_words(document)):
                self._by_word[word].add(document.product_id)
        if not any(document.category for document in documents):
            self._name_types()

    def _name_types(self) -> None:
        """Take frequent phrases of titles for the types of a shop that has no categories."""
        phrases = {document.product_id: list(find_phrases(document)) for document in self.documents.values()}
        counts = Counter(phrase for found in phrases.values() for phrase in found)
        limits = range(LEAST_OF_A_TYPE, int(LARGEST_TYPE * len(self.documents)) + 1)
        for product_id, found in phrases.items():
            types = [phrase for phrase in found if counts[phrase] in limits]
            # Two words say more than one: 'toner cartridge', not 'cartridge'.
            for phrase in [phrase for phrase in types if " " in phrase] or types:
                condition = Condition("category", phrase, phrase)
                self.conditions[product_id].append(condition)
                self._members[condition].add(product_id)

    def meet(self, condition: Condition) -> set[int]:
        """Return the products that meet the condition."""
        if condition.kind != "words":
            return self._members[condition]
        return set.intersection(*(self._by_word[word] for word in condition.value.split()))

    def label(self, conditions: Sequence[Condition], rng: random.Random) -> dict[int, float]:
        """Return grades: EXACT for products that meet all conditions, MISSED for some that miss one."""
        sets = [self.meet(condition) for condition in conditions]
        positives = set.intersection(*sets)
        grades = dict.fromkeys(_some(positives, MOST_POSITIVES, rng), EXACT)
        for left_out in range(len(sets)) if len(sets) > 1 else ():
            others = set.intersection(*(found for place, found in enumerate(sets) if place != left_out))
            wrong = _some(others - positives, MOST_NEGATIVES // len(sets), rng)
            grades |= dict.fromkeys(wrong, MISSED)
        return grades


def title_words(document: Document) -> list[str]:
    return split_words(normalize(document.title))


def find_phrases(document: Document) -> Iterator[str]:
    """Yield the different words and pairs of words in the title that are letters only."""
    words = [word if word.isalpha() and word not in STOPWORDS else "" for word in title_words(document)]
    brand = set(split_words(normalize(document.brand)))
    pairs = [f"{first} {second}" for first, second in pairwise(words) if first and second]
    for phrase in dict.fromkeys([*filter(None, words), *pairs]):
        if brand.isdisjoint(phrase.split()):
            yield phrase


def _some(product_ids: set[int], most: int, rng: random.Random) -> list[int]:
    ordered = sorted(product_ids)
    return ordered if len(ordered) <= most else rng.sample(ordered, most)


def find_conditions(document: Document) -> Iterator[Condition]:
    if document.category:
        yield Condition("category", document.category_path, normalize(document.category[-1]))
    if document.brand:
        yield Condition("brand", normalize(document.brand), normalize(document.brand))
    for name, value in document.attributes.items():
        words = normalize(value)
        if words in ("yes", "true"):
            words = normalize(name)
        elif words in ("no", "false") or not any(letter.isalpha() for letter in words):
            continue  # '4' says nothing without its name
        if len(words) <= LONGEST_VALUE and len(words.split()) <= 3:
            yield Condition("attribute", f"{name}={value}", words)


def make_queries(documents: Sequence[Document], count: int, seed: int = 1) -> list[LabelledQuery]:
    """Return `count` different queries, the same for the same arguments; fewer where the catalogue gives no more."""
    if not documents:
        return []
    shelves, rng = Shelves(documents), random.Random(f"made-{seed}")
    found: dict[str, LabelledQuery] = {}
    for query in islice(_make_endless(shelves, rng), count * 4):
        if query is not None and query.text not in found:
            found[query.text] = query
        if len(found) == count:
            break
    return list(found.values())


def _make_endless(shelves: Shelves, rng: random.Random) -> Iterator[LabelledQuery | None]:
    product_ids = sorted(shelves.documents)
    names, weights = list(FORMS), [weight for weight, _ in FORMS.values()]
    while True:
        product_id = rng.choice(product_ids)
        (name,) = rng.choices(names, weights)
        conditions = FORMS[name][1](shelves, product_id, rng)
        yield _ask(name, conditions, shelves, rng) if conditions else None


def _ask(name: str, conditions: list[Condition], shelves: Shelves, rng: random.Random) -> LabelledQuery | None:
    words = [condition.words for condition in conditions]
    text = " ".join(dict.fromkeys(" ".join(words).split()))  # 'hp' once in 'hp hp laserjet'
    if rng.random() < 0.08:
        text = misspell(text, rng)
    grades = shelves.label(conditions, rng)
    return LabelledQuery(text, grades, f"{SOURCE}: {name}") if text and grades else None


def _pick(shelves: Shelves, product_id: int, rng: random.Random, *kinds: str) -> list[Condition]:
    """Return one condition of each kind that the product meets, in this order; none where one is missing."""
    by_kind: Mapping[str, list[Condition]] = defaultdict(list)
    for condition in shelves.conditions[product_id]:
        by_kind[condition.kind].append(condition)
    if any(len(by_kind[kind]) < kinds.count(kind) for kind in kinds):
        return []
    picked = {kind: rng.sample(by_kind[kind], kinds.count(kind)) for kind in dict.fromkeys(kinds)}
    return [picked[kind].pop() for kind in kinds]


def _title_span(shelves: Shelves, product_id: int, rng: random.Random) -> list[Condition]:
    words = title_words(shelves.documents[product_id])
    if len(words) < 2:
        return []
    length = min(rng.choice((2, 2, 3, 3, 4)), len(words))
    start = rng.choice((0, rng.randrange(len(words) - length + 1)))
    span = [word for word in words[start : start + length] if word not in STOPWORDS]
    return [Condition("words", " ".join(span), " ".join(span))] if span else []


def _model(shelves: Shelves, product_id: int, rng: random.Random) -> list[Condition]:
    words = [word for word in title_words(shelves.documents[product_id]) if has_digit(word)]
    codes = [word for word in words if len(word) >= 4 and any(letter.isalpha() for letter in word)]
    if not codes:
        return []
    code = rng.choice(codes)
    brand = _pick(shelves, product_id, rng, "brand") if rng.random() < 0.6 else []
    return [*brand, Condition("words", code, code)]


def _span_and_type(shelves: Shelves, product_id: int, rng: random.Random) -> list[Condition]:
    words = [word for word in title_words(shelves.documents[product_id]) if word not in STOPWORDS]
    category = _pick(shelves, product_id, rng, "category")
    if not words or not category:
        return []
    word = rng.choice(words)
    return [Condition("words", word, word), *category]


Form = Callable[[Shelves, int, random.Random], list[Condition]]
FORMS: dict[str, tuple[float, Form]] = {
    "type": (3.0, lambda shelves, product_id, rng: _pick(shelves, product_id, rng, "category")),
    "brand": (0.5, lambda shelves, product_id, rng: _pick(shelves, product_id, rng, "brand")),
    "brand and type": (2.0, lambda shelves, product_id, rng: _pick(shelves, product_id, rng, "brand", "category")),
    "attribute and type": (
        2.0,
        lambda shelves, product_id, rng: _pick(shelves, product_id, rng, "attribute", "category"),
    ),
    "two attributes and type": (
        1.0,
        lambda shelves, product_id, rng: _pick(shelves, product_id, rng, "attribute", "attribute", "category"),
    ),
    "brand, attribute and type": (
        1.0,
        lambda shelves, product_id, rng: _pick(shelves, product_id, rng, "brand", "attribute", "category"),
    ),
    "word and type": (2.0, _span_and_type),
    "title": (2.0, _title_span),
    "model": (1.0, _model),
}


def misspell(text: str, rng: random.Random) -> str:
    """Return the text with one slip of the fingers in a longer word, if it has one without digits."""
    words = text.split()
    places = [at for at, word in enumerate(words) if len(word) >= SHORTEST_MISSPELT and word.isalpha()]
    if not places:
        return text
    place = rng.choice(places)
    word = words[place]
    at = rng.randrange(1, len(word) - 1)
    slips = (
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
    )
    words[place] = rng.choice(slips)
    return " ".join(words)
