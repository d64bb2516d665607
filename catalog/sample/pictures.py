"""Pictures of the sample shop's products, drawn as SVG from type and colour."""

from __future__ import annotations

import colorsys
import zlib
from functools import lru_cache
from html import escape

from catalog.sample.shapes import Shape
from catalog.sample.taxonomy import COLOURS, load_taxonomy

# Pairs of colours that fade into each other behind the thing; the deep ones are for things too pale for the light ones.
LIGHT = "f9f6ef-ece5d8 f3f6f3-dfe8e0 f2f6f9-dde6ee faf3f2-eedfdd f5f3f9-e4dfee"
DEEP = "cfd8dd-aebbc3 d6cdbd-bbae98 c9d4c8-a6b7a6 d9c8c5-bfa5a1 cdc8d8-aca5bd"
PALE = 0.72  # lightness from which a colour is lost on a light background
GROUND = 203
FRAME = (172, 160)  # what a thing may fill of 240 by 240
LARGEST = 1.3


@lru_cache(maxsize=1024)
def draw_svg(type_slug: str, colour_slug: str) -> str:
    """Return the picture of a type of product in a colour; raises LookupError for an unknown one."""
    taxonomy, colour = load_taxonomy(), COLOURS[colour_slug]
    kind = taxonomy.types[type_slug]
    shape = taxonomy.shapes[kind.picture]
    # Types that share a shape differ in what is behind it and where the light falls.
    seed = zlib.crc32(type_slug.encode())
    is_pale = _lightness(colour) > PALE
    backgrounds, dark = (DEEP if is_pale else LIGHT).split(), shade(colour, 0.8 if is_pale else 0.66)
    top, bottom = (f"#{part}" for part in backgrounds[seed % len(backgrounds)].split("-"))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 240 240" role="img" aria-labelledby="t">'
        f'<title id="t">{escape(kind.name)}, {colour_slug}</title><defs>'
        f'<linearGradient id="b" x2="0" y2="1">{_stops(top, bottom)}</linearGradient>'
        f"{_gradient('c', colour)}{_gradient('d', dark)}{_gradient('l', shade(colour, 1.3))}"
        '<radialGradient id="s"><stop stop-opacity=".28"/><stop offset="1" stop-opacity="0"/></radialGradient>'
        '<radialGradient id="w"><stop stop-color="#fff" stop-opacity=".7"/><stop offset="1" stop-color="#fff" '
        'stop-opacity="0"/></radialGradient></defs>'
        '<rect width="240" height="240" fill="url(#b)"/>'
        f'<circle cx="{90 + seed % 60}" cy="{80 + seed % 40}" r="120" fill="url(#w)"/>'
        f"{_stand(shape)}</svg>"
    )


def _stand(shape: Shape) -> str:
    """Return the shape at its best size, in the middle of the ground, with the shadow under it."""
    size = min(FRAME[0] / shape.width, FRAME[1] / shape.height, LARGEST)
    left, top = 120 - size * (shape.x + shape.width / 2), GROUND - size * (shape.y + shape.height)
    drawing = shape.drawing.format(c="url(#c)", d="url(#d)", l="url(#l)")
    return (
        f'<ellipse cx="120" cy="{GROUND}" rx="{size * shape.width * 0.56:.0f}" ry="11" fill="url(#s)"/>'
        f'<g transform="translate({left:.1f} {top:.1f}) scale({size:.3f})">{drawing}</g>'
    )


def _gradient(name: str, colour: str) -> str:
    """Return a paint that light falls on from the upper left.

    It spans the drawing rather than each part: a straight line has no box for a gradient to fill.
    """
    span = 'gradientUnits="userSpaceOnUse" x1="30" y1="10" x2="170" y2="190"'
    return f'<linearGradient id="{name}" {span}>{_stops(shade(colour, 1.16), shade(colour, 0.86))}</linearGradient>'


def _stops(first: str, last: str) -> str:
    return f'<stop stop-color="{first}"/><stop offset="1" stop-color="{last}"/>'


def shade(colour: str, factor: float) -> str:
    """Return `colour`, '#rrggbb', darker for a factor below 1, lighter above."""
    hue, light, saturation = colorsys.rgb_to_hls(*_parts(colour))
    light = light * factor if factor <= 1 else light + (1 - light) * (factor - 1)
    return "#" + "".join(f"{round(part * 255):02x}" for part in colorsys.hls_to_rgb(hue, light, saturation))


def _lightness(colour: str) -> float:
    red, green, blue = _parts(colour)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def _parts(colour: str) -> tuple[float, float, float]:
    red, green, blue = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return red, green, blue
