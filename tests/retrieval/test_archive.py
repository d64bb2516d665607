"""A model version as one file: taken to another shop whole, and refused when it is anything else."""

from __future__ import annotations

import hashlib
import io
import json
import stat
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import pytest

from retrieval.learning import versions
from retrieval.learning.archive import MANIFEST, export_version, import_version
from retrieval.learning.versions import VersionError, read_card, write_version
from tests.retrieval.test_versions import make_adapter, make_card


@pytest.fixture
def folder(tmp_path):
    return write_version(tmp_path / "here", make_card(note="ours"), {"adapter": make_adapter(tmp_path / "adapter")})


@pytest.fixture
def archive(folder, tmp_path):
    export_version(folder, tmp_path / "shop-1.zip")
    return tmp_path / "shop-1.zip"


@pytest.fixture
def there(tmp_path):
    return tmp_path / "there"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in versions.list_files(folder)}


def rewrite(archive: Path, change: Any = None, **more: bytes) -> io.BytesIO:
    """Return the archive with its manifest changed, sums made anew, and more files."""
    with ZipFile(archive) as old:
        files = {name: old.read(name) for name in old.namelist() if name != MANIFEST} | more
        manifest = json.loads(old.read(MANIFEST))
    sums = {name: {"sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()}
    manifest["files"] = sums
    if change:
        change(manifest, files)
    result = io.BytesIO()
    with ZipFile(result, "w", ZIP_DEFLATED) as new:
        new.writestr(MANIFEST, json.dumps(manifest))
        for name, content in files.items():
            new.writestr(name, content)
    return result


def refuse(source: Any, there: Path, message: str) -> None:
    with pytest.raises(VersionError, match=message):
        import_version(source, there)
    assert [path.name for path in there.rglob("*") if path.name != "versions"] == []


def test_an_archive_gives_the_same_version(archive, folder, there):
    found = import_version(archive, there)
    assert found == there / "versions" / "shop-1"
    assert contents(found) == contents(folder)
    assert read_card(found) == read_card(folder)
    assert {oct(path.stat().st_mode & 0o777) for path in versions.list_files(found)} == {"0o444"}


def test_the_same_version_is_the_same_bytes(archive, folder):
    again = io.BytesIO()
    export_version(folder, again)
    assert again.getvalue() == archive.read_bytes()


def test_an_archive_may_come_as_an_open_file(archive, there):
    with archive.open("rb") as file:
        assert import_version(file, there).name == "shop-1"


def test_a_name_is_taken_once(archive, there):
    before = contents(import_version(archive, there))
    with pytest.raises(VersionError, match="there is a model version shop-1 already"):
        import_version(archive, there)
    assert contents(there / "versions" / "shop-1") == before


def test_what_is_no_version_is_not_exported(tmp_path):
    with pytest.raises(VersionError, match=r"card.json is no card of a model version"):
        export_version(tmp_path, tmp_path / "x.zip")
    assert not (tmp_path / "x.zip").exists()


def test_a_place_that_is_not_there_is_named(folder, tmp_path):
    with pytest.raises(VersionError, match=r"missing/x.zip cannot be written: No such file"):
        export_version(folder, tmp_path / "missing" / "x.zip")


@pytest.mark.parametrize("size", [0, 10, 200, -1])
def test_a_cut_archive_is_refused(archive, there, size):
    refuse(io.BytesIO(archive.read_bytes()[:size]), there, "no archive of a model version, or a damaged one")


def test_a_missing_file_is_named(tmp_path, there):
    refuse(tmp_path / "none.zip", there, r"cannot be read: .*none\.zip")


def test_any_changed_byte_of_the_content_is_noticed(archive, there):
    whole = archive.read_bytes()
    for at in range(0, len(whole), 97):
        changed = whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
        try:
            found = import_version(io.BytesIO(changed), there / str(at))
        except VersionError:
            continue
        assert contents(found) == contents(archive.parent / "here/versions/shop-1")


def test_a_wrong_sum_is_refused_by_name(archive, there):
    def change(manifest: Any, files: Any) -> None:
        manifest["files"]["card.json"]["sha256"] = "0" * 64

    refuse(rewrite(archive, change), there, "card.json in the archive is damaged: its sum is not")


@pytest.mark.parametrize(
    "name",
    ["../card.json", "/etc/passwd.json", "adapter/../../x.json", "adapter\\x.json", "c:/x.json", "./card2.json",
     "adapter//x.json", "adapter/\x01.json", "adapter/ü.json"],
)  # fmt: skip
def test_a_file_outside_of_the_folder_is_refused(archive, there, name):
    refuse(rewrite(archive, **{name: b"{}"}), there, "names a file outside of its folder")


@pytest.mark.parametrize(
    "name",
    ["adapter/pytorch_model.bin", "adapter/adapter_model.bin", "adapter/x.pkl", "adapter/x.pt", "adapter/run.py",
     "other/x.json", "x.json", "adapter/config", "adapter.json"],
)  # fmt: skip
def test_what_a_version_does_not_have_is_refused(archive, there, name):
    refuse(
        rewrite(archive, **{name: b"{}"}), there, r"is nothing a model version has: expected card\.json.* no pickles"
    )


def test_an_openvino_network_may_come_along(archive, there):
    more = {"model/openvino_model.xml": b"<net/>", "model/openvino_model.bin": b"\0"}
    refuse(rewrite(archive, **more), there, "tied towers, but its parts are: adapter, model")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO])
