"""Ratings read from files of the usual forms: queries and products with grades from 0 to 3, wherever they came from."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.evaluation.judgements import HIGHEST_GRADE, USUAL_RELEVANT_GRADE, JudgementsError, read_judgements

EXACT = 3.0
LONGEST_QUERY, LONGEST_SKU = 300, 100
QUERY, SKU, GRADE = ("query",), ("sku", "doc_id", "product"), ("grade", "relevance")
EXPECTED = "expected the columns query, sku (or doc_id, product) and grade (or relevance)"
_UNSAFE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rating:
    """How well a product answers a query: 3 exactly, 2 a good substitute, 1 related, 0 wrong."""

    query: str
    sku: str
    grade: float


@dataclass(frozen=True, slots=True)
class _Given:
    """A rating as a file gives it; `is_mapped`: its scale is the file's own."""

    query: str
    sku: str
    value: float
    is_mapped: bool
    place: str


def read_rating_file(path: Path) -> list[Rating]:
    """Return the ratings of one file in UTF-8: comma or tab-separated with a header, or JSON Lines.

    A column `grade` holds grades from 0 to 3, kept as they are; `relevance` is any scale from 0 to 100, and goes by
    the rule of `to_grades`. Raises JudgementsError for a bad line, and for two grades of one query and product.
    """
    given = [_to_given(path, line, row) for line, row in _read_table(path)]
    if not given:
        raise JudgementsError(f"{path} has no ratings; {EXPECTED} and a line for each rating")
    return _to_ratings(given)


def read_rating_pair(queries_path: Path, qrels_path: Path) -> list[Rating]:
    """Return the ratings of a file of queries and a file of relevances, as `read_judgements` takes them, or TREC's.

    TREC's has no header: query, a number not looked at, product and relevance with spaces between; below 0 is 0.
    Relevances go by the rule of `to_grades`. Raises JudgementsError.
    """
    if _is_trec(qrels_path):
        return _to_ratings(list(_read_trec(queries_path, qrels_path)))
    judgements = read_judgements(queries_path, qrels_path)
    return _to_ratings(
        [
            _clean(judgements.queries[query_id], sku, grade, f"{qrels_path}, query {query_id}")
            for query_id, graded in judgements.grades.items()
            for sku, grade in graded.items()
        ]
    )


def to_grades(relevances: Iterable[float]) -> dict[float, float]:
    """Return the grade of each relevance: EXACT from 3 up where a 3 is among them, else for the highest; 0 for 0.

    Those below are in proportion: of 0, 1 and 2, a 1 is worth 1.5.
    """
    given = set(relevances)
    exact_from = USUAL_RELEVANT_GRADE if USUAL_RELEVANT_GRADE in given else max(given, default=0.0)
    return {value: EXACT * min(value / exact_from, 1.0) if exact_from else 0.0 for value in given}


def _to_ratings(given: list[_Given]) -> list[Rating]:
    """Return the ratings, each query and product once; raises JudgementsError where two contradict."""
    grades = to_grades(one.value for one in given if one.is_mapped)
    found: dict[tuple[str, str], _Given] = {}
    for one in given:
        earlier = found.setdefault((one.query, one.sku), one)
        if earlier.value != one.value:
            raise JudgementsError(
                f"{one.place}: {one.value:g} for query {one.query!r} and product {one.sku!r}, which has "
                f"{earlier.value:g} in {earlier.place}; keep one of the two"
            )
    return [Rating(one.query, one.sku, grades[one.value] if one.is_mapped else one.value) for one in found.values()]


def _to_given(path: Path, line: int, row: Row) -> _Given:
    place = f"{path}, line {line}"
    (query_name, query), (sku_name, sku), (name, value) = (_pick(place, row, names) for names in (QUERY, SKU, GRADE))
    highest = HIGHEST_GRADE if name == "relevance" else EXACT
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number <= highest:
        cure = "" if name == "relevance" else "; name the column relevance if its scale is another"
        raise JudgementsError(f"{place}, {name} {value!r:.100}: expected a number from 0 (wrong) to {highest:g}{cure}")
    return _clean(_to_text(place, query_name, query), _to_text(place, sku_name, sku), number, place, name)


def _pick(place: str, row: Row, names: tuple[str, ...]) -> tuple[str, Any]:
    name = next((name for name in names if name in row), None)
    if name is None:
        raise JudgementsError(f"{place}: no {' or '.join(names)} among {', '.join(row)!r:.200}; {EXPECTED}")
    return name, row[name]


