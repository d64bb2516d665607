"""Parquet files, a batch of rows at a time."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from collections.abc import Iterator
from tempfile import TemporaryFile
from typing import IO

from catalog.readers.base import ImportRefused, RawRow

MAGIC = b"PAR1"
BATCH_ROWS = 1000
# Read columns piece by piece: a row group may be as large as the file.
IN_PIECES = {"buffer_size": 1 << 20, "pre_buffer": False}


class ParquetRows:
    """The rows of a Parquet file; `share` is how much of it they were so far, 0 to 1."""

    def __init__(self, content: IO[bytes], name: str) -> None:
        self._content, self._name, self.share = content, name, 0.0

    def __iter__(self) -> Iterator[RawRow]:
        """Yield the rows; raises ImportRefused for a file that is no whole Parquet file."""
        import pyarrow  # only who imports Parquet pays for loading it
        from pyarrow import parquet

        try:
            with _as_file(self._content) as content, parquet.ParquetFile(content, **IN_PIECES) as file:
                self._check_names(file.schema_arrow.names)
                number, total = 0, file.metadata.num_rows
                for batch in file.iter_batches(BATCH_ROWS):
                    for number, values in enumerate(batch.to_pylist(), number + 1):  # noqa: B020 - goes on counting
                        yield RawRow(number, values)
                    self.share = number / total
        except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
            reason = str(error).partition("\n")[0]
            raise ImportRefused(f"{self._name} is no whole Parquet file ({reason}); write it again") from error

    def _check_names(self, names: list[str]) -> None:
        twice = [column for column, count in Counter(names).items() if count > 1]
        if twice:
            raise ImportRefused(f"{self._name} has two columns named {twice[0]!r:.80}; rename one of them")


def _as_file(content: IO[bytes]) -> IO[bytes]:
    """Return `content` as a file in which one can go back and forth: Parquet is read from its end."""
    if isinstance(content, io.BufferedReader):
        return content
    file = TemporaryFile()  # noqa: SIM115 - closed by who asked
    shutil.copyfileobj(content, file)
    file.seek(0)
    return file
