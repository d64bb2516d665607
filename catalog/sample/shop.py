"""Products of the sample shop: any number, always the same for the same seed."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import count, islice
from typing import Any

from catalog.sample.taxonomy import ProductType, Taxonomy, load_taxonomy
from catalog.sample.texts import FORM_COUNT, FORM_WEIGHTS, without_article, write_description, write_title

LAST_DAY = date(2026, 6, 30)  # nothing is newer, whenever the shop is made
VARYING = ("colour", "size", "capacity", "length", "pack")  # what variants differ in, the first that a kind has


@dataclass(frozen=True, slots=True)
class SampleProduct:
    """A product with what it is known to be: the truth that its texts only hint at."""

    sku: str
    kind: ProductType
    title: str
    description: str
    brand: str
    model: str  # shared by the variants of one article
    attributes: Mapping[str, str]
    tone: str  # colour of its picture
    price: float
    gtin: str
    rating: float | None
    rating_count: int
    stock: int
    popularity: float
    released: date

    @property
    def article(self) -> str:
        """What the variants of one article share."""
        return self.sku.rpartition("-")[0]

    def to_row(self) -> dict[str, Any]:
        """Return the product as a row of a catalogue file."""
        row = {
            "sku": self.sku,
            "title": self.title,
            "description": self.description,
            "brand": self.brand,
            "category": " > ".join((self.kind.department, *self.kind.category)),
            "price": self.price,
            "currency": "USD",
            "image_url": f"/sample-images/{self.kind.slug}/{self.tone}.svg",
            "gtin": self.gtin,
            "rating_count": self.rating_count,
            "stock": self.stock,
            "popularity": self.popularity,
            "released": self.released.isoformat(),
            "attributes": {_start(name): _start(value) for name, value in self.attributes.items()},
        }
        return row if self.rating is None else row | {"rating": self.rating}


def generate_products(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield `count` rows of a catalogue file, always the same for the same arguments.

    Raises ValueError for a negative count.
    """
    return (product.to_row() for product in make_products(count, seed))


def make_products(wanted: int, seed: int, taxonomy: Taxonomy | None = None) -> Iterator[SampleProduct]:
    """Yield `wanted` products with all that is known of them; raises ValueError for a negative count."""
    if wanted < 0:
        raise ValueError(f"{wanted} products: expected 0 or more")
    return islice(_make_endless(seed, taxonomy or load_taxonomy()), wanted)


def _make_endless(seed: int, taxonomy: Taxonomy) -> Iterator[SampleProduct]:
    kinds = list(taxonomy.types.values())
    rng = random.Random(f"shop-{seed}")
    # Some kinds come in many articles, some in few: a long tail over a shuffled order.
    weights = [1 / math.sqrt(1 + rank) for rank in rng.sample(range(len(kinds)), len(kinds))]
    for number in count():
        # Every kind once, then by weight.
        kind = kinds[number] if number < len(kinds) else rng.choices(kinds, weights)[0]
        yield from _make_article(kind, number, taxonomy, rng)


def _make_article(kind: ProductType, number: int, taxonomy: Taxonomy, rng: random.Random) -> Iterator[SampleProduct]:
    """Yield the variants of one article: the same model in one to four colours or sizes."""
    brand, model = _choose_brand(kind.brands, rng), _choose_model(kind.series, rng)
    quality = rng.gauss(0, 1)
    price, demand = _draw_price(kind.price, quality, rng), math.exp(rng.gauss(0, 1.6) + 0.4 * quality)
    released = LAST_DAY - timedelta(days=int(rng.expovariate(1 / 500)))
    (form,) = rng.choices(range(FORM_COUNT), FORM_WEIGHTS)
    shows_colour = rng.random() < 0.9
    tone = rng.choice(kind.tones)
    for place, attributes in enumerate(_choose_variants(kind, rng)):
        shown = [without_article(attributes[name]) for name in kind.in_title]
        if shows_colour and "colour" in attributes:
            shown.append(attributes["colour"])
        ratings = int(min(demand * rng.lognormvariate(2.2, 1), 50_000))
        yield SampleProduct(
            sku=f"{kind.slug.replace('-', '')[:3].upper()}{number:05d}-{place + 1}",
            kind=kind,
            title=write_title(form, kind, brand=brand, model=model, shown=shown, rng=rng),
            description=write_description(kind, brand, attributes, taxonomy, rng),
            brand=brand,
            model=model,
            attributes=attributes,
            tone=attributes.get("colour", tone),
            price=_round_price(price * rng.uniform(0.95, 1.1)),
            gtin=make_gtin(number * 10 + place),
            rating=_draw_rating(quality, ratings, rng),
            rating_count=ratings,
            stock=0 if rng.random() < 0.07 else int(rng.lognormvariate(2.8, 1)),
            popularity=round(demand * rng.uniform(0.3, 1.2) * 10, 2),
            released=released,
        )


def _choose_brand(brands: Sequence[str], rng: random.Random) -> str:
    """The first brands sell more than the last; a few articles have none."""
    if rng.random() < 0.06:
        return ""
    return rng.choices(brands, [1 / (1 + rank) for rank in range(len(brands))])[0]


def _choose_model(series: Sequence[str], rng: random.Random) -> str:
    """Return a name such as Linnea, or a number such as KX-200."""
    if series:
        return rng.choice(series)
    letters = "".join(rng.choice("ABCDEFGHKLMNPRSTVWX") for _ in range(rng.choice((1, 2, 2, 3))))
    return f"{letters}{rng.choice(('-', '', ''))}{rng.randint(1, 99) * 10}"


def _choose_variants(kind: ProductType, rng: random.Random) -> list[dict[str, str]]:
    common = {name: rng.choice(values) for name, values in kind.attributes.items()}
    name = next((name for name in VARYING if len(kind.attributes.get(name, ())) > 1), None)
    (wanted,) = rng.choices((1, 2, 3, 4), (5, 3, 2, 1))
    if name is not None and wanted > 1:
        values = kind.attributes[name]
        return [common | {name: value} for value in rng.sample(values, min(wanted, len(values)))]
    if "colour" not in kind.in_title and rng.random() < 0.08:
        common.pop("colour", None)  # a shop that does not say
    return [common]


def _draw_price(limits: tuple[float, float], quality: float, rng: random.Random) -> float:
    """Return a price between the limits, even in its logarithm, somewhat higher for quality."""
    low, high = limits
    position = min(max(rng.betavariate(1.6, 3) + 0.08 * quality, 0), 1)
    return float(low * (high / low) ** position)


def _draw_rating(quality: float, ratings: int, rng: random.Random) -> float | None:
    """Return average stars, 1 to 5: nearer to the quality the more ratings there are; None for none."""
    if not ratings:
        return None
    stars = 4.0 + 0.4 * quality + rng.gauss(0, 0.1 + 0.7 / math.sqrt(ratings))
    return round(min(max(stars, 1), 5), 1)


def _round_price(price: float) -> float:
    """Return the price as shops write it: 4.49, 24.99, 349."""
    if price < 10:
        return max(round(price * 2) / 2 - 0.01, 0.49)
    return round(price) - 0.01 if price < 200 else float(round(price / 10) * 10 - 1)


def make_gtin(number: int) -> str:
    """Return a GTIN-13 with its check digit, from the range that shops use among themselves."""
    digits = f"20{number:010d}"
    total = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits))
    return f"{digits}{-total % 10}"


def _start(text: str) -> str:
    return text[:1].upper() + text[1:]
