"""The authored taxonomy of the sample shop: departments and types of product, read from data files and checked."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from catalog.sample.shapes import SHAPES, Shape

DATA = Path(__file__).with_name("data")
# Colours a picture can have; any other value of the attribute 'colour' is an error.
COLOURS = {
    "red": "#c8372d", "orange": "#e07b2e", "yellow": "#e5b93b", "green": "#4f8f4f", "olive": "#7a7d3a",
    "teal": "#2f8a87", "blue": "#3d6fb5", "navy": "#2c3e66", "purple": "#7a5aa6", "pink": "#d886a4",
    "burgundy": "#7d2b3a", "brown": "#7b5236", "tan": "#b98d5f", "beige": "#d8c6a5", "cream": "#efe6cf",
    "white": "#f5f5f4", "silver": "#b9bec4", "grey": "#85898f", "charcoal": "#4a4d52", "black": "#26272b",
    "gold": "#c6a14a", "copper": "#b0683f", "natural": "#c9a06d", "clear": "#cfe3ea", "turquoise": "#45b5bd",
}  # fmt: skip
NO_COLOUR = "grey"  # of pictures of types that have no colour


class TaxonomyError(ValueError):
    """A data file that cannot be used; the message names the file, the type and the cure."""


@dataclass(frozen=True, slots=True)
class ProductType:
    """A kind of thing on sale.

    `names`: what titles call it, the plainest first. `synonyms`: what shoppers call it and no text does.
    `substitutes` serve the same purpose; `accessories` are for it; what it `goes_with` is not, and is used together
    with it. `lines`: sentences of descriptions, which may name attributes in braces; `extras`: sentences that fit
    all its department, which may name {brand} and {name}. `in_title`: attributes that titles show. `tones`: colours
    of its pictures where it has no colour. `series`: what its models are named after; those of types without have
    numbers.
    """

    slug: str
    names: tuple[str, ...]
    category: tuple[str, ...]  # without the department
    picture: str
    price: tuple[float, float]  # US dollars
    lines: tuple[str, ...]
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    in_title: tuple[str, ...] = ()
    synonyms: tuple[str, ...] = ()
    typos: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    substitutes: tuple[str, ...] = ()
    accessories: tuple[str, ...] = ()
    goes_with: tuple[str, ...] = ()
    tones: tuple[str, ...] = (NO_COLOUR,)
    department: str = ""
    brands: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    series: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def phrases(self) -> tuple[str, ...]:
        """All that shoppers call it, right or wrong."""
        return (*self.names, *self.synonyms, *self.typos)

    @property
    def companions(self) -> tuple[str, ...]:
        """Slugs of all that is used together with it."""
        return (*self.accessories, *self.goes_with)


GIVEN = {"department", "brands", "extras", "series"}  # by the department, not by the type
AUTHORED = {part.name for part in fields(ProductType)} - GIVEN
NEEDED = {"slug", "names", "category", "picture", "price", "lines"}


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """All types by slug, in the order of the files; `absent`: things shoppers ask for that no shop has.

    `shapes`: the drawings that types name as their picture.
    """

    types: Mapping[str, ProductType]
    absent: tuple[str, ...] = ()
    shapes: Mapping[str, Shape] = field(default_factory=lambda: SHAPES)

    @property
    def departments(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(kind.department for kind in self.types.values()))


@cache
def load_taxonomy(folder: Path = DATA) -> Taxonomy:
    """Return the taxonomy of all data files in `folder`; raises TaxonomyError for one that is not sound.

    `common.toml`, where it is there, has sentences (`extras`) and names of series for every department.
    """
    common = _read_file(folder / "common.toml") if (folder / "common.toml").exists() else {}
    types: list[ProductType] = []
    absent: list[str] = []
    shapes = dict(SHAPES)
    for path in sorted(folder.glob("*.toml")):
        if path.name != "common.toml":
            content = _read_file(path)
            shapes |= _read_shapes(path.name, content, shapes)
            types += _read_department(path.name, content, common)
            absent += content.get("absent", [])
    return build_taxonomy(types, absent, shapes)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TaxonomyError(f"{path.name} is not TOML in UTF-8: {error}") from error


def _read_shapes(file: str, content: dict[str, Any], known: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the drawings that a department brings along: `[shapes.NAME]` with `box` and `drawing`."""
    shapes = {}
    for name, entry in content.get("shapes", {}).items():
        if name in known:
            raise TaxonomyError(f"{file}: there is a shape {name!r} already")
        if set(entry) != {"box", "drawing"} or len(entry["box"]) != 4:
            raise TaxonomyError(f"{file}: shape {name!r} needs box = [x, y, width, height] and drawing")
        x, y, width, height = entry["box"]
        shapes[name] = Shape(x, y, width, height, entry["drawing"])
    return shapes


