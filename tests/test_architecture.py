"""The house's rules: imports point down, the engine knows no Django, the web process no torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ["catalog", "retrieval", "experiments", "searchsite"]  # from the ground up
PLAIN_PYTHON = ["retrieval/engine", "retrieval/learning", "retrieval/evaluation", "catalog/sample"]
PLAIN_STATISTICS = [
    "stats",
    "clicks",
    "assignment.py",
    "interleaving.py",
    "shoppers.py",
    "keystrokes.py",
    "analysis.py",
    "planning.py",
]


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def find_imports(folder: str, forbidden: list[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in ([ROOT / folder] if folder.endswith(".py") else sorted((ROOT / folder).rglob("*.py")))
        for module in imported_modules(path)
        if module.split(".")[0] in forbidden
    ]


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_point_down_the_house(floor):
    assert find_imports(floor, FLOORS[FLOORS.index(floor) + 1 :]) == []


@pytest.mark.parametrize("folder", PLAIN_PYTHON)
def test_engine_learning_and_evaluation_are_plain_python(folder):
    assert find_imports(folder, ["django", "rest_framework", "celery", "searchsite", "experiments"]) == []
    if folder.startswith("retrieval"):
        assert find_imports(folder, ["catalog"]) == []


@pytest.mark.parametrize("part", PLAIN_STATISTICS)
def test_what_decides_experiments_is_plain_python(part):
    assert find_imports(f"experiments/{part}", ["django", "rest_framework", "celery", "catalog", "retrieval"]) == []


def test_the_web_process_loads_no_torch():
    code = (
        "import os, sys, django; os.environ['DJANGO_SETTINGS_MODULE'] = 'searchsite.settings'; django.setup();"
        "from django.urls import get_resolver; get_resolver().url_patterns; import searchsite.wsgi;"
        "from retrieval import setup;"
        "print([name for name in ('torch', 'transformers', 'sentence_transformers') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"
