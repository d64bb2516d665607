"""What shoppers of the sample shop have in mind, and the words they find for it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from catalog.sample.shop import SampleProduct
from catalog.sample.taxonomy import ProductType, Taxonomy
from catalog.sample.texts import without_article

Shelves = Mapping[str, list[SampleProduct]]  # products by the slug of their kind
FITTING = frozenset({"for", "compatible with", "fits", "fits on", "socket"})  # attributes: what a product goes with


@dataclass(frozen=True, slots=True)
class Wish:
    """Kinds of product, and conditions on them.

    `supplies`: those of the kinds that only go with the others, such as toner for one who equips an office.
    `model`: this model of this brand. `sku`: this very product, other variants of its article are substitutes.
    """

    kinds: frozenset[str]  # slugs
    attributes: tuple[tuple[str, str], ...] = ()
    brand: str = ""
    model: str = ""
    sku: str = ""
    supplies: frozenset[str] = frozenset()

    def count_missed(self, product: SampleProduct) -> int:
        """Return how many conditions the product does not meet."""
        missed = sum(product.attributes.get(name) != value for name, value in self.attributes)
        return missed + bool(self.brand and product.brand != self.brand)

    def is_fitted_by(self, product: SampleProduct) -> bool:
        """Return whether the product goes with what it is wanted for: one that does not is of no use."""
        return all(product.attributes.get(name) == value for name, value in self.attributes if name in FITTING)


Made = tuple[str, Wish] | None  # None where the product gives no such query
Maker = Callable[[SampleProduct, Shelves, Taxonomy, random.Random], Made]


def ask_kind(product: SampleProduct, shelves: Shelves, taxonomy: Taxonomy, rng: random.Random) -> Made:
    return rng.choice(product.kind.names), _want(product.kind)


def ask_synonym(product: SampleProduct, shelves: Shelves, taxonomy: Taxonomy, rng: random.Random) -> Made:
    return (rng.choice(product.kind.synonyms), _want(product.kind)) if product.kind.synonyms else None


def ask_attribute(product: SampleProduct, shelves: Shelves, taxonomy: Taxonomy, rng: random.Random) -> Made:
    names = _askable(product)
    if not names:
        return None
    chosen = rng.sample(names, min(len(names), rng.choice((1, 1, 2, 2, 3))))
    return _word(product, rng.choice(product.kind.names), chosen), _want(product.kind, product, chosen)


def ask_synonym_with_attribute(
    product: SampleProduct, shelves: Shelves, taxonomy: Taxonomy, rng: random.Random
) -> Made:
    names = _askable(product)
    if not product.kind.synonyms or not names:
        return None
    chosen = ["colour"] if "colour" in names else [rng.choice(names)]
    return _word(product, rng.choice(product.kind.synonyms), chosen), _want(product.kind, product, chosen)


def ask_brand(product: SampleProduct, shelves: Shelves, taxonomy: Taxonomy, rng: random.Random) -> Made:
    if not product.brand:
        return None
    words = rng.sample((product.brand, rng.choice(product.kind.names)), 2)
    return " ".join(words).lower(), Wish(frozenset({product.kind.slug}), brand=product.brand)


def ask_brand_with_attribute(product: SampleProduct, shelves: Shelves, taxonomy: Taxonomy, rng: random.Random) -> Made:
    names = _askable(product)
    if not product.brand or not names:
        return None
    chosen = [rng.choice(names)]
    conditions = _want(product.kind, product, chosen).attributes
    text = f"{product.brand} {_word(product, product.kind.name, chosen)}".lower()
    return text, Wish(frozenset({product.kind.slug}), conditions, product.brand)


def ask_model(product: SampleProduct, shelves: Shelves, taxonomy: Taxonomy, rng: random.Random) -> Made:
    if not product.brand or product.model not in product.title:
        return None
    words = [product.brand, product.model]
    if product.kind.series or rng.random() < 0.4:  # a number says enough, a name does not
        words.append(product.kind.name)
    return " ".join(words).lower(), Wish(frozenset({product.kind.slug}), brand=product.brand, model=product.model)


def ask_sku(product: SampleProduct, shelves: Shelves, taxonomy: Taxonomy, rng: random.Random) -> Made:
    """A shopper who knows the very SKU means that product and no other."""
    text = product.sku if rng.random() < 0.7 else product.sku.lower()
    return text, Wish(frozenset({product.kind.slug}), sku=product.sku)


def ask_use(product: SampleProduct, shelves: Shelves, taxonomy: Taxonomy, rng: random.Random) -> Made:
    if not product.kind.uses:
        return None
    use = rng.choice(product.kind.uses)
    kinds = [kind for kind in taxonomy.types.values() if use in kind.uses]
    slugs = frozenset(kind.slug for kind in kinds)
    if "present for" in use:  # a grinder is as good a present as the beans
        return rng.choice(GIFT_FORMS).format(use), Wish(slugs)
    supplies = slugs.intersection(slug for kind in kinds for slug in kind.accessories)
    return rng.choice(USE_FORMS).format(use), Wish(slugs, supplies=supplies)


USE_FORMS = ("{}", "{}", "something for {}", "what do i need for {}")
GIFT_FORMS = ("{}", "nice {}", "looking for a {}")


def ask_accessory(product: SampleProduct, shelves: Shelves, taxonomy: Taxonomy, rng: random.Random) -> Made:
    """Ask for what goes with the product, naming the product too."""
    on_sale = [slug for slug in product.kind.accessories if shelves.get(slug)]
    if not on_sale:
        return None
    chosen = rng.choice(shelves[rng.choice(on_sale)])
    name, main = rng.choice(chosen.kind.names), rng.choice(product.kind.names)
    is_said = " for " in f"{name} {main}" or any(called in name for called in product.kind.names)
    text = name if is_said else f"{name} for {main}"  # 'timer for lamps', not 'timer for lamps for floor lamp'
    names = [name for name in _askable(chosen) if rng.random() < 0.6][:1]
    return _word(chosen, text, names), _want(chosen.kind, chosen, names)


def ask_misspelt(product: SampleProduct, shelves: Shelves, taxonomy: Taxonomy, rng: random.Random) -> Made:
    """Ask with a slip that people make, or one that fingers make."""
    kind = product.kind
    text = rng.choice(kind.typos) if kind.typos and rng.random() < 0.5 else slip(rng.choice(kind.names), rng)
    names = [name for name in _askable(product) if name == "colour" and rng.random() < 0.3]
    return (_word(product, text, names), _want(kind, product, names)) if text not in kind.names else None


MAKERS: dict[str, Maker] = {
    "kind": ask_kind,
    "synonym": ask_synonym,
    "attribute": ask_attribute,
    "synonym and attribute": ask_synonym_with_attribute,
    "brand": ask_brand,
    "brand and attribute": ask_brand_with_attribute,
    "model": ask_model,
    "sku": ask_sku,
    "use": ask_use,
    "accessory": ask_accessory,
    "misspelt": ask_misspelt,
}


def slip(text: str, rng: random.Random) -> str:
    """Return the text with two letters swapped, one left out or one doubled in its longest word, not its first letter.

    A word under 6 letters stays as it is.
    """
    word = max(text.split(), key=len)
    if len(word) < 6:
        return text
    at = rng.randint(1, len(word) - 2)
    slips = (
        word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        word[:at] + word[at + 1 :],
        word[:at] + word[at] + word[at:],
    )
    return text.replace(word, rng.choice(slips), 1)


def _want(kind: ProductType, product: SampleProduct | None = None, names: list[str] | None = None) -> Wish:
    conditions = tuple((name, product.attributes[name]) for name in names or ()) if product else ()
    return Wish(frozenset({kind.slug}), conditions)


def _askable(product: SampleProduct) -> list[str]:
    """Return the names of attributes whose values mean something in a query."""
    return [name for name, value in product.attributes.items() if value not in ("yes", "no", "none")]


def _word(product: SampleProduct, name: str, attributes: list[str]) -> str:
    """Return the name with these attributes of the product as shoppers put them: 'red mug', 'shoes size 42'."""
    before, after = [], []
    for attribute in attributes:
        value = without_article(product.attributes[attribute])
        if attribute == "size" and " " not in value:
            after.append(f"size {value}")
        elif value.isdigit() or attribute == "for":
            after.append(f"with {value} {attribute}" if value.isdigit() else f"for {value}")
        else:
            before.append(value)
    return " ".join([*before, name, *after]).lower()
