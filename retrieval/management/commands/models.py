"""The model versions of this site: list them, let one serve, take one to another shop."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

from django.core.management.base import BaseCommand, CommandError
from rich.console import Console
from rich.table import Table

from retrieval import registry
from retrieval.build_bar import build_bar
from retrieval.engine.types import EngineError
from retrieval.learning import versions
from retrieval.live import CROSS_ENCODER
from retrieval.models import ModelVersion
from retrieval.serving import check_other, retire_version, serve_version

KINDS = versions.KINDS
NO_RERANKER = "none"


class Command(BaseCommand):
    help = (
        "The models this site has: list and show them, promote one to serve or roll back to the one before, export "
        "one as a file, import it elsewhere. What serves changes within seconds, and no search fails meanwhile."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        add(actions, "list", "list all versions, newest first")
        add(actions, "show", "print what is known of one version").add_argument("name")
        promote = add(actions, "promote", "let a model serve; what it needs, an index too, is made first")
        promote.add_argument(
            "name", help=f"a version, default, a folder or a hub name; {NO_RERANKER} for no cross-encoder"
        )
        promote.add_argument("--kind", choices=KINDS, help="needed for what is no version")
        promote.add_argument("--force", action="store_true", help="also what is not shown to be better on this shop")
        promote.add_argument("--precision", choices=("float", "int8"), default="float", help="of a cross-encoder")
        add(actions, "rollback", "let the model before serve again").add_argument("kind", choices=KINDS)
        export = add(actions, "export", "write a version as one file")
        export.add_argument("name")
        export.add_argument("file", type=Path)
        add(actions, "import", "add the version in such a file").add_argument("file", type=Path)
        add(actions, "retire", "let a two-tower version serve no more beside the live one").add_argument("name")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        try:
            registry.sync_built_in()
            facts, text = getattr(self, f"_{action}")(**options)
        except EngineError as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(facts, ensure_ascii=False, indent=2))
        elif isinstance(text, str):
            self.stdout.write(text)
        else:
            Console(file=cast(IO[str], self.stdout)).print(text)

    def _list(self, **options: Any) -> tuple[Any, str | Table]:
        rows = [to_facts(version) for version in ModelVersion.objects.select_related("parent")]
        return rows, _to_table(rows) if rows else "There is no model version yet."

    def _show(self, name: str, **options: Any) -> tuple[Any, str]:
        version = registry.find_version(name)
        facts = to_facts(version) | {
            "settings": version.settings,
            "metrics": version.metrics,
            "verdict": version.verdict,
        }
        lines = [
            f"{fact}: {_to_text(value)}" for fact, value in versions.flatten(facts).items() if value not in ("", None)
        ]
        return facts, "\n".join(lines)

    def _promote(self, name: str, kind: str | None, precision: str, **options: Any) -> tuple[Any, str]:
        from retrieval.promotion import promote

        version = ModelVersion.objects.filter(name=name).first()
        if version is None and kind is None:
            raise CommandError(f"{name!r} is no model version: say which --kind of model it is: {', '.join(KINDS)}")
        if version and kind not in (None, version.kind):
            raise CommandError(f"{name} is a {version.kind} model, not a {kind} one")
        if version:
            with build_bar() as show:
                served = serve_version(version, show, is_forced=options["force"], precision=precision)
            return _tell_live(version.kind, served)
        kind = str(kind)
        name = "" if kind == CROSS_ENCODER and name == NO_RERANKER else name
        check = (lambda: None) if options["force"] else partial(check_other, kind, name)
        return _tell_live(kind, promote(kind, name, precision=precision, check=check))

    def _rollback(self, kind: str, **options: Any) -> tuple[Any, str]:
        from retrieval.promotion import roll_back

        return _tell_live(kind, roll_back(kind))

    def _export(self, name: str, file: Path, **options: Any) -> tuple[Any, str]:
        registry.export_archive(registry.find_version(name), file)
        size = file.stat().st_size
        return {"name": name, "file": str(file), "bytes": size}, f"{file}: {name}, {size / 1e6:.1f} MB"

    def _import(self, file: Path, **options: Any) -> tuple[Any, str]:
        version = registry.import_archive(file)
        return to_facts(version), f"{version.name} is here; to let it serve: manage.py models promote {version.name}"

    def _retire(self, name: str, **options: Any) -> tuple[Any, str]:
        from retrieval.promotion import retire

        version = ModelVersion.objects.filter(name=name).first()
        if version:
            retire_version(version)
        else:
            retire(name)
        exported = version.exported if version else name
        return {"name": name, "version": exported, "state": "retired"}, f"{name} serves no more."


def add(actions: Any, name: str, text: str) -> ArgumentParser:
    """Return the parser of one more action."""
    parser: ArgumentParser = actions.add_parser(name, help=text, description=text.capitalize() + ".")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def to_facts(version: ModelVersion) -> dict[str, Any]:
    """Return a version's facts as JSON can hold them; `is_passed` is what the gate found, null before."""
    return {
        "name": version.name,
        "kind": version.kind,
        "origin": version.origin,
        "is_live": registry.is_live(version),
        "is_shadow": registry.is_beside(version),
        "is_passed": version.verdict.get("is_passed"),
        "base": version.base,
        "parent": version.parent.name if version.parent else None,
        "exported": version.exported,
        "dim": version.dim,
        "recipe_version": version.recipe_version,
        "data_hash": version.data_hash,
        "size_bytes": version.size_bytes,
        "created_at": version.created_at.isoformat(timespec="seconds"),
        "note": version.note,
        "work": version.work,
    }


def _tell_live(kind: str, live: Any) -> tuple[dict[str, str], str]:
    facts = {"kind": kind, "name": live.name, "version": live.version}
    return (
        facts,
        f"{Path(live.name).name} ({live.version}) serves now." if live.name else "No cross-encoder serves now.",
    )


def _to_table(rows: list[dict[str, Any]]) -> Table:
    table = Table("Name", "Kind", "Origin", "Serves", "Gate", "MB", "Made")
    gate = {True: "passed", False: "failed", None: ""}
    for row in rows:
        serves = "live" if row["is_live"] else "shadow" if row["is_shadow"] else ""
        size, made = f"{row['size_bytes'] / 1e6:.1f}", row["created_at"][:16].replace("T", " ")
        table.add_row(row["name"], row["kind"], row["origin"], serves, gate[row["is_passed"]], size, made)
    return table


def _to_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, Mapping)) else str(value)
