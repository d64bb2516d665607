"""The command import_products: what it says, and with which exit."""

from __future__ import annotations

import json
import re
import sys

import pytest
from django.core.management import CommandError, call_command

from catalog.models import ImportRun, Product
from tests.factories import make_product

pytestmark = pytest.mark.django_db
FEED = "sku,title,price,rating\nA,Mug,9,4\nB,Cup,7,5\nC,Bowl,8,9\n"


@pytest.fixture
def feed(tmp_path):
    path = tmp_path / "feed.csv"
    path.write_text(FEED)
    return path


def test_counts_and_first_rejections_are_told(feed, capsys):
    call_command("import_products", str(feed))
    output = capsys.readouterr()
    assert "3 rows, 2 created, 0 updated, 0 unchanged, 1 rejected, 0 deactivated" in output.out
    assert "row 3, rating '9': expected a number from 0 to 5" in output.err
    assert "all of them" not in output.err


def test_many_rejections_are_shown_elsewhere(feed, capsys):
    feed.write_text(FEED + "".join(f"X{n},Pot,free,1\n" for n in range(20)))
    call_command("import_products", str(feed))
    error = capsys.readouterr().err
    assert error.count("rejected: row") == 5
    assert f"all of them in the admin, under Import runs, number {ImportRun.objects.get().pk}" in error


def test_json_is_one_object(feed, capsys):
    call_command("import_products", str(feed), "--json", "--map", "title=attributes.Name", "--map", "sku=title",
                 "--map", "rating=sku")  # fmt: skip
    output = capsys.readouterr()
    facts = json.loads(output.out)
    assert (facts["created"], facts["rejected"], facts["format"], facts["first_rejections"]) == (3, 0, "csv", [])
    assert sorted(Product.objects.values_list("sku", "title")) == [("4", "A"), ("5", "B"), ("9", "C")]
    assert not output.err


def test_a_dry_run_says_so(feed, capsys):
    make_product(sku="Z")
    call_command("import_products", str(feed), "--dry-run", "--full")
    output = capsys.readouterr().out
    assert "Dry run, nothing written: 3 rows, 2 created" in output
    assert "1 deactivated" in output
    assert Product.objects.active().count() == 1


def test_full_deactivates(feed, capsys):
    make_product(sku="Z")
    call_command("import_products", str(feed), "--full", "--format", "csv")
    assert "1 deactivated" in capsys.readouterr().out
    assert sorted(Product.objects.active().values_list("sku", flat=True)) == ["A", "B"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--map", "title"], "--map 'title': expected COLUMN=FIELD"),
        (["--map", "title=titel"], "cannot map 'title' to 'titel', expected one of: sku, title"),
        (["--map", "colour=brand"], "has no column 'colour' to map; its columns are: 'sku', 'title'"),
        (["--format", "parquet"], "is no whole Parquet file"),
        (["--format", "xls"], "invalid choice: 'xls'"),
    ],
)
def test_what_cannot_be_done_is_an_error(feed, options, reason):
    with pytest.raises(CommandError, match=reason):
        call_command("import_products", str(feed), *options)
    assert not Product.objects.exists()


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(CommandError, match="there is no file"):
        call_command("import_products", str(tmp_path / "nothing.csv"))


def test_progress_is_shown_on_a_terminal(feed, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "160")
    call_command("import_products", str(feed))
    shown = re.sub(r"\x1b\[[\d;?]*\w", "", capsys.readouterr().err)
    assert f"{len(FEED)}/{len(FEED)} bytes 3 rows, 1 rejected" in shown