def test_links_and_other_things_are_refused(archive, there, kind):
    with ZipFile(archive, "a") as zipped:
        entry = ZipInfo("adapter/link.json")
        entry.external_attr = (kind | 0o777) << 16
        zipped.writestr(entry, "/etc/passwd")
    refuse(archive, there, "is no plain file")


def test_a_folder_s_own_entry_is_refused(archive, there):
    with ZipFile(archive, "a") as zipped:
        zipped.writestr(ZipInfo("adapter/"), "")
    refuse(archive, there, "outside of its folder|no plain file")


def test_a_file_listed_twice_is_refused(archive, there):
    with ZipFile(archive, "a") as zipped, pytest.warns(UserWarning, match="Duplicate name"):
        zipped.writestr("card.json", "{}")
    refuse(archive, there, "expected at most 500, each once")


def test_a_file_the_manifest_does_not_list_is_refused(archive, there):
    with ZipFile(archive, "a") as zipped:
        zipped.writestr("adapter/more.json", "{}")
    refuse(archive, there, r"do not list the same files: 'adapter/more\.json'")


def test_a_listed_file_that_is_missing_is_refused(archive, there):
    refuse(
        rewrite(archive, lambda manifest, files: files.pop("README.md")), there, "not list the same files: 'README.md'"
    )


def test_more_than_there_is_room_for_is_refused_before_it_is_unpacked(archive, there):
    bomb = rewrite(archive, **{"adapter/zeros.txt": b"\0" * 2_000_000})
    with pytest.raises(VersionError, match=r"holds 2,0\d\d,\d\d\d bytes, expected at most 1,000,000"):
        import_version(bomb, there, most_bytes=1_000_000)
    assert not list(there.rglob("*.txt"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "the archive has format 2, this site reads format 1: update it"),
        ({"name": "../up"}, "a model version cannot be called '../up'"),
        ({"name": "shop-2"}, "the archive is of 'shop-2', its card of 'shop-1'"),
        ({"files": []}, r"manifest.json cannot be read"),
    ],
)
def test_a_manifest_of_another_form_is_refused(archive, there, change, message):
    refuse(rewrite(archive, lambda manifest, files: manifest.update(change)), there, message)


def test_an_archive_of_something_else_is_refused(tmp_path, there):
    with ZipFile(tmp_path / "other.zip", "w") as zipped:
        zipped.writestr("card.json", "{}")
    refuse(tmp_path / "other.zip", there, r"has no manifest\.json: it was not written by this program")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("adapter/config.json", b'{"auto_map": {"AutoModel": "evil.Model"}}', "names code of its own .auto_map."),
        ("adapter/modules.json", b'[{"type": "os.system", "path": ""}]', "names code of its own: 'os.system'"),
        ("adapter/modules.json", b"7", "modules.json cannot be read"),
        ("adapter/extra.json", b"{", "extra.json in the archive is no JSON"),
        ("adapter/extra.json", b"[" * 100_000, "extra.json in the archive is no JSON"),
        ("adapter/adapter_config.json", b'{"peft_type": "X"}', "is of type 'X', expected LORA"),
    ],
)
def test_settings_that_name_code_or_are_damaged_are_refused(archive, there, name, content, message):
    with pytest.raises(Exception, match=message):
        import_version(rewrite(archive, **{name: content}), there)
    assert not list(there.rglob("*.json"))


@pytest.mark.parametrize("base", ["/no/such/model", "../../another-version"])
def test_an_adapter_of_a_model_that_is_not_here_says_what_to_import_first(tmp_path, archive, there, base):
    config = json.dumps({"peft_type": "LORA", "base_model_name_or_path": base}).encode()
    source = rewrite(archive, **{"adapter/adapter_config.json": config})
    refuse(source, there, r"for a model that is not here, import that first: there is no model folder")


def test_an_adapter_of_an_adapter_follows_it(tmp_path, folder, archive, there):
    learned = make_adapter(tmp_path / "second", base=str(folder))
    second = write_version(tmp_path / "here", make_card("second", parent="shop-1"), {"adapter": learned})
    export_version(second, tmp_path / "second.zip")
    refuse(tmp_path / "second.zip", there, r"no model folder .*/versions/shop-1")
    import_version(archive, there)
    assert import_version(tmp_path / "second.zip", there).name == "second"