def _to_text(place: str, column: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # a SKU that a program wrote as a number
    if not isinstance(value, str):
        raise JudgementsError(f"{place}, {column} {value!r:.100}: expected text")
    return value


def _clean(query: str, sku: str, value: float, place: str, column: str = "relevance") -> _Given:
    """Return the rating with single spaces in its texts; raises JudgementsError for what no set can hold."""
    texts = {"query": " ".join(query.split()), "sku": " ".join(sku.split())}
    for (name, text), longest in zip(texts.items(), (LONGEST_QUERY, LONGEST_SKU), strict=True):
        if not text or len(text) > longest or _UNSAFE.search(text):
            raise JudgementsError(f"{place}, {name} {text[:100]!r}: expected text of 1 to {longest} characters")
    return _Given(texts["query"], texts["sku"], float(value), column == "relevance", place)


def _is_trec(path: Path) -> bool:
    first = next(iter(_read_lines(path)), (0, ""))[1].split()
    return len(first) == 4 and re.fullmatch(r"-?\d+", first[3]) is not None


def _read_trec(queries_path: Path, qrels_path: Path) -> Iterator[_Given]:
    queries = _read_topics(queries_path)
    for line, text in _read_lines(qrels_path):
        place, parts = f"{qrels_path}, line {line}", text.split()
        if len(parts) != 4 or not re.fullmatch(r"-?\d{1,9}", parts[3]) or int(parts[3]) > HIGHEST_GRADE:
            raise JudgementsError(
                f"{place}, {text!r:.100}: expected query, 0, product and a whole number up to {HIGHEST_GRADE}, "
                "spaces between them"
            )
        if parts[0] not in queries:
            raise JudgementsError(
                f"{place}, query {parts[0]!r:.100}: {queries_path} has no such query; add it there, or leave out its "
                "ratings"
            )
        yield _clean(queries[parts[0]], parts[2], max(int(parts[3]), 0), place)


def _read_topics(path: Path) -> dict[str, str]:
    """Return queries by id: after a header with query_id and query, or without one an id and the text on each line."""
    topics: dict[str, str] = {}
    for line, query_id, query in _split_topics(path):
        if not query_id or not query or query_id in topics:
            trouble = "is there twice" if query_id in topics else "has no query"
            raise JudgementsError(f"{path}, line {line}, {query_id!r:.100} {trouble}; expected an id and a query")
        topics[query_id] = query
    return topics


def _split_topics(path: Path) -> Iterator[tuple[int, str, str]]:
    _, first = next(iter(_read_lines(path)), (0, ""))
    if {"query_id", "query"} <= {name.strip().lower() for name in first.split("\t")}:
        for line, row in _read_table(path):
            yield line, row["query_id"].strip(), row["query"].strip()
        return
    for line, text in _read_lines(path):
        query_id, _, query = text.strip().partition("\t" if "\t" in text else " ")
        yield line, query_id.strip(), query.strip()


def _read_table(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield the rows with their line numbers; blank ones are passed over."""
    _, first = next(iter(_read_lines(path)), (0, ""))
    if first.lstrip().startswith("{"):
        yield from _read_json_lines(path)
        return
    delimiter = max("\t,;", key=first.count)
    lines = (f"{line}\n" for line in re.split(r"\r\n|\n|\r", _read_text(path)))
    if delimiter == "\t":
        reader = csv.DictReader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    else:
        reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
    try:
        reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
        for row in reader:
            if any(row.values()):
                yield reader.line_num, {name: value or "" for name, value in row.items() if name is not None}
    except csv.Error as error:
        raise JudgementsError(f"{path}, line {reader.line_num}: {error}; check its quotation marks") from error


def _read_json_lines(path: Path) -> Iterator[tuple[int, Row]]:
    for line, text in _read_lines(path):
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise JudgementsError(f"{path}, line {line}, {text[:100]!r}: is no JSON ({error})") from error
        if not isinstance(row, dict):
            raise JudgementsError(f"{path}, line {line}, {text[:100]!r}: expected an object; {EXPECTED}")
        yield line, row


def _read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, numbered from 1."""
    for number, line in enumerate(re.split(r"\r\n|\n|\r", _read_text(path)), 1):
        if line.strip():
            yield number, line


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise JudgementsError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{content[error.start]:02x}"
        raise JudgementsError(f"{path}, line {line}: {byte} is not UTF-8; save the file as UTF-8 text") from error
