"""The story of an import: a file's rows become products, batch by batch, each batch its own transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from catalog.columns import ColumnMap
from catalog.dry_run import DryRun
from catalog.models import ImportRun, Product, RejectedRow, SeenProduct
from catalog.readers import ImportRefused, RawRow, open_rows
from catalog.rows import RowError
from catalog.upsert import Batch, UpsertResult
from catalog.values import UNSAFE

__all__ = ["ImportRefused", "UpsertResult", "import_file", "upsert_rows"]

BATCH_ROWS = 1000
MAX_STORED_REJECTIONS = 10_000

Progress = Callable[[ImportRun], None]


def upsert_rows(rows: Iterable[Mapping[str, Any]]) -> UpsertResult:
    """Create or update the products of these rows, given by field name; the change is announced.

    Rows count from 1 in `rejections`. All rows that can be are written, in one transaction.
    """
    raw = [RawRow(number, dict(values)) for number, values in enumerate(rows, 1)]
    with transaction.atomic():
        return Batch(ColumnMap(), settings.SEARCHSITE["CURRENCY"]).write(raw)


def import_file(
    path: Path | str,
    *,
    source: str = "",
    format: str | None = None,
    mapping: Mapping[str, str] | None = None,
    is_dry_run: bool = False,
    is_full: bool = False,
    run: ImportRun | None = None,
    on_progress: Progress = lambda run: None,
) -> ImportRun:
    """Import a file and return the finished run. Run again after a kill, it does what is left to do.

    `source`: what people call the file. `mapping`: field by column name. A dry run counts and writes no product. A
    full feed deactivates what it does not list. Raises ImportRefused, the run failed with the same words, for a
    file that is not what it should be; what was read before stays imported.
    """
    path = Path(path)
    run = run or ImportRun(mapping=dict(mapping or {}), format=format or "", is_dry_run=is_dry_run, is_full=is_full)
    _start(run, source or path.name)
    try:
        _Import(run, path, on_progress).run()
        run.state = ImportRun.State.FINISHED
    except BaseException as error:
        run.state, run.error = ImportRun.State.FAILED, _clean(str(error))[:2000] or f"stopped ({type(error).__name__})"
        raise
    finally:
        run.finished_at = timezone.now()
        run.save()
        _forget_seen(run)
        on_progress(run)
    return run


def _start(run: ImportRun, source: str) -> None:
    """Set the run to its beginning, whatever an earlier try left of it."""
    run.source = _clean(run.source or source)[:1000]
    run.rows = run.created = run.updated = run.unchanged = run.rejected = run.deactivated = run.bytes_read = 0
    run.state, run.error, run.finished_at = ImportRun.State.RUNNING, "", None
    for killed in ImportRun.objects.stale():
        _forget_seen(killed)
    run.save()
    run.rejections.all().delete()
    _forget_seen(run)


def _clean(text: str) -> str:
    """Return `text` without what no database takes: names of files may be any bytes."""
    return UNSAFE.sub("\ufffd", text)


def _forget_seen(run: ImportRun) -> None:
    if run.is_full:
        SeenProduct.objects.filter(run=run)._raw_delete(SeenProduct.objects.db)


class _Import:
    """One run over one file."""

    def __init__(self, run: ImportRun, path: Path, on_progress: Progress) -> None:
        self._run, self._path, self._on_progress = run, path, on_progress
        self._columns = ColumnMap(run.mapping)
        self._dry_run = DryRun() if run.is_dry_run else None
        self._batch = Batch(self._columns, settings.SEARCHSITE["CURRENCY"], self._dry_run)
        self._unread = 0

    def run(self) -> None:
        run = self._run
        with open_rows(self._path, run.format or None, run.source) as source:
            run.format, run.bytes_total = source.format, source.bytes_total
            self._on_progress(run)
            for rows in _batched(source.rows, BATCH_ROWS):
                if not run.rows:
                    self._check_columns(rows)
                with transaction.atomic():
                    self._add(rows, self._batch.write(rows))
                    run.bytes_read = source.tell()
                    run.save()
                self._on_progress(run)
            run.bytes_read = run.bytes_total
        if not run.rows:
            raise ImportRefused(f"{run.source} has no rows; expected at least one product")
        if run.is_full:
            self._deactivate_unlisted()

    def _check_columns(self, rows: Sequence[RawRow]) -> None:
        """Refuse a file none of whose first rows has a SKU: better told at once than by a million rejections."""
        names = list(dict.fromkeys(str(column) for row in rows for column in row.values))
        if not names:
            reason = f"row {rows[0].number} {rows[0].error}" if rows[0].error else "its first rows are empty"
            raise ImportRefused(f"{self._run.source} cannot be read: {reason}; check its format")
        # Where there are products, a file may tell their prices alone.
        required = ("sku",) if Product.objects.exists() else ("sku", "title")
        self._columns.check(names, self._run.source, required)

    def _add(self, rows: Sequence[RawRow], result: UpsertResult) -> None:
        run, stored = self._run, min(self._run.rejected, MAX_STORED_REJECTIONS)
        run.rows += len(rows)
        run.created += result.created
        run.updated += result.updated
        run.unchanged += result.unchanged
        run.rejected += len(result.rejections)
        self._unread += sum(bool(row.error) and not row.values for row in rows)
        kept = result.rejections[: MAX_STORED_REJECTIONS - stored]
        RejectedRow.objects.bulk_create([_to_rejected_row(run, error) for error in kept])
        if run.is_full and not run.is_dry_run:
            seen = [SeenProduct(run=run, product_id=product_id) for product_id in result.listed]
            SeenProduct.objects.bulk_create(seen, ignore_conflicts=True)

    def _deactivate_unlisted(self) -> None:
        """Take off sale what a full feed did not list; raises ImportRefused where that is not known for sure."""
        run = self._run
        if run.rows == run.rejected:
            raise ImportRefused(
                f"{run.source} has no valid row, so nothing was deactivated; mend it or leave out --full"
            )
        if self._unread:
            raise ImportRefused(
                f"{run.source} has {self._unread:,} rows that cannot be read, so what it lists is not known "
                "and nothing was deactivated; mend them or leave out --full"
            )
        if self._dry_run:
            run.deactivated = self._dry_run.count_unlisted()
            return
        unlisted = Product.objects.active().exclude(pk__in=run.seen.values("product_id"))
        for count in unlisted.set_active_in_batches(False):
            run.deactivated += count
            run.save()
            self._on_progress(run)


def _to_rejected_row(run: ImportRun, error: RowError) -> RejectedRow:
    return RejectedRow(run=run, row=error.row, column=error.column[:200], value=error.value, reason=error.reason[:500])


def _batched(rows: Iterator[RawRow], size: int) -> Iterator[list[RawRow]]:
    """Yield rows in lists of `size`; those read before an error come first, then the error."""
    while True:
        batch: list[RawRow] = []
        try:
            batch.extend(islice(rows, size))
        except ImportRefused:
            if batch:
                yield batch
            raise
        if not batch:
            return
        yield batch
