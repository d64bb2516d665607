"""Titles and descriptions of the sample shop: written as shops write them, some tidy, some terse, some endless."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from catalog.sample.taxonomy import ProductType, Taxonomy

NO_BRAND = "the maker"


def write_title(
    form: int, kind: ProductType, *, brand: str, model: str, shown: Sequence[str], rng: random.Random
) -> str:
    """Return the title in one of FORM_COUNT forms; `shown` are attribute values, the colour last where there is one."""
    name, plain, facts = rng.choice(kind.names), kind.name, ", ".join(shown)
    parts: tuple[str, ...] = (
        (brand, model, name, *shown),
        (brand, name, *shown),
        (name, f"by {brand}" if brand else "", f"– {facts}" if facts else ""),
        (*shown[-1:], *shown[:-1][:1], plain, brand, model),
        (brand, plain, f"({facts})" if facts else "", model),
        (f"{_start(name)}, {facts}" if facts else name, f"| {brand} {model}" if brand else model),
        (brand, model, f"{plain}:" if facts else plain, facts),
    )[form]
    return _start(" ".join(part for part in parts if part))


def without_article(value: str) -> str:
    """Return an attribute's value as it stands before a noun: 'a slider' sells a 'slider dimmer switch'."""
    first, _, rest = value.partition(" ")
    return rest if rest and first in ("a", "an", "the") else value


FORM_COUNT = 7
FORM_WEIGHTS = (3, 3, 2, 2, 2, 1, 1)


def write_description(
    kind: ProductType, brand: str, attributes: Mapping[str, str], taxonomy: Taxonomy, rng: random.Random
) -> str:
    """Return none for a few, a sentence or two for some, a paragraph for most, a page for a few."""
    (length,) = rng.choices(("none", "terse", "usual", "listed", "long"), (4, 28, 40, 18, 10))
    if length == "none":
        return ""
    lines = [line.format_map(attributes) for line in kind.lines]
    extras = [line.format_map({"brand": brand or NO_BRAND, "name": kind.name}) for line in kind.extras]
    if length == "terse":
        return _join(rng.sample(lines, rng.randint(1, 2)))
    facts = [f"{name}: {value}." for name, value in attributes.items()]
    usual = [*rng.sample(lines, len(lines) - (rng.random() < 0.4)), *_pick(extras, 1, 3, rng)]
    if length == "usual":
        return _join(usual)
    if length == "listed":
        return _join([*usual, *facts, *_name_companions(kind, taxonomy, rng)])
    long = [*rng.sample(lines, len(lines)), *_pick(extras, 7, 14, rng)]
    return _join([*long, *_name_companions(kind, taxonomy, rng), *facts])


def _pick(lines: Sequence[str], least: int, most: int, rng: random.Random) -> list[str]:
    return rng.sample(lines, min(len(lines), rng.randint(least, most)))


def _name_companions(kind: ProductType, taxonomy: Taxonomy, rng: random.Random) -> list[str]:
    """Return a sentence that names other types, as shops do and search engines stumble over."""
    names = [taxonomy.types[slug].name for slug in (*kind.companions, *kind.substitutes)]
    return [f"{rng.choice(COMPANIONS)}: {', '.join(names)}."] if names and rng.random() < 0.6 else []


COMPANIONS = ("Often bought together with", "You may also like", "From the same people", "Goes well with")


def _join(sentences: Sequence[str]) -> str:
    return " ".join(_start(sentence) for sentence in sentences)


def _start(text: str) -> str:
    return text[:1].upper() + text[1:]
