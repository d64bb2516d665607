"""From values to fields: usual spellings are understood, the rest is rejected with its reason."""

from __future__ import annotations

from datetime import date

import pytest

from catalog.columns import ColumnMap
from catalog.readers import ImportRefused
from catalog.rows import ProductRow, RowError, find_sku, parse_row


def parse(raw: dict[str, object], overrides: dict[str, str] | None = None) -> ProductRow:
    return parse_row(1, {"sku": "A1", **raw}, ColumnMap(overrides or {}), "USD")


@pytest.mark.parametrize(
    ("value", "currency", "expected"),
    [
        ("12.99", "", (1299, "USD")),
        (12.99, "", (1299, "USD")),
        (13, "EUR", (1300, "EUR")),
        ("12,99", "", (1299, "USD")),
        ("1,299", "", (129900, "USD")),
        ("1,299.50", "", (129950, "USD")),
        ("1.299,50", "", (129950, "USD")),
        ("1 299,50 €", "EUR", (129950, "EUR")),
        ("$ 5", "", (500, "USD")),
        ("12.99 GBP", "", (1299, "GBP")),
        ("JPY 1200", "", (1200, "JPY")),
        ("1.2345", "KWD", (1235, "KWD")),
        ("0", "", (0, "USD")),
        ("€ 5", "", (500, "EUR")),
        ("12.99 eur", "", (1299, "EUR")),
        ("US$5", "", (500, "USD")),
        ("12.99 EUR incl. VAT", "", (1299, "EUR")),
        ("5 per kg", "", (500, "USD")),
        ("5,-", "", (500, "USD")),
        (".99", "", (99, "USD")),
        ("Rs.500", "INR", (50000, "INR")),
        ("1’299.50 CHF", "", (129950, "CHF")),
        ("1\u202f299,50", "", (129950, "USD")),
        ("", "eur", (None, "EUR")),
        (None, "", (None, "USD")),
    ],
)
def test_prices(value, currency, expected):
    values = parse({"price": value, "currency": currency}).values
    assert (values["price_cents"], values["currency"]) == expected


def test_usual_names_of_columns_are_understood():
    row = parse_row(1, {"Item ID": "7", "Product Name": " Red  mug ", "EAN": 4006381333931, "Vendor": "Potta",
                        "Product Type": "Kitchen > Mugs", "Image Link": "https://x.example/1.png", "qty": "3",
                        "Release Date": "2025-01-31T10:00:00", "published": "true", "g:color": "Red",
                        "link": "https://x.example", "Wash care": ""}, ColumnMap(), "USD")  # fmt: skip
    assert row == ProductRow(1, "7", {
        "title": "Red mug", "gtin": "4006381333931", "brand": "Potta", "image_url": "https://x.example/1.png",
        "stock": 3,
        "released": date(2025, 1, 31), "active": True, "attributes": {"color": "Red"},
    }, ("Kitchen", "Mugs"))  # fmt: skip


def test_the_surer_column_counts_and_an_empty_one_gives_way():
    assert parse({"id": "9"}).sku == "A1"
    assert parse_row(1, {"sku": "", "id": "9"}, ColumnMap(), "USD").sku == "9"


def test_columns_go_where_the_user_says():
    overrides = {"Bezeichnung": "title", "title": "ignore", "farbe": "attributes.Colour"}
    row = parse({"Bezeichnung": "Tasse", "title": "x", "Farbe": "Rot"}, overrides)
    assert row.values == {"title": "Tasse", "attributes": {"Colour": "Rot"}}
    with pytest.raises(ImportRefused, match="cannot map 'a' to 'titel', expected one of: sku, title"):
        ColumnMap({"a": "titel"})
    with pytest.raises(ImportRefused, match="has no column 'a' to map; its columns are: 'sku', 'b'"):
        ColumnMap({"a": "title"}).check(["sku", "b"], "x.csv")
    with pytest.raises(ImportRefused, match=r"has no column for the SKU; .*; name it with --map COLUMN=sku"):
        ColumnMap().check(["name", "b"], "x.csv")


def test_what_a_row_does_not_mention_is_left_alone():
    assert parse({"price": "1"}).values == {"price_cents": 100, "currency": "USD"}
    assert parse({"price": "1"}).category is None


def test_html_becomes_text():
    text = parse(
        {"Body (HTML)": "<p>Soft &amp; warm</p><ul><li>one</li><li>two</li></ul>", "title": "A &amp; B"}
    ).values
    assert text == {"description": "Soft & warm\none\ntwo", "title": "A & B"}
    assert parse({"description": "size < 3 and > 2"}).values["description"] == "size < 3 and > 2"


def test_attributes_of_every_kind():
    given = {"Colour": "Red", "dishwasher safe": True, "sizes": ["S", "M"], "weight": 12.5, "empty": "", "none": None}
    expected = {"Colour": "Red", "dishwasher safe": "yes", "sizes": "S, M", "weight": "12.5"}
    assert parse({"attributes": given}).values["attributes"] == expected
    assert parse({"attributes": '{"Colour": "Red"}', "Size": "M"}).values["attributes"] == {
        "Colour": "Red",
        "Size": "M",
    }
    assert parse({"attributes": [("Colour", "Red")]}).values["attributes"] == {"Colour": "Red"}


@pytest.mark.parametrize(
    ("value", "expected"), [("in stock", None), ("Out of Stock", 0), ("7", 7), (-2, 0), ("", None)]
)
def test_stock_in_pieces_or_words(value, expected):
    assert parse({"availability": value}).values["stock"] == expected