def _read_department(file: str, content: dict[str, Any], common: dict[str, Any]) -> list[ProductType]:
    if missing := [name for name in ("name", "brands", "types") if not content.get(name)]:
        raise TaxonomyError(f"{file}: {missing[0]!r} is missing or empty")
    given = {
        "department": content["name"],
        "brands": tuple(content["brands"]),
        "extras": (*content.get("extras", ()), *common.get("extras", ())),
    }
    series = () if content.get("model_numbers") else tuple(common.get("series", ()))
    return [_read_type(file, entry, given | {"series": series}) for entry in content["types"]]


def _read_type(file: str, entry: dict[str, Any], given: dict[str, Any]) -> ProductType:
    where = f"{file}: type {entry.get('slug', '(no slug)')!r}"
    if unknown := entry.keys() - AUTHORED:
        raise TaxonomyError(f"{where}: unknown field {min(unknown)!r}, expected: {', '.join(sorted(AUTHORED))}")
    if missing := NEEDED - entry.keys():
        raise TaxonomyError(f"{where}: {min(missing)!r} is missing")
    facts: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}
    facts["attributes"] = {name: tuple(values) for name, values in entry.get("attributes", {}).items()}
    if "power" in facts["attributes"]:
        given = given | {"series": ()}
    return ProductType(**given, **facts)


def build_taxonomy(
    types: Iterable[ProductType], absent: Iterable[str] = (), shapes: Mapping[str, Shape] = SHAPES
) -> Taxonomy:
    """Return the taxonomy of these types; raises TaxonomyError naming the first thing that is not sound."""
    types = list(types)
    if not types:
        raise TaxonomyError("there are no types: expected data files with [[types]]")
    twice = [slug for slug, count in Counter(kind.slug for kind in types).items() if count > 1]
    if twice:
        raise TaxonomyError(f"type {twice[0]!r} is there twice")
    by_slug = {kind.slug: kind for kind in types}
    named = {name: kind.slug for kind in types for name in kind.names}
    for kind in types:
        _check_type(kind, by_slug, shapes)
        if clash := [word for word in (*kind.synonyms, *kind.typos) if word in named]:
            raise TaxonomyError(f"type {kind.slug!r}: {clash[0]!r} is what type {named[clash[0]]!r} is called")
    return Taxonomy(by_slug, tuple(absent), shapes)


def _check_type(kind: ProductType, types: Mapping[str, ProductType], shapes: Mapping[str, Shape]) -> None:
    colours = (*kind.attributes.get("colour", ()), *kind.tones)
    problems = [
        *_check_relations(kind, types),
        *(f"{name!r} is in the title but no attribute" for name in kind.in_title if name not in kind.attributes),
        *(
            f"unknown colour {value!r}, expected one of: {', '.join(COLOURS)}"
            for value in colours
            if value not in COLOURS
        ),
        *(f"attribute {name!r} has no values" for name, values in kind.attributes.items() if not values),
        *(f"line {line!r} names no attribute" for line in kind.lines if _has_unknown_name(line, kind.attributes)),
        *(
            f"extra {line!r} names what is neither brand nor name"
            for line in kind.extras
            if _has_unknown_name(line, ("name", "brand"))
        ),
    ]
    if kind.picture not in shapes:
        problems.append(f"unknown picture {kind.picture!r}, expected one of: {', '.join(shapes)}")
    if not kind.names or not kind.brands or not kind.tones or not kind.category:
        problems.append("names, brands, tones and a category are needed")
    if len(kind.lines) < 3:
        problems.append(f"{len(kind.lines)} lines: at least 3 are needed")
    if len(kind.price) != 2 or not 0 < kind.price[0] < kind.price[1]:
        problems.append(f"price {list(kind.price)}: expected a rising range such as [5, 20]")
    if problems:
        raise TaxonomyError(f"type {kind.slug!r}: {problems[0]}")


def _check_relations(kind: ProductType, types: Mapping[str, ProductType]) -> list[str]:
    related = (*kind.substitutes, *kind.companions)
    if unknown := [slug for slug in related if slug not in types]:
        return [f"unknown type {unknown[0]!r}"]
    twice = [slug for slug, count in Counter(related).items() if count > 1]
    mutual = [slug for slug in kind.accessories if kind.slug in types[slug].accessories]
    return [
        *(f"{slug!r} is there twice in substitutes, accessories and goes_with" for slug in twice),
        *(f"{slug!r} is an accessory of it and it of {slug!r}; one of them goes_with the other" for slug in mutual),
    ]


def _has_unknown_name(line: str, known: Iterable[str]) -> bool:
    try:
        line.format_map(dict.fromkeys(known, ""))
    except (KeyError, ValueError, IndexError):
        return True
    return False
