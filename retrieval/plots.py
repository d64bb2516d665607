"""Charts as plain SVG, each with its figures in a table beside it: for light and dark pages, without scripts."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

WIDTH, HEIGHT = 480, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 30, 46
FLOOR = HEIGHT - BOTTOM
# Each at least 3 : 1 against white and against near black; dashes tell lines apart without colour.
COLOURS = ("#0d9488", "#d97706", "#8b5cf6", "#3b82f6", "#dc4c64")
DASHES = ("", "7 4", "2 3", "10 3 2 3", "1 5")
MOST_TICKS = 7
LEGEND_WIDTH, LEGEND_LETTERS = 110, 14


@dataclass(frozen=True, slots=True)
class Line:
    """Points in ascending order of x; those that are no finite numbers are left out."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Scale:
    """From numbers, `low` to `high`, to pixels, `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log(each) if self.is_log else each for each in (self.low, self.high, value))
        return round(self.start + (at - low) / (high - low) * (self.end - self.start), 1)


def draw_lines(
    title: str,
    description: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    y_range: tuple[float, float] | None = None,
    y_limits: tuple[float, float] = (-math.inf, math.inf),
    is_log_x: bool = False,
) -> SafeString:
    """Return a figure of lines over one x: all of `y_range`, and what lies beyond `y_limits` on the edge.

    Raises ValueError for an x of 0 or less where `is_log_x`.
    """
    lines = [Line(line.name, [point for point in line.points if all(map(math.isfinite, point))]) for line in lines]
    xs = sorted({x for line in lines for x, _ in line.points})
    if is_log_x and xs and xs[0] <= 0:
        raise ValueError(f"x={xs[0]}: a logarithmic axis takes numbers above 0 only")
    x = _scale(xs, (LEFT, WIDTH - RIGHT), is_log=is_log_x)
    drawn = [Line(line.name, [(at, min(max(y, y_limits[0]), y_limits[1])) for at, y in line.points]) for line in lines]
    y = _scale([y for line in drawn for _, y in line.points], (FLOOR, TOP), y_range)
    body = [_axes(x_label, y_label, y), _x_ticks(xs, x)]
    body += [_draw_line(line, number, x, y) for number, line in enumerate(drawn)]
    body += [_draw_legend(lines)] if len(lines) > 1 else []
    found = [dict(line.points) for line in lines]
    rows = [(_number(at), *(_number(each[at]) if at in each else "" for each in found)) for at in xs]
    return _figure(title, description, body, [x_label, *(line.name for line in lines)], rows)


def draw_bars(
    title: str,
    description: str,
    bars: Sequence[tuple[str, float]],
    *,
    x_label: str,
    y_label: str,
    y_range: tuple[float, float] | None = None,
) -> SafeString:
    """Return a figure with a bar for each name; what is no finite number has none."""
    bars = [(name, value) for name, value in bars if math.isfinite(value)]
    y = _scale([0.0, *(value for _, value in bars)], (FLOOR, TOP), y_range)
    slot = (WIDTH - LEFT - RIGHT) / max(len(bars), 1)
    body = [_axes(x_label, y_label, y)]
    for at, (name, value) in enumerate(bars):
        body += [_bar(LEFT + slot * (at + 0.15), slot * 0.7, value, y)]
        body += [_text(LEFT + slot * (at + 0.5), FLOOR + 16, name)]
    return _figure(title, description, body, [x_label, y_label], [(name, _number(value)) for name, value in bars])


def draw_histogram(
    title: str, description: str, edges: Sequence[float], counts: Sequence[float], *, x_label: str, y_label: str
) -> SafeString:
    """Return a figure of how many values lie between each two edges.

    Raises ValueError unless there is one edge more than counts.
    """
    if len(edges) != len(counts) + 1:
        raise ValueError(f"{len(edges)} edges for {len(counts)} counts: expected one edge more")
    x, y = _scale(edges, (LEFT, WIDTH - RIGHT), (edges[0], edges[-1])), _scale([0.0, *counts], (FLOOR, TOP))
    spans = list(zip(edges[:-1], edges[1:], counts, strict=True))
    body = [_axes(x_label, y_label, y), _x_ticks(find_ticks(x), x)]
    body += [_bar(x(start), max(x(end) - x(start) - 1, 1), value, y) for start, end, value in spans]
    rows = [(f"{_number(start)} to {_number(end)}", _number(value)) for start, end, value in spans if value]
    return _figure(title, description, body, [x_label, y_label], rows)


def _figure(
    title: str, description: str, body: Sequence[str], head: Sequence[str], rows: Sequence[Sequence[str]]
) -> SafeString:
    name = f"plot-{zlib.crc32(f'{title} {description}'.encode()):08x}"
    drawn = format_html_join("", "{}", ((part,) for part in body)) if rows else _text(WIDTH / 2, HEIGHT / 2, "no data")
    return format_html(
        '<figure class="plot"><svg viewBox="0 0 {} {}" role="img" aria-labelledby="{}-title {}-desc" font-size="12" '
        'fill="currentColor"><title id="{}-title">{}</title><desc id="{}-desc">{}</desc>{}</svg>'
        "<details><summary>Figures</summary><table><caption>{}</caption><thead>{}</thead><tbody>{}</tbody></table>"
        "</details></figure>",
        *(WIDTH, HEIGHT, name, name, name, title, name, description, drawn),
        *(title, _row(head, '<th scope="col">{}</th>'), format_html_join("", "{}", ((_row(row),) for row in rows))),
    )


def _row(cells: Iterable[str], form: str = "<td>{}</td>") -> SafeString:
    return format_html("<tr>{}</tr>", format_html_join("", form, ((cell,) for cell in cells)))


def _scale(
    values: Sequence[float],
    pixels: tuple[float, float],
    limits: tuple[float, float] | None = None,
    *,
    is_log: bool = False,
) -> Scale:
    """Return the scale that shows all finite values, and at least `limits`."""
    known = [value for value in (*values, *(limits or ())) if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    if low == high:
        low, high = (low / 2, high * 2) if is_log else (low - 0.5, high + 0.5)
    return Scale(low, high, *pixels, is_log=is_log)


def _axes(x_label: str, y_label: str, y: Scale) -> SafeString:
    """Return the labels, and a line across with its number for each tick of y."""
    across = '<path d="M{} {}H{}" stroke="currentColor" stroke-opacity="0.18"/>{}'
    ticks = [
        (LEFT, y(tick), WIDTH - RIGHT, _text(LEFT - 6, y(tick) + 4, _number(tick), "end")) for tick in find_ticks(y)
    ]
    x_name, y_name = _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_label), _text(8, 14, y_label, "start")
    return format_html("{}{}{}", format_html_join("", across, ticks), x_name, y_name)


def find_ticks(scale: Scale) -> list[float]:
    """Return about five round numbers within the scale."""
    rough = (scale.high - scale.low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
    first, last = math.ceil(scale.low / step - 1e-9), math.floor(scale.high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _x_ticks(values: Sequence[float], x: Scale) -> SafeString:
    """Return the numbers under the axis: the values themselves, as many as there is room for."""
    every = -(-len(values) // MOST_TICKS) or 1
    return format_html_join("", "{}", ((_text(x(value), FLOOR + 16, _number(value)),) for value in values[::every]))


def _draw_line(line: Line, number: int, x: Scale, y: Scale) -> SafeString:
    colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
    places = [(x(at), y(value), colour) for at, value in line.points]
    dots = format_html_join("", '<circle cx="{}" cy="{}" r="2.5" fill="{}"/>', places if len(places) <= 40 else ())
    path = " ".join(f"{across},{down}" for across, down, _ in places)
    form = '<polyline points="{}" fill="none" stroke="{}" stroke-width="2" stroke-dasharray="{}"/>{}'
    return format_html(form, path, colour, dash or "none", dots)


def _draw_legend(lines: Sequence[Line]) -> SafeString:
    """Return the names of the lines in the upper right, each beside a piece of its line."""
    form = '<path d="M{} 10h22" stroke="{}" stroke-width="2" stroke-dasharray="{}"/>{}'
    starts = [WIDTH - RIGHT - LEGEND_WIDTH * (len(lines) - number) for number in range(len(lines))]
    parts = [
        (start, COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)] or "none", _shorten(line.name))
        for number, (start, line) in enumerate(zip(starts, lines, strict=True))
    ]
    return format_html_join(
        "", form, ((start, colour, dash, _text(start + 27, 14, name, "start")) for start, colour, dash, name in parts)
    )


def _shorten(name: str) -> str:
    return name if len(name) <= LEGEND_LETTERS else f"{name[: LEGEND_LETTERS - 1].rstrip()}…"


def _bar(left: float, width: float, value: float, y: Scale) -> SafeString:
    top, bottom = sorted((y(value), y(min(max(0.0, y.low), y.high))))
    form = '<rect x="{}" y="{}" width="{}" height="{}" fill="{}"/>'
    return format_html(form, round(left, 1), top, round(width, 1), round(bottom - top, 1), COLOURS[0])


def _text(x: float, y: float, text: str, anchor: str = "middle") -> SafeString:
    return format_html('<text x="{}" y="{}" text-anchor="{}">{}</text>', round(x, 1), round(y, 1), anchor, text)


def _number(value: float) -> str:
    """Return the number as people read it: four digits that count, thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
