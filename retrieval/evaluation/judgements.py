"""Queries and how well products answer them, read from files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

HIGHEST_GRADE = 100
USUAL_RELEVANT_GRADE = 3


class JudgementsError(ValueError):
    """Judgements that cannot be used; the message names file, line, column and value, and the cure."""


@dataclass(frozen=True, slots=True)
class JudgementSet:
    """Queries by id, and the grades of products by query id and SKU: 0 is wrong, higher is better."""

    queries: Mapping[str, str]
    grades: Mapping[str, Mapping[str, int]]

    def __len__(self) -> int:
        return sum(len(graded) for graded in self.grades.values())

    @property
    def skus(self) -> set[str]:
        return {sku for graded in self.grades.values() for sku in graded}

    @property
    def highest_grade(self) -> int:
        return max((grade for graded in self.grades.values() for grade in graded.values()), default=0)

    @property
    def usual_relevant_from(self) -> int:
        """Return the grade that counts as relevant unless another is asked for: 3 where given, else the highest."""
        given = {grade for graded in self.grades.values() for grade in graded.values()}
        return USUAL_RELEVANT_GRADE if USUAL_RELEVANT_GRADE in given else self.highest_grade

    def with_relevant(self, relevant_from: int) -> JudgementSet:
        """Return the queries that have a product of at least this grade, with all their grades.

        Raises JudgementsError if there is none, or for a grade below 1: products graded 0 are wrong.
        """
        if relevant_from < 1:
            raise JudgementsError(
                f"grade {relevant_from} cannot count as relevant, expected 1 to {HIGHEST_GRADE}: 0 is a wrong product"
            )
        kept = {query_id: graded for query_id, graded in self.grades.items() if max(graded.values()) >= relevant_from}
        if not kept:
            raise JudgementsError(
                f"no query has a product graded {relevant_from} or higher: the highest grade is {self.highest_grade}"
            )
        return JudgementSet({query_id: self.queries[query_id] for query_id in kept}, kept)


def read_judgements(queries_path: Path, qrels_path: Path) -> JudgementSet:
    """Return the judgements of two tab-separated files in UTF-8, each with a header.

    The queries have the columns query_id and query, the ratings query_id, doc_id (the SKU) and relevance,
    in any order; other columns are ignored. Quotation marks belong to the value.
    Raises JudgementsError for anything else.
    """
    queries = _read_queries(queries_path)
    return JudgementSet(queries, _read_grades(qrels_path, queries, queries_path))


@dataclass(frozen=True, slots=True)
class _Row:
    path: Path
    line: int
    values: Mapping[str, str]

    def error(self, column: str, reason: str) -> JudgementsError:
        return JudgementsError(f"{self.path}, line {self.line}, {column} {self.values[column]!r}: {reason}")


def _read_queries(path: Path) -> dict[str, str]:
    queries: dict[str, str] = {}
    lines: dict[str, int] = {}
    for row in _read_rows(path, ("query_id", "query")):
        query_id = row.values["query_id"]
        if query_id in queries:
            raise row.error("query_id", f"also on line {lines[query_id]}; give every query an id of its own")
        queries[query_id], lines[query_id] = row.values["query"], row.line
    return queries


def _read_grades(path: Path, queries: Mapping[str, str], queries_path: Path) -> dict[str, dict[str, int]]:
    grades: dict[str, dict[str, int]] = {}
    lines: dict[tuple[str, str], int] = {}
    for row in _read_rows(path, ("query_id", "doc_id", "relevance")):
        query_id, sku, grade = row.values["query_id"], row.values["doc_id"], _read_grade(row)
        if query_id not in queries:
            raise row.error("query_id", f"{queries_path} has no such query; add it there, or leave out its ratings")
        if grades.setdefault(query_id, {}).setdefault(sku, grade) != grade:
            earlier = f"line {lines[query_id, sku]} gives {grades[query_id][sku]} for the same query and doc_id {sku!r}"
            raise row.error("relevance", f"{earlier}; keep one of the two")
        lines.setdefault((query_id, sku), row.line)
    return grades


def _read_grade(row: _Row) -> int:
    text = row.values["relevance"]
    if not re.fullmatch(r"\+?[0-9]{1,9}", text) or int(text) > HIGHEST_GRADE:
        raise row.error("relevance", f"expected a whole number from 0 (wrong) to {HIGHEST_GRADE}")
    return int(text)


def _read_rows(path: Path, columns: tuple[str, ...]) -> Iterator[_Row]:
    """Yield the rows with a value, not empty, in each of these columns. Blank lines are passed over."""
    numbered = ((number, line) for number, line in enumerate(_read_lines(path), 1) if line.strip())
    first, header = next(numbered, (1, ""))
    positions = _find_columns(f"{path}, line {first}", header, columns)
    number = 0
    for number, line in numbered:
        cells = [cell.strip() for cell in line.split("\t")]
        values = {name: cells[at] if at < len(cells) else "" for name, at in positions.items()}
        row = _Row(path, number, values)
        for column in columns:
            if not values[column]:
                raise row.error(column, f"has no value; expected a line with {', '.join(columns)}, tabs between them")
        yield row
    if not number:
        raise JudgementsError(f"{path}: no line follows the header; expected one for each {columns[-1]}")


def _find_columns(place: str, header: str, columns: tuple[str, ...]) -> dict[str, int]:
    expected = f"expected a header line with {', '.join(columns)}, tabs between them"
    if not header:
        raise JudgementsError(f"{place}: the file is empty; {expected}")
    names = [name.strip() for name in header.split("\t")]
    for column in columns:
        if (count := names.count(column)) != 1:
            trouble = "is missing" if not count else f"is there {count} times"
            raise JudgementsError(f"{place}: column {column} {trouble} in {header[:200]!r}; {expected}")
    return {column: names.index(column) for column in columns}


def _read_lines(path: Path) -> list[str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise JudgementsError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{content[error.start]:02x}"
        raise JudgementsError(f"{path}, line {line}: {byte} is not UTF-8; save the file as UTF-8 text") from error
    return re.split(r"\r\n|\n|\r", text)
