"""Every format gives the same rows; what is no catalogue is refused with the cure."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from catalog.readers import ImportRefused, RawRow, open_rows

ROWS = [{"sku": "A1", "title": "Red mug", "note": "hot"}, {"sku": "A2", "title": 'Blue "big" mug, 2', "note": ""}]


def read(path: Path, format: str | None = None) -> tuple[str, list[RawRow]]:
    with open_rows(path, format) as source:
        return source.format, list(source.rows)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def to_csv(delimiter: str) -> str:
    lines = [["sku", "title", "note"], *([row["sku"], row["title"], row["note"]] for row in ROWS)]
    quoted = (['"' + field.replace('"', '""') + '"' for field in line] for line in lines)
    return "".join(delimiter.join(line) + "\r\n" for line in quoted)


JSON_LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
FILES: dict[str, tuple[str, str | bytes]] = {
    "comma.csv": ("csv", to_csv(",")),
    "semicolon.csv": ("csv", to_csv(";")),
    "pipe.txt": ("csv", to_csv("|")),
    "tab.txt": ("tsv", to_csv("\t")),
    "bom.csv": ("csv", b"\xef\xbb\xbf" + to_csv(",").encode()),
    "utf16.csv": ("csv", to_csv(",").encode("utf-16")),
    "lines.jsonl": ("jsonl", "\n" + JSON_LINES),
    "array.json": ("json", json.dumps(ROWS, indent=2)),
    "utf16-no-bom.csv": ("csv", to_csv(",").encode("utf-16-be")),
    "excel.csv": ("csv", "sep=;\r\n" + to_csv(";")),
    "old-mac.csv": ("csv", to_csv(",").replace("\r\n", "\r")),
    "blank-lines.csv": ("csv", "\r\n\r\n" + to_csv(",").replace("\r\n", ",,\r\n\r\n").replace(",,", "", 1)),
    "lines.ndjson": ("jsonl", JSON_LINES),
    "minified.json": ("json", json.dumps({"products": ROWS})),
    "wrapped.json": ("json", json.dumps({"version": 2, "products": ROWS}, indent=2)),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("is_packed", [False, True])
def test_formats_are_found_out_and_read(tmp_path, name, is_packed):
    format, content = FILES[name]
    data = content if isinstance(content, bytes) else content.encode()
    path = write(tmp_path, f"{name}.gz" if is_packed else name, gzip.compress(data) if is_packed else data)
    assert read(path) == (format, [RawRow(1, ROWS[0]), RawRow(2, ROWS[1])])


@pytest.mark.parametrize("is_packed", [False, True])
def test_parquet(tmp_path, is_packed):
    path = tmp_path / "products"
    parquet.write_table(pa.Table.from_pylist(ROWS), path)
    if is_packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    with open_rows(path) as source:
        assert (source.format, list(source.rows)) == ("parquet", [RawRow(1, ROWS[0]), RawRow(2, ROWS[1])])
        assert source.tell() == source.bytes_total


def test_parquet_with_a_column_twice_is_refused(tmp_path):
    parquet.write_table(pa.table([["A"], ["B"]], names=["sku", "sku"]), tmp_path / "products")
    with pytest.raises(ImportRefused, match="has two columns named 'sku'"):
        read(tmp_path / "products")


@pytest.mark.parametrize("count", [1, 50])
@pytest.mark.parametrize(
    ("encoding", "title"),
    [
        ("cp1252", "Kühlschrank für größere Küchen"),
        ("cp1252", "Café crème brûlée – 12 € “spécial”"),
        ("cp1252", "Señorita pequeña"),
        ("cp1252", "Ø 12 mm ±5 % ½ × 3 °C"),
        ("cp1252", "Soft® Tee™ µ-fiber"),
        ("cp1250", "Čajník skleněný příliš žluťoučký"),
        ("cp1251", "Чайник электрический стеклянный"),
        ("cp1253", "Βραστήρας νερού"),
        ("cp932", "赤いマグカップ 電気ケトル"),
        ("gb18030", "红色马克杯电水壶"),
    ],
)
def test_old_encodings_are_guessed(tmp_path, encoding, title, count):
    text = "sku,title\n" + "".join(f"{n},Plain mug\n{n}x,{title}\n" for n in range(count))
    _, rows = read(write(tmp_path, "old.csv", text.encode(encoding)))
    assert rows[-1].values["title"] == title


GOOGLE_RSS = """<?xml version="1.0"?>
<rss xmlns:g="http://base.google.com/ns/1.0" version="2.0"><channel><title>Shop</title>
<item><g:id>A1</g:id><title>Red mug</title><g:price>9.00 USD</g:price><g:availability>in stock</g:availability>
<g:product_detail><g:attribute_name>Material</g:attribute_name><g:attribute_value>Clay</g:attribute_value></g:product_detail>
</item><item><g:id>A2</g:id><title>Blue mug</title></item></channel></rss>"""


def test_google_feeds_in_rss_and_atom(tmp_path):
    expected = {"id": "A1", "title": "Red mug", "price": "9.00 USD", "availability": "in stock"}
    format, rows = read(write(tmp_path, "feed.xml", GOOGLE_RSS))
    assert format == "google-xml"
    assert rows == [
        RawRow(1, expected | {"attributes": {"Material": "Clay"}}),
        RawRow(2, {"id": "A2", "title": "Blue mug"}),
    ]
    atom = '<feed xmlns="http://www.w3.org/2005/Atom" xmlns:g="http://base.google.com/ns/1.0">'
    atom += "<entry><g:id>A1</g:id><title>Red mug</title></entry></feed>"
    assert read(write(tmp_path, "atom.xml", atom))[1] == [RawRow(1, {"id": "A1", "title": "Red mug"})]


SHOPIFY = """Handle,Title,Body (HTML),Vendor,Type,Option1 Name,Option1 Value,Variant SKU,Variant Price,Image Src,Status
tee,Soft tee,<p>Nice</p>,Loomly,Shirts,Size,S,TEE-S,19.00,https://x.example/a.png,active
tee,,,,,,M,,21.00,,
tee,,,,,,,,,https://x.example/b.png,
mug,Mug,,Potta,Mugs,Title,Default Title,MUG,9,,draft
"""


def test_shopify_variants_carry_the_facts_of_their_product(tmp_path):
    format, rows = read(write(tmp_path, "export.csv", SHOPIFY))
    assert format == "shopify"
    assert [(row.number, row.values["sku"], row.values["title"], row.values["price"]) for row in rows] == [
        (1, "TEE-S", "Soft tee", "19.00"), (2, "tee-M", "Soft tee", "21.00"), (4, "MUG", "Mug", "9"),
    ]  # fmt: skip
    assert (rows[1].values["attributes"], rows[1].values["image"]) == ({"Size": "M"}, "https://x.example/a.png")
    assert rows[2].values["attributes"] == {}


def test_shopify_columns_by_their_newer_names(tmp_path):
    renamed = {
        "Handle": "URL handle", "Body (HTML)": "Description", "Variant SKU": "SKU", "Variant Price": "Price",
        "Image Src": "Product image URL", "Option1 Name": "Option1 name", "Option1 Value": "Option1 value",
    }  # fmt: skip
    header, _, body = SHOPIFY.partition("\n")
    newer = ",".join(renamed.get(name, name) for name in header.split(","))
    old, new = write(tmp_path, "old.csv", SHOPIFY), write(tmp_path, "new.csv", f"{newer}\n{body}")
    assert read(new) == read(old)
    with pytest.raises(ImportRefused, match="has no column 'Handle', so it is no Shopify export"):
        read(write(tmp_path, "a.csv", to_csv(",")), "shopify")


REFUSED: dict[str, tuple[str | bytes, str]] = {
    "empty.csv": ("", "is empty"),
    "blank.csv": ("  \n \n", "is empty"),
    "junk.csv": (bytes(range(256)) * 20, "is no text file; expected CSV, TSV, JSON"),
    "one-column.csv": ("sku\nA1\n", "has only the column 'sku'"),
    "twice.csv": ("sku,title,title\n", "has two columns named 'title'"),
    "cut.csv.gz": (
        gzip.compress(to_csv(",").encode() * 1000)[:-200],
        "is no whole gzip file .* pack it again",
    ),
    "not-gzip.csv.gz": (b"\x1f\x8bnot gzip at all", "is no whole gzip file"),
    "cut.parquet": (b"PAR1" + b"\x00" * 50, "is no whole Parquet file"),
    "cut.json": (json.dumps(ROWS)[:-20], "breaks off or is no JSON"),
    "other.json": ('{"name": "shop",\n"version": 3}', "expected a list under one of: products"),
    "cut.xml": (GOOGLE_RSS[:-60], "is no sound XML"),
    "page.xml": ("<html><body>404</body></html>", "is a web page, perhaps of an error"),
    "two.json": (json.dumps(ROWS) * 2, "goes on after its array ends"),
    "no-comma.json": ('[{"sku": "A"} {"sku": "B"}]', "expected a comma after row 1"),
    "bad-item.json": ('[{"sku": "A"}, {sku: "B"}]', r"no JSON after row 1 \(Expecting property name"),
    "deep.json": ("[" * 100_000, "is nested too deeply"),
    "cut-utf16.csv": (to_csv(",").encode("utf-16")[:-1], "breaks off or is no utf-16-le text"),
    "quote.csv": ('sku,"title\n' + "A,b\n" * 300_000, "has no header that can be read"),
    "book.xlsx": (b"PK\x03\x04" + b"\x00" * 50, "is a zip archive or an Excel workbook; .* save the sheet as CSV"),
    "feed.csv.bz2": (b"BZh91AY&SY" + b"\x01" * 50, "is packed with bzip2; unpack it"),
    "login.csv": ("<!DOCTYPE html><html><head></head></html>", "is a web page"),
    "trailing.csv.gz": (gzip.compress(to_csv(",").encode()) + b"more", "is no whole gzip file"),
    "bomb.xml": ('<!DOCTYPE a [<!ENTITY b "c">]><rss><item>&b;</item></rss>', "is no sound XML"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_catalogue_is_refused_with_the_cure(tmp_path, name):
    content, reason = REFUSED[name]
    with pytest.raises(ImportRefused, match=reason):
        read(write(tmp_path, name, content))


def test_a_missing_file_and_an_unknown_format_are_named(tmp_path):
    with pytest.raises(ImportRefused, match="there is no file"):
        read(tmp_path / "nothing.csv")
    with pytest.raises(ImportRefused, match="unknown format 'xls', expected one of: csv, tsv"):
        read(write(tmp_path, "a.csv", to_csv(",")), "xls")
    with pytest.raises(ImportRefused, match="is a JSON array, not JSON Lines; import it with --format json"):
        read(write(tmp_path, "a.json", "[]"), "jsonl")
    with pytest.raises(ImportRefused, match=r"cannot be read \(Is a directory\)"):
        read(tmp_path)


def test_a_bad_row_is_told_and_the_rest_goes_on(tmp_path):
    lines = '{"sku": "A1"}\nnot json\n[1]\n\n{"sku": "A2"}\n'
    _, rows = read(write(tmp_path, "a.jsonl", lines))
    assert [(row.number, bool(row.error)) for row in rows] == [(1, False), (2, True), (3, True), (4, False)]
    assert rows[2].error == "is list [1], expected an object"
    _, rows = read(write(tmp_path, "a.csv", "sku,title\nA1,Mug\nA2,Mug,3,4\n\nA3\n"))
    assert (rows[1].error, rows[1].values["sku"]) == ("has 4 fields where the header has 2", "A2")
    assert rows[2] == RawRow(3, {"sku": "A3"})


def test_an_open_quotation_mark_does_not_swallow_the_file(tmp_path):
    body = "".join(f"A{n},Mug number {n}\n" for n in range(100_000))
    _, rows = read(write(tmp_path, "a.csv", 'sku,title\nB1,"Mug\n' + body))
    assert "perhaps a quotation mark is not closed" in rows[0].error
    assert len(rows) > 30_000


def test_a_byte_that_is_no_text_costs_its_row_only(tmp_path):
    _, rows = read(write(tmp_path, "a.csv", b"sku,title\nA1,Mug\nA2,B\x00d\nA3,Bowl\n"))
    assert [row.values["title"] for row in rows] == ["Mug", "B\x00d", "Bowl"]


def test_a_file_of_one_endless_line_is_refused(tmp_path):
    for name in ("a.jsonl", "a.csv"):
        path = write(tmp_path, name, ('{"sku": "A"}\n' if name == "a.jsonl" else "sku,title\n") + "x" * 17_000_000)
        with pytest.raises(ImportRefused, match="has a line of more than 16,000,000 characters"):
            read(path)


def test_errors_of_the_reader_of_the_rows_are_its_own(tmp_path):
    """Who works on the rows may fail on files too: that is not the catalogue's fault."""

    def fail(row: RawRow) -> None:
        raise BrokenPipeError

    def work(path: Path) -> None:
        with open_rows(path) as source:
            fail(next(source.rows))

    with pytest.raises(BrokenPipeError):
        work(write(tmp_path, "a.csv", to_csv(",")))


def test_what_came_before_a_break_is_read(tmp_path):
    items = json.dumps([{"sku": str(n), "title": "x" * 100} for n in range(3000)])
    found: list[RawRow] = []
    with pytest.raises(ImportRefused, match="breaks off"), open_rows(write(tmp_path, "a.json", items[:-40])) as source:
        found.extend(source.rows)
    assert len(found) == 0 or found[-1].number >= 2990


def test_values_that_span_chunks_are_whole(tmp_path):
    items = [{"sku": str(n), "title": "y" * (n * 7 % 90_000), "price": 12345.678} for n in range(40)]
    _, rows = read(write(tmp_path, "a.json", json.dumps(items)))
    assert [row.values for row in rows] == items


def test_progress_is_told_in_bytes_of_the_file(tmp_path):
    path = write(tmp_path, "a.csv.gz", gzip.compress(to_csv(",").encode()))
    with open_rows(path) as source:
        list(source.rows)
        assert source.tell() == source.bytes_total == path.stat().st_size
