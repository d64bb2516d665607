"""Pictures of the sample shop: one for every type and colour, well-formed, the same every time."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from catalog.sample.pictures import draw_svg, shade
from catalog.sample.shop import generate_products
from catalog.sample.taxonomy import COLOURS, load_taxonomy

SVG = "{http://www.w3.org/2000/svg}"
TYPES, SHAPES = load_taxonomy().types, load_taxonomy().shapes


@pytest.mark.parametrize("slug", TYPES)
def test_every_type_is_drawn_in_every_colour(slug):
    for colour in COLOURS:
        picture = ElementTree.fromstring(draw_svg(slug, colour))
        title = picture.find(f"{SVG}title")
        assert title is not None
        assert title.text == f"{TYPES[slug].name}, {colour}"


def test_every_reference_to_a_paint_is_to_one_there():
    picture = draw_svg("wall-shelf", "teal")
    for name in "bcdlsw":
        assert f'id="{name}"' in picture
    assert "{" not in picture


def test_every_shape_is_used_and_fits_its_space():
    assert set(SHAPES) == {kind.picture for kind in TYPES.values()}
    for name, shape in SHAPES.items():
        assert -20 <= shape.x <= shape.x + shape.width <= 220, name
        assert -20 <= shape.y <= shape.y + shape.height <= 220, name


def test_pictures_of_products_are_those_that_are_drawn():
    for row in generate_products(600, seed=7):
        slug, colour = row["image_url"].removeprefix("/sample-images/").removesuffix(".svg").split("/")
        assert draw_svg(slug, colour).startswith("<svg")


@pytest.mark.parametrize(("slug", "colour"), [("unicorn", "grey"), ("mug", "plaid"), ("", "")])
def test_unknown_pictures_are_a_lookup_error(slug, colour):
    with pytest.raises(LookupError):
        draw_svg(slug, colour)


def test_shades():
    assert shade("#808080", 0.5) == "#404040"
    assert shade("#000000", 1.5) == "#808080"