@pytest.mark.parametrize("field", ["rating_count", "stock", "popularity"])
@pytest.mark.parametrize(("text", "number"), [("1,234", 1234), ("1 234 567", 1234567), ("12.000", 12), ("3", 3)])
def test_a_comma_in_a_count_is_no_decimal_comma(field, text, number):
    assert parse({field: text}).values[field] == number


def test_numbers_of_a_spreadsheet_become_texts():
    row = parse_row(1, {"sku": 7.0, "gtin": 4.006381333931e12, "title": "A\n  B"}, ColumnMap(), "USD")
    assert (row.sku, row.values) == ("7", {"gtin": "4006381333931", "title": "A B"})


def test_what_says_nothing_is_dropped():
    assert parse({"weight": float("nan"), " ": "x", "attributes": {"": "y"}}).values == {"attributes": {}}
    assert parse({"google_product_category": "1604"}).category == ()


def test_a_text_full_of_open_tags_is_read_in_one_go():
    text = "<a" * 100_000
    assert parse({"description": text}).values["description"] == text


@pytest.mark.parametrize("text", ["2024-01-31 10:00:00 UTC", "2024-01-31T10:00:00Z", "2024-01-31"])
def test_dates_with_a_time(text):
    assert parse({"created_at": text}).values["released"] == date(2024, 1, 31)


def test_the_sku_of_a_rejected_row_is_known():
    assert find_sku({"id": "9", "SKU": " A1 ", "price": "x"}, ColumnMap()) == "A1"
    assert find_sku({"sku": "x" * 101, "id": "9"}, ColumnMap()) == "9"
    assert find_sku({"title": "x"}, ColumnMap()) == ""


@pytest.mark.parametrize(
    ("raw", "column", "reason"),
    [
        ({"sku": ""}, "sku", "every product needs a SKU"),
        ({"sku": None}, "sku", "every product needs a SKU"),
        ({"sku": "x" * 101}, "sku", "has 101 characters, expected at most 100"),
        ({"sku": "A\x00"}, "sku", r"has the character U\+0000"),
        ({"title": "  "}, "title", "every product needs a title"),
        ({"title": ["a"]}, "title", "expected a text"),
        ({"title": b"a"}, "title", "expected a text"),
        ({"title": True}, "title", "expected a text"),
        ({"title": float("nan")}, "title", "expected a text"),
        ({"sku": float("nan")}, "sku", "expected a text"),
        ({"description": "<br " * 250_000}, "description", "has 1,000,000 characters"),
        ({"description": "<b>" + ("<a" + "x" * 1000) * 60}, "description", "tags are opened and never closed"),
        ({"title": "x" * 1001}, "title", "has 1,001 characters"),
        ({"title": "caf\udce9"}, "title", r"has the character U\+DCE9, which is no text; check the encoding"),
        ({"price": "free"}, "price", "expected a price such as 12.99"),
        ({"price": "-1"}, "price", "expected a price from 0"),
        ({"price": "-$5.00"}, "price", "expected a price from 0"),
        ({"price": "- 5"}, "price", "expected a price from 0"),
        ({"price": "(5.00)"}, "price", "expected a price from 0"),
        ({"price": "−5"}, "price", "expected a price from 0"),
        ({"price": "10-20"}, "price", "expected a price such as"),
        ({"price": "1" + "," * 200_000 + "x1"}, "price", "expected a price such as"),
        ({"price": float("nan")}, "price", "expected a number"),
        ({"price": True}, "price", "expected a number"),
        ({"price": {"a": 1}}, "price", "expected a number"),
        ({"price": "1", "currency": "dollars"}, "currency", "expected three letters such as USD"),
        ({"rating": "6"}, "rating", "expected a number from 0 to 5"),
        ({"rating": "nan"}, "rating", "expected a number from 0 to 5"),
        ({"review_count": -1}, "review_count", "expected a number from 0"),
        ({"stock": "some"}, "stock", "expected a number"),
        ({"stock": 10**400}, "stock", "expected a number"),
        ({"released": "31.1.2025"}, "released", "expected a date such as 2025-01-31"),
        ({"active": "perhaps"}, "active", "expected yes or no"),
        ({"image": "javascript:alert(1)"}, "image", "expected an address beginning with https://"),
        ({"image": "http://"}, "image", "expected an address beginning with https://"),
        ({"image": "/\\x.example"}, "image", "expected an address beginning with https://"),
        ({"image": "//x.example/a.png"}, "image", "expected an address beginning with https://"),
        ({"category": 7}, "category", "expected a path such as"),
        ({"category": " > ".join("abcdefghi")}, "category", "expected at most 8 names"),
        ({"category": "ﷺ" * 100}, "category", "expected at most 8 names"),  # 18 characters each as a slug
        ({"attributes": "red"}, "attributes", "expected a JSON object"),
        ({"attributes": [1]}, "attributes", "expected an object"),
        ({"attributes": {"a": {"b": 1}}}, "attributes.a", "expected a single value"),
        ({"Care": "x" * 50_001}, "Care", "expected text, a name of at most 200"),
        ({f"c{n}": "x" for n in range(501)}, "attributes", "expected at most 500 attributes"),
    ],
)
def test_bad_values_are_rejected_with_column_and_reason(raw, column, reason):
    with pytest.raises(RowError, match=reason) as caught:
        parse(raw)
    assert caught.value.column == column
    assert "\x00" not in caught.value.value
