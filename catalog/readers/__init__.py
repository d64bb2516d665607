"""Catalogue files as rows: every format gives the same stream of numbered rows of column names and values."""

from catalog.readers.base import FORMATS, ImportRefused, RawRow, RowSource
from catalog.readers.detect import open_rows

__all__ = ["FORMATS", "ImportRefused", "RawRow", "RowSource", "open_rows"]
