"""Training of the two towers in rounds: before each, negatives are mined anew with the weights as they are then."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from retrieval.engine.files import write_atomically
from retrieval.engine.text import Analyzer, reader_input
from retrieval.engine.types import Document, Vectors
from retrieval.learning.calibration import CalibratedTeacher, calibrate
from retrieval.learning.examples import LabelledQuery
from retrieval.learning.negatives import Corpus, MiningSettings, Teacher, build_corpus, mine
from retrieval.learning.rows import TrainingSet, build_training_set, find_usable
from retrieval.learning.towers import Towers
from retrieval.learning.training import Step, TrainingCancelledError
from retrieval.learning.two_tower import TwoTowerSettings, claim_training, train_with

Floats = npt.NDArray[np.float32]
Embed = Callable[[Sequence[int], Callable[[int], None]], Vectors]  # of products by id, telling how many are done


def train_in_rounds(
    base: str,
    queries: Sequence[LabelledQuery],
    documents: Mapping[int, Document],
    settings: TwoTowerSettings,
    folder: Path,
    *,
    texts: Mapping[int, str],
    mining: MiningSettings | None = None,
    teacher: Teacher | None = None,
    analyzer: Analyzer | None = None,
    embed_first: Embed | None = None,
    on_step: Callable[[Step], None] = lambda step: None,
    on_phase: Callable[[str], None] = lambda phase: None,
    on_part: Callable[[int, int], None] = lambda done, total: None,
    on_round: Callable[[int, Towers], None] = lambda number, towers: None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Path:
    """Train towers that start as model `base` on graded queries and return the product tower's folder.

    `documents` and `texts`, by product id, are what may be a negative, and what the product tower reads of it.
    `embed_first` gives vectors of products as `base` makes them, where there is a quicker way to them than the towers.
    Steps are told of the whole training, `on_round` before each round, from 0, of the towers as they are; `on_part` is
    told how much of a phase is done. Called again with the same arguments after a kill, it goes on in the round it was
    in. Where all is and what it raises: as `two_tower.train`.
    """
    find_usable(queries, texts, are_mined=True)
    mining = mining or MiningSettings()
    claim_training(folder, base, settings, hash_training(queries, texts, mining))
    teaching = Rounds(
        queries,
        documents,
        texts,
        settings,
        mining,
        folder,
        teacher,
        analyzer or Analyzer(),
        embed_first,
        on_phase,
        on_part,
        on_round,
        is_cancelled,
    )
    return train_with(base, teaching.teach, settings, folder, on_step=on_step, is_cancelled=is_cancelled)


def hash_training(queries: Sequence[LabelledQuery], texts: Mapping[int, str], mining: MiningSettings) -> str:
    """Return what changes with the queries, their grades and weights, the texts and how negatives are mined."""
    facts = (
        [(query.text, sorted(query.grades.items()), query.weight, sorted(query.unsure)) for query in queries],
        sorted(texts.items()),
        asdict(mining),
    )
    return hashlib.blake2b(repr(facts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


@dataclass
class Rounds:
    """Gives each round its rows. What was mined for it is kept in the training's folder, round by round."""

    queries: Sequence[LabelledQuery]
    documents: Mapping[int, Document]
    texts: Mapping[int, str]
    settings: TwoTowerSettings
    mining: MiningSettings
    folder: Path
    teacher: Teacher | None
    analyzer: Analyzer
    embed_first: Embed | None
    on_phase: Callable[[str], None]
    on_part: Callable[[int, int], None]
    on_round: Callable[[int, Towers], None]
    is_cancelled: Callable[[], bool]
    _corpus: Corpus | None = field(default=None, init=False)

    def teach(self, number: int, towers: Towers) -> TrainingSet:
        """Return what is learned in round `number`, from 0, mined with the towers as they are now."""
        self.on_round(number, towers)
        seed = self.settings.seed + 1000 * number
        negatives = self._read(number) or self._mine(number, towers, seed)
        count = self.settings.round_steps * self.settings.batch_size
        learned = build_training_set(self.queries, self.texts, negatives, count=count, seed=seed)
        if self.settings.distillation:
            learned = replace(learned, rows=replace(learned.rows, margins=self._find_margins(number, learned)))
        self._tell(number, "learning")
        return learned

    def _find_teacher(self, number: int) -> Teacher | None:
        """Return the teacher with log-odds for scores; one that cannot tell right from wrong here teaches nothing."""
        if self.teacher is not None and not isinstance(self.teacher, CalibratedTeacher):
            self._tell(number, "learning what the teacher's scores mean")
            queries = find_usable(self.queries, self.documents, are_mined=True)
            self.teacher = calibrate(
                self.teacher, queries, self.documents, seed=self.settings.seed, on_query=self._go_on
            )
            if self.teacher is None:
                self._tell(number, "the teacher cannot tell right from wrong here: going on without it")
        return self.teacher

    def _find_margins(self, number: int, learned: TrainingSet) -> Floats | None:
        """Return the teacher's margins of the rows, kept so that it is asked once; None without a teacher."""
        path = self.folder / f"margins-{number + 1}.npy"
        if not path.is_file():
            if (teacher := self._find_teacher(number)) is None:
                return None
            self._tell(number, f"asking the teacher about {len(learned.rows):,} pairs")
            margins = measure_margins(learned, self.documents, teacher, self._go_on)
            with (unfinished := path.with_suffix(".tmp")).open("wb") as file:
                np.save(file, margins)
            unfinished.replace(path)
        found: Floats = np.load(path)
        return found

    def _mine(self, number: int, towers: Towers, seed: int) -> dict[str, list[int]]:
        teacher, corpus = self._find_teacher(number), self._find_corpus(number)
        self._tell(number, f"embedding {len(corpus):,} products to find hard negatives")
        corpus = corpus.with_vectors(self._embed(number, corpus.product_ids.tolist(), towers))
        queries = find_usable(self.queries, self.texts, are_mined=True)
        self._tell(number, f"finding hard negatives of {len(queries):,} queries")
        mining = replace(self.mining, seed=self.mining.seed + seed)
        negatives = mine(queries, corpus, towers, teacher, mining, on_query=self._count(len(queries)))
        write_atomically(self._path(number), json.dumps(negatives))
        return negatives

    def _embed(self, number: int, product_ids: list[int], towers: Towers) -> Vectors:
        if number == 0 and self.embed_first:
            return self.embed_first(product_ids, self._count(len(product_ids)))
        texts = [self.texts[product_id] for product_id in product_ids]
        return towers.encode_products(texts, self._count(len(texts)))

    def _find_corpus(self, number: int) -> Corpus:
        """Return the products negatives are found among, the same in every round."""
        if self._corpus is None:
            self._tell(number, "reading the products' words")
            product_ids = sorted(self.documents.keys() & self.texts.keys())
            if len(product_ids) > self.mining.pool:
                product_ids = random.Random(f"pool-{self.mining.seed}").sample(product_ids, self.mining.pool)
            self._corpus = build_corpus([self.documents[product_id] for product_id in product_ids], self.analyzer)
        return self._corpus

    def _read(self, number: int) -> dict[str, list[int]]:
        path = self._path(number)
        negatives: dict[str, list[int]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return negatives

    def _path(self, number: int) -> Path:
        return self.folder / f"negatives-{number + 1}.json"

    def _tell(self, number: int, phase: str) -> None:
        self.on_phase(f"round {number + 1} of {self.settings.rounds}: {phase}")

    def _count(self, total: int) -> Callable[[int], None]:
        """Return what is told how many of `total` are done."""
        return lambda done: self._go_on(done, total)

    def _go_on(self, done: int, total: int) -> None:
        """Tell how much of the phase is done; raises TrainingCancelledError when the training is to end."""
        self.on_part(done, total)
        if self.is_cancelled():
            raise TrainingCancelledError("cancelled while hard negatives were looked for")


def measure_margins(
    learned: TrainingSet, documents: Mapping[int, Document], teacher: Teacher, on_query: Callable[[int, int], None]
) -> Floats:
    """Return how far the teacher's score of each row's positive lies above that of its negative.

    `on_query` is told how many queries are done, and of how many.
    """
    margins = np.zeros(len(learned.rows), np.float32)
    queries = np.unique(learned.rows.queries).tolist()
    for done, query in enumerate(queries):
        on_query(done, len(queries))
        places = np.flatnonzero(learned.rows.queries == query)
        products, found = np.unique(learned.rows.products[places], return_inverse=True)
        texts = [reader_input(documents[one]) for one in products.tolist()]
        scores = teacher.score(learned.queries[query], texts)[found.reshape(-1, 2)]
        margins[places] = scores[:, 0] - scores[:, 1]
    return margins
