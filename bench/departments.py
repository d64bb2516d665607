"""A shop of some departments of the sample shop, what its people would rate there, and models of all the others."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import random
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from bench.shops import FOLDER, Shop, fill, serve, wait_for
from retrieval.learning.examples import find_alike

SEED, DEPARTMENTS = 3, 5
RATED, SHOWN = 400, 10  # queries of which two products are rated, and products looked at for that
READ = 40  # products that are looked at for each query of the other departments
KINDS = {"finetune": "other-towers", "train_reranker": "other-reranker"}  # by the command that trains it
Grades = dict[str, dict[str, int]]  # by query and SKU


def open_departments() -> tuple[Shop, Path]:
    """Return a new shop without a reranker and a file of its people's ratings.

    Of each of RATED queries they name a product that answers it, and grade the best of what the search shows that does
    not, or else is another, both by the shop's truth; the other queries measure.
    """
    folder, rng = FOLDER / "departments", random.Random(SEED)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    whole = make_whole(folder)
    grades = read_grades(whole, write_products(whole, folder / "products.jsonl.gz", rng))
    queries = {key: text for key, text in read_table(whole / "queries.tsv") if key in grades}
    rated = {key: queries.pop(key) for key in rng.sample(sorted(queries), RATED)}
    write_measured(folder, queries, rated, grades)
    shop = fill(open_shop("departments", folder))
    shown = show_first(shop, rated.values(), SHOWN)
    ratings = [
        (text, sku, grades[key].get(sku, 0))
        for (key, text), skus in zip(rated.items(), shown, strict=True)
        for sku in choose_two(grades[key], skus, rng)
    ]
    write_table(folder / "ratings.tsv", ("query", "sku", "grade"), ratings)
    return shop, folder / "ratings.tsv"


def choose_two(grades: dict[str, int], shown: list[str], rng: random.Random) -> list[str]:
    """Return an exact product drawn by chance, and the first one shown that is not exact, or else is another."""
    named = rng.choice(sorted(sku for sku, grade in grades.items() if grade == 3))
    others = [sku for sku in shown if sku != named]
    return [named, *sorted(others, key=lambda sku: grades.get(sku, 0) == 3)[:1]]


def open_shop(name: str, folder: Path) -> Shop:
    data, asked, qrels, products = (folder / name for name in ("data", "queries.tsv", "qrels.tsv", "products.jsonl.gz"))
    # What is asked here is how well it ranks, on whatever machine: rerankers take their time.
    settings = {"SEARCHSITE_RERANKER": "none", "SEARCHSITE_RERANK_BUDGET_MS": "0"}
    return Shop(name, data, asked, qrels, products, settings)


def make_bases(trainings: Mapping[str, str]) -> list[Path]:
    """Return the archives of models trained on the truth of all other departments, made once for these options.

    `trainings`: the options of each command of KINDS.
    """
    digest = hashlib.blake2b(repr(sorted(trainings.items())).encode(), digest_size=4).hexdigest()
    folder, rng = FOLDER / f"departments-others-{digest}", random.Random(SEED)
    archives = {command: folder / f"{KINDS[command]}.tar.gz" for command in trainings}
    if all(archive.exists() for archive in archives.values()):
        return list(archives.values())
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    whole = make_whole(folder)
    grades = read_grades(whole, write_products(whole, folder / "products.jsonl.gz", rng, are_others=True))
    texts = dict(read_table(whole / "queries.tsv"))
    shop = fill(open_shop("others", folder))
    shown = show_first(shop, [texts[key] for key in grades], READ)
    write_table(folder / "ratings.tsv", ("query", "sku", "grade"), rate_all(grades, texts, shown))
    for command, options in trainings.items():
        source = ("--source", f"file:{folder / 'ratings.tsv'}")
        shop.manage(command, "--name", KINDS[command], *source, "--json", *options.split())
        shop.manage("models", "export", KINDS[command], str(archives[command]))
    return list(archives.values())


def rate_all(grades: Grades, texts: Mapping[str, str], shown: Sequence[list[str]]) -> Iterator[tuple[str, str, int]]:
    """Yield every grade of the truth, and 0 for what the search shows without being of any use."""
    for (key, graded), skus in zip(grades.items(), shown, strict=True):
        for sku, grade in (dict.fromkeys(skus, 0) | graded).items():
            yield texts[key], sku, grade


def make_whole(folder: Path) -> Path:
    """Return the folder of the whole sample shop's files, made once."""
    whole = FOLDER / "departments-of"
    if not (whole / "qrels.tsv").exists():
        options = ("--products", "25000", "--queries", "12000", "--seed", str(SEED))
        Shop("whole", folder, whole, whole, whole).manage("make_sample_shop", str(whole), *options)
    return whole


def write_products(whole: Path, path: Path, rng: random.Random, *, are_others: bool = False) -> set[str]:
    """Write the products of DEPARTMENTS departments drawn by chance, or of all others, and return their SKUs."""
    with gzip.open(whole / "products.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    names = sorted({row["category"].partition(" > ")[0] for row in rows})
    chosen = tuple(f"{name} > " for name in rng.sample(names, DEPARTMENTS))
    rows = [row for row in rows if row["category"].startswith(chosen) != are_others]
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(row)}\n" for row in rows)
    return {row["sku"] for row in rows}


def read_grades(whole: Path, skus: set[str]) -> Grades:
    """Return the grades of those queries that only these products answer."""
    found: Grades = defaultdict(dict)
    elsewhere = set()
    for query_id, sku, grade in read_table(whole / "qrels.tsv"):
        if sku in skus:
            found[query_id][sku] = int(grade)
        elif grade == "3":
            elsewhere.add(query_id)
    return {key: grades for key, grades in found.items() if key not in elsewhere and 3 in grades.values()}


def write_measured(folder: Path, queries: dict[str, str], rated: dict[str, str], grades: Grades) -> None:
    """Write the queries that are nothing like a rated one, and their truth."""
    is_alike = find_alike(list(queries.values()), list(rated.values()))
    kept = [pair for pair, is_one in zip(queries.items(), is_alike, strict=True) if not is_one]
    write_table(folder / "queries.tsv", ("query_id", "query"), kept)
    truth = [(key, sku, grade) for key, _ in kept for sku, grade in grades[key].items()]
    write_table(folder / "qrels.tsv", ("query_id", "doc_id", "relevance"), truth)


def show_first(shop: Shop, texts: Iterable[str], limit: int) -> list[list[str]]:
    """Return the SKUs that the search shows first for each text, at most `limit`."""
    found = []
    with serve(shop, "--no-worker", "--no-learner") as site:
        wait_for(site, "/api/v1/search/?q=a")
        connection = site.connect()
        for text in texts:
            connection.request("GET", f"/api/v1/search/?{urlencode({'q': text, 'page_size': limit})}")
            found.append([hit["sku"] for hit in json.loads(connection.getresponse().read())["hits"]])
    return found


def read_table(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE, escapechar="\\"))[1:]


def write_table(path: Path, header: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, escapechar="\\")
        writer.writerows([header, *rows])
