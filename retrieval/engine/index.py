"""Where vectors live: the protocol both engines keep, and the generations it is filled in."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from retrieval.engine.files import LockHeldError, copy_folder, hold_lock, sync_folder, write_atomically
from retrieval.engine.types import EngineError, IndexUnavailable, Point, Ranking, SparseVector, Vectors

QUANTIZATIONS = ("none", "int8")
FORMAT_VERSION = 1
MANIFEST, POINTER, LOCK = "manifest.json", "CURRENT-", "LOCK"
PREFIX = "gen-"
NAME = f"{PREFIX}%Y%m%dT%H%M%S-%f"  # sorts by age
# Opened files stay readable when removed, so a retired generation need only wait for those just opening it.
RETIRED_GRACE_S = 60
UNFINISHED_GRACE_S = 86_400
REINDEX = "run: manage.py reindex"


class ProductIndex(Protocol):
    """Dense and sparse vectors of products.

    Every method raises IndexUnavailable when the engine fails, EngineError for what no index can do.
    """

    def search_dense(self, vector: Vectors, *, limit: int, ef: int = 128, is_exact: bool = False) -> Ranking:
        """Return the products of highest dot product with `vector`, shape (dim,), at most `limit`.

        `ef` is the breadth of the HNSW search, at least `limit`; `is_exact` compares with every product.
        Scores are of full vectors, also where short ones are searched in first.
        """

    def search_sparse(self, vector: SparseVector, *, limit: int) -> Ranking:
        """Return the products of highest sum over shared terms of weight · weight · IDF, at most `limit`.

        IDF is ln(1 + (N - n + 0.5) / (n + 0.5)), n of N products having the term. Deleted and replaced
        products may still be counted until `optimize` has removed them. No terms find nothing.
        """

    def upsert(self, points: Iterable[Point]) -> None:
        """Write points, replacing those of the same product.

        Raises EngineError for a point that is not sound; none of its batch of 1000 is written then.
        """

    def delete(self, product_ids: Sequence[int]) -> None:
        """Remove products; those not there are ignored."""

    def fetch_dense(self, product_ids: Sequence[int]) -> dict[int, Vectors]:
        """Return the dense vectors, shape (dim,), of those products that are there."""

    def content_hashes(self) -> dict[int, str]:
        """Return the content hash each indexed product had when it was written."""

    def count(self) -> int: ...

    def optimize(self) -> None:
        """Build the HNSW graph and clear away deleted points, where enough has changed to be worth it."""

    def flush(self) -> None:
        """Return when everything written is on disk."""

    def close(self) -> None:
        """Flush and let go of the index; a second time does nothing."""


@dataclass(frozen=True, slots=True)
class HnswSettings:
    """`m` edges a node, `ef_construct` breadth while building; 'int8' keeps quantised copies to search in.

    `search_dim` is how many of the first dimensions are searched in, 0 for all of them.
    """

    m: int = 16
    ef_construct: int = 100
    quantization: str = "none"
    search_dim: int = 0

    def __post_init__(self) -> None:
        if self.quantization not in QUANTIZATIONS:
            raise EngineError(
                f"unknown quantization {self.quantization!r}, expected one of: {', '.join(QUANTIZATIONS)}"
            )
        if not 4 <= self.m <= 128 or not 8 <= self.ef_construct <= 2000:
            raise EngineError(f"HNSW m={self.m}, ef_construct={self.ef_construct}: expected 4 to 128 and 8 to 2000")
        if self.search_dim < 0:
            raise EngineError(f"search_dim={self.search_dim}: expected a number of dimensions, 0 for all of them")

    def short_dim(self, dim: int) -> int:
        """Return the length of the short vectors to search in, 0 where vectors of `dim` are searched whole.

        Raises EngineError where vectors have fewer dimensions than are to be searched in.
        """
        if self.search_dim > dim:
            raise EngineError(
                f"vectors of {dim} dimensions cannot be searched in {self.search_dim} of them; "
                f"set SEARCHSITE_VECTOR_DIM to at most {dim}, or to 0 for all of them"
            )
        return self.search_dim if self.search_dim < dim else 0


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a generation was made of. It is written complete only when the generation is."""

    name: str
    model_version: str
    recipe_version: str
    dim: int
    hnsw: HnswSettings = field(default_factory=HnswSettings)
    count: int = 0
    created_at: str = ""
    is_complete: bool = False
    format_version: int = FORMAT_VERSION
    collection: str = ""  # on a server; the embedded engine keeps its files beside the manifest
    changes: str = ""  # which waiting changes were brought in last

    @property
    def short_dim(self) -> int:
        """The length of the short vectors this generation is searched in, 0 where it has none."""
        return self.hnsw.short_dim(self.dim)

    def check(self, *, model_version: str, recipe_version: str, dim: int | None = None) -> None:
        """Raise IndexUnavailable naming the first thing in which this generation is not what is wanted."""
        if not self.is_complete:
            raise IndexUnavailable(f"index generation {self.name} was not finished; {REINDEX}")
        self._compare("format version", self.format_version, FORMAT_VERSION)
        self._compare("model version", self.model_version, model_version)
        self._compare("recipe version", self.recipe_version, recipe_version)
        self._compare("vectors of dimension", self.dim, self.dim if dim is None else dim)

    def _compare(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            raise IndexUnavailable(
                f"index generation {self.name} was built with {what} {found!r}, this site uses {wanted!r}; {REINDEX}"
            )

    def write(self, folder: Path) -> None:
        write_atomically(folder / MANIFEST, json.dumps(asdict(self), indent=2))

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Return the manifest in `folder`; raises IndexUnavailable when there is none that can be read."""
        try:
            return cls.from_dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise IndexUnavailable(
                f"index generation {folder.name} has no readable manifest ({error}); {REINDEX}"
            ) from error

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Manifest:
        """Return the manifest that `asdict` gave; raises IndexUnavailable for one of another format."""
        try:
            found = content["format_version"]
            if found != FORMAT_VERSION:
                cls(str(content.get("name")), "", "", 0)._compare("format version", found, FORMAT_VERSION)
            return cls(**(content | {"hnsw": HnswSettings(**content["hnsw"])}))
        except (TypeError, KeyError, AttributeError) as error:
            raise IndexUnavailable(f"an index generation's manifest is damaged ({error!r}); {REINDEX}") from error


def start_manifest(manifest: Manifest) -> Manifest:
    """Return the manifest of a new generation, named for this moment, not yet complete."""
    now = datetime.now(UTC)
    created_at = now.isoformat(timespec="seconds")
    return replace(manifest, name=now.strftime(NAME), created_at=created_at, count=0, is_complete=False)


class GenerationStore:
    """The folder of generations. A pointer file per model version names the one that serves: never half an index.

    A writer holds `write_lock`, fills the folder that `begin` gives, writes its manifest as complete and
    calls `publish`. Readers open what `current` names and look again before each search.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._seen: dict[str, tuple[tuple[int, int], Path]] = {}

    def current(self, version: str) -> Path | None:
        """Return the folder that serves this model version, None when none does. Costs one stat."""
        pointer, seen = self._pointer(version), self._seen.get(version)
        try:
            stat = pointer.stat()
            stamp = (stat.st_mtime_ns, stat.st_ino)
            if seen is None or seen[0] != stamp:
                seen = self._seen[version] = (stamp, self.root / pointer.read_text().strip())
        except FileNotFoundError:
            return None
        return seen[1]

    def served(self) -> list[str]:
        """Return the model versions that have a generation serving."""
        return sorted(path.name.removeprefix(POINTER) for path in self.root.glob(f"{POINTER}*"))

    def _pointer(self, version: str) -> Path:
        return self.root / f"{POINTER}{version}"

    def begin(self, manifest: Manifest, *, copy_of: Path | None = None) -> tuple[Path, Manifest]:
        """Return a new folder, empty or a copy of another generation's, and its manifest, not complete."""
        started = start_manifest(manifest)
        folder = self.root / started.name
        if copy_of:
            # An engine that opens the generation meanwhile rewrites its own settings through such folders.
            copy_folder(copy_of, folder, leave_out=(MANIFEST, ".*"))
        else:
            folder.mkdir(parents=True)
        started.write(folder)
        return folder, started

    def publish(self, folder: Path) -> None:
        """Let this generation, new or old, serve its model version; raises IndexUnavailable if it is not finished."""
        manifest = Manifest.read(folder)
        if not manifest.is_complete:
            raise IndexUnavailable(f"index generation {folder.name} was not finished and cannot go live")
        sync_folder(folder)
        self._retire(manifest.model_version)
        write_atomically(self._pointer(manifest.model_version), folder.name)

    def withdraw(self, version: str) -> None:
        """Let no generation serve this model version any more; without one nothing happens."""
        self._retire(version)
        self._pointer(version).unlink(missing_ok=True)

    def _retire(self, version: str) -> None:
        if (retired := self.current(version)) and retired.exists():
            os.utime(retired)  # prune counts from here

    def rollback(self, version: str) -> Path:
        """Let the newest finished generation before the one that serves `version` do so; return its folder."""
        live = self.current(version) or self.root
        older = [folder for folder in self._finished(version) if folder < live]
        if not older:
            raise IndexUnavailable(f"no finished index generation is older than {live.name}; {REINDEX}")
        self.publish(older[-1])
        return older[-1]

    def _finished(self, version: str) -> list[Path]:
        return [folder for folder in self.folders() if is_finished(folder, version)]

    def folders(self) -> list[Path]:
        """Return all generations, finished or not, oldest first."""
        return sorted(path for path in self.root.glob(f"{PREFIX}*") if path.is_dir())

    def prune(self, keep: int = 2) -> list[str]:
        """Remove all but what serves and the newest `keep` finished of each version served; return the names removed.

        A generation retired less than a minute ago stays, as does an unfinished one for a day.
        Call it under `write_lock`.
        """
        kept: set[Path | None] = set()
        for version in self.served():
            finished = self._finished(version)
            kept |= {self.current(version), *finished[len(finished) - keep :]}
        removed = [folder for folder in self.folders() if folder not in kept and _is_over(folder)]
        for folder in removed:
            shutil.rmtree(folder)
        return [folder.name for folder in removed]

    @contextmanager
    def write_lock(self, *, is_waiting: bool = True) -> Iterator[None]:
        """Hold the right to write generations; one process has it at a time, and loses it when it dies.

        Raises IndexUnavailable if another has it and `is_waiting` is false. Not to be taken twice.
        """
        try:
            with hold_lock(self.root / LOCK, is_waiting=is_waiting):
                yield
        except LockHeldError as error:
            raise IndexUnavailable(f"{error} is writing the index; try again when it is done") from None


def is_finished(folder: Path, version: str | None = None) -> bool:
    """Return whether the generation is complete, and of this model version if one is named."""
    try:
        manifest = Manifest.read(folder)
    except IndexUnavailable:
        return False
    return manifest.is_complete and version in (None, manifest.model_version)


def _is_over(folder: Path) -> bool:
    grace_s = RETIRED_GRACE_S if is_finished(folder) else UNFINISHED_GRACE_S
    return time.time() - folder.stat().st_mtime > grace_s
