"""Training on a tiny model: it learns, it can be stopped and goes on, and it says why it cannot."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from retrieval.engine.text import Analyzer
from retrieval.learning.adapters import load_two_tower
from retrieval.learning.examples import LabelledQuery
from retrieval.learning.negatives import MiningSettings
from retrieval.learning.rounds import train_in_rounds
from retrieval.learning.rows import build_training_set
from retrieval.learning.towers import load_towers
from retrieval.learning.training import Step, TrainingCancelledError, TrainingError
from retrieval.learning.two_tower import TwoTowerSettings, train
from tests.fakes import make_document
from tests.tiny_models import save_two_tower

TEXTS = {1: "red mug of steel", 2: "blue kettle", 3: "green sofa", 4: "travel cup", 5: "steel kettle", 6: "blue sofa"}
ASKED = {"red": [1], "kettle": [2, 5], "sofa": [3, 6], "travel": [4], "mug": [1], "blue": [2, 6], "steel": [1, 5],
         "green": [3], "cup": [4]}  # fmt: skip
QUERIES = [
    LabelledQuery(text, {product_id: 3.0 if product_id in right else 0.0 for product_id in TEXTS}, "test")
    for text, right in ASKED.items()
]
POSITIVES_ONLY = [replace(query, grades=dict.fromkeys(query.positives, 3.0)) for query in QUERIES]
DOCUMENTS = {product_id: make_document(product_id, title) for product_id, title in TEXTS.items()}
SETTINGS = TwoTowerSettings(
    rows=48, rounds=2, batch_size=8, mini_batch_tokens=64, learning_rate=1e-2, dims=(32, 16), max_tokens=16,
    checkpoint_steps=4, lora_rank=8,
)  # fmt: skip


class KilledError(Exception):
    """As sudden as a kill: nothing is saved any more."""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(save_two_tower(tmp_path_factory.mktemp("models") / "tiny"))


def learn(base, folder, settings=SETTINGS, **hooks):
    learned = build_training_set(QUERIES, TEXTS, {}, count=settings.rows, seed=settings.seed)
    return train(base, learned, settings, folder, **hooks)


def learn_in_rounds(base, folder, settings=SETTINGS, **hooks):
    mining = MiningSettings(count=2, depth=4)
    return train_in_rounds(
        base, POSITIVES_ONLY, DOCUMENTS, settings, folder, texts=TEXTS, mining=mining, analyzer=Analyzer(), **hooks
    )


def kill_after(number: int):
    def on_step(step: Step) -> None:
        if step.number == number:
            raise KilledError

    return on_step


def count_right(name) -> int:
    products = load_two_tower(name).encode(list(TEXTS.values()), normalize_embeddings=True)
    queries = load_two_tower(name, side="query").encode(list(ASKED), normalize_embeddings=True)
    best = (queries @ products.T).argmax(axis=1)
    return sum(list(TEXTS)[at] in right for at, right in zip(best, ASKED.values(), strict=True))


def read_weights(folder: Path) -> dict[str, np.ndarray]:
    return {
        f"{path.parent.relative_to(folder)} {name}": weight.astype(np.float32)
        for path in sorted(folder.rglob("*.safetensors"))
        for name, weight in load_file(path).items()
    }


def assert_same_weights(folder: Path, other: Path) -> None:
    found, expected = read_weights(folder), read_weights(other)
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        np.testing.assert_array_equal(found[name], weight, err_msg=name)


def test_it_learns_what_answers_what(base, tmp_path):
    steps: list[Step] = []
    found = learn(base, tmp_path, on_step=steps.append)
    assert count_right(found) > count_right(base)
    assert [step.number for step in steps] == list(range(1, 13))
    assert steps[-1].total == 12
    assert np.mean([step.loss for step in steps[-3:]]) < np.mean([step.loss for step in steps[:3]])


def test_an_adapter_is_small_and_names_its_base(base, tmp_path):
    found = learn(base, tmp_path)
    assert found == tmp_path / "adapter"
    assert json.loads((found / "adapter_config.json").read_text())["base_model_name_or_path"] == base
    weights = load_file(found / "adapter_model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {np.dtype(np.float16)}
    assert all("lora_" in name and ".encoder." in name for name in weights)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "training.json"]


@pytest.mark.parametrize(("lora_rank", "parts"), [(8, ["adapter", "query_adapter"]), (0, ["model", "query_model"])])
def test_untied_towers_learn_weights_of_their_own(base, tmp_path, lora_rank, parts):
    found = learn(base, tmp_path, replace(SETTINGS, towers="untied", lora_rank=lora_rank))
    assert found == tmp_path / parts[0]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == parts
    assert count_right(tmp_path) > count_right(base)
    product, query = (read_weights(tmp_path / part) for part in parts)
    assert product.keys() == query.keys()
    assert any(not np.array_equal(product[name], query[name]) for name in product)


def test_tied_towers_do_not_drop_the_query_tower_of_an_untied_base(base, tmp_path):
    untied = replace(SETTINGS, towers="untied")
    learn(base, tmp_path / "untied", untied)
    with pytest.raises(TrainingError, match=r"has a tower of its own for queries.* --towers untied, or name another"):
        load_towers(str(tmp_path / "untied"), SETTINGS)
    assert load_towers(str(tmp_path / "untied"), untied).is_untied


def test_all_weights_learn_but_those_of_the_words(base, tmp_path):
    found = learn(base, tmp_path, replace(SETTINGS, lora_rank=0))
    before, after = load_two_tower(base).state_dict(), load_two_tower(found).state_dict()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert not [name for name in changed if "word_embeddings" in name]
    assert any("query.weight" in name for name in changed)
    assert count_right(found) > count_right(base)


@pytest.mark.parametrize("settings", [SETTINGS, replace(SETTINGS, towers="untied", lora_rank=0)])
def test_a_killed_training_goes_on_to_the_same_weights(base, tmp_path, settings):
    learn(base, tmp_path / "whole", settings)
    with pytest.raises(KilledError):
        learn(base, tmp_path / "cut", settings, on_step=kill_after(10))
    again: list[Step] = []
    learn(base, tmp_path / "cut", settings, on_step=again.append)
    assert again[0].number == 9  # the last checkpoint was at 8
    assert_same_weights(tmp_path / "cut", tmp_path / "whole")


def test_a_cancelled_training_goes_on_where_it_was(base, tmp_path):
    learn(base, tmp_path / "whole")
    steps: list[Step] = []
    with pytest.raises(TrainingCancelledError, match="cancelled at step 7 of 12"):
        learn(base, tmp_path / "cut", on_step=steps.append, is_cancelled=lambda: len(steps) >= 6)
    assert not (tmp_path / "cut" / "adapter").exists()
    again: list[Step] = []
    learn(base, tmp_path / "cut", on_step=again.append)
    assert again[0].number == 8
    assert_same_weights(tmp_path / "cut", tmp_path / "whole")


def test_a_finished_training_is_not_done_again(base, tmp_path):
    found = learn(base, tmp_path)
    steps: list[Step] = []
    assert learn(base, tmp_path, on_step=steps.append) == found
    assert not steps


def test_half_a_checkpoint_is_passed_over(base, tmp_path):
    learn(base, tmp_path / "whole")
    with pytest.raises(KilledError):
        learn(base, tmp_path / "cut", on_step=kill_after(6))
    half = tmp_path / "cut" / "checkpoints" / "checkpoint-5"
    half.mkdir()
    (half / "trainer_state.json").write_text('{"global_step": 5')
    learn(base, tmp_path / "cut")
    assert_same_weights(tmp_path / "cut", tmp_path / "whole")


def test_a_full_disk_is_told_with_the_cure_and_the_last_checkpoint_stays(base, tmp_path):
    def fill_disk(step: Step) -> None:
        if step.number == 7:
            (tmp_path / "checkpoints" / "checkpoint-8").mkdir()
            (tmp_path / "checkpoints" / "checkpoint-8" / "optimizer.pt").symlink_to("/dev/full")

    with pytest.raises(TrainingError, match=r"no space is left on the disk of .*: free some and start"):
        learn(base, tmp_path, on_step=fill_disk)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["checkpoint-6"]  # the first round's end
    steps: list[Step] = []
    learn(base, tmp_path, on_step=steps.append)
    assert steps[0].number == 7


def test_a_checkpoint_that_would_not_fit_is_not_begun(base, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(TrainingError, match=r"no space is left on the disk of .*checkpoints: free some"):
        learn(base, tmp_path)
    assert not (tmp_path / "checkpoints" / "checkpoint-4").exists()


def test_a_diverging_training_stops_with_the_reason(base, tmp_path):
    with pytest.raises(TrainingError, match="lower the learning rate"):
        learn(base, tmp_path, replace(SETTINGS, learning_rate=1e30))
    assert not (tmp_path / "adapter").exists()


def test_a_folder_holds_one_training(base, tmp_path):
    learn(base, tmp_path)
    with pytest.raises(TrainingError, match="holds a training with other data or settings: choose another folder"):
        learn(base, tmp_path, replace(SETTINGS, seed=2))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"towers": "three"}, "unknown towers 'three', expected one of: tied, untied"),
        ({"rounds": 0}, "rounds=0, expected 1 or more"),
        ({"lora_rank": -1}, "lora_rank=-1, expected 0 or more"),
        ({"temperature": 0.0}, "temperature=0.0, expected more than 0"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(TrainingError, match=message):
        replace(SETTINGS, **wrong)


def test_too_few_queries_are_refused_with_the_cure():
    with pytest.raises(TrainingError, match=r"3 of 4 queries .* at least 8 are needed: add ratings"):
        build_training_set([*QUERIES[:3], LabelledQuery("lamp", {6: 3}, "test")], TEXTS, {}, count=10, seed=1)


def test_rows_hold_a_right_and_a_wrong_product_and_mined_ones_are_preferred():
    queries = [*QUERIES, LabelledQuery("lamp", {6: 3, 5: 1}, "test"), LabelledQuery("vase", {3: 3, 2: 2, 1: 0}, "test")]
    learned = build_training_set(queries, TEXTS, {"lamp": [4]}, count=800, seed=1)
    rows = learned.rows
    assert learned.queries[-2:] == ["lamp", "vase"]
    for query, (right, wrong) in zip(rows.queries, rows.products, strict=True):
        assert right in rows.spared[query]
        assert wrong not in rows.spared[query]
    drawn = {(learned.queries[query], *pair) for query, pair in zip(rows.queries, rows.products.tolist(), strict=True)}
    assert {row for row in drawn if row[0] in ("lamp", "vase")} == {("lamp", 6, 4), ("vase", 3, 1)}


def test_products_without_a_text_are_not_learned_from():
    queries = [*QUERIES, LabelledQuery("lamp", {9: 3, 6: 0}, "test")]
    assert "lamp" not in build_training_set(queries, TEXTS, {}, count=10, seed=1).queries


@pytest.mark.parametrize("lora_rank", [8, 0])
def test_half_of_what_was_learned_lies_half_way_to_the_base(base, tmp_path, lora_rank):
    settings = replace(SETTINGS, lora_rank=lora_rank)
    whole, half = (learn(base, tmp_path / str(share), replace(settings, strength=share)) for share in (1.0, 0.5))
    begun, all_of_it, some = (dict(load_two_tower(folder).named_parameters()) for folder in (base, whole, half))
    moved = [name for name, weight in begun.items() if not torch.equal(weight, all_of_it[name])]
    assert moved
    for name in moved:
        torch.testing.assert_close(some[name], (begun[name] + all_of_it[name]) / 2, rtol=1e-3, atol=1e-4)


def test_a_strength_that_is_no_share_is_refused():
    with pytest.raises(TrainingError, match=r"strength=1\.5, expected more than 0, at most 1"):
        replace(SETTINGS, strength=1.5)


def test_negatives_are_mined_anew_in_each_round(base, tmp_path):
    phases: list[str] = []
    steps: list[Step] = []
    learn_in_rounds(base, tmp_path, on_phase=phases.append, on_step=steps.append)
    assert phases == [
        "round 1 of 2: reading the products' words",
        "round 1 of 2: embedding 6 products to find hard negatives",
        "round 1 of 2: finding hard negatives of 9 queries",
        "round 1 of 2: learning",
        "round 2 of 2: embedding 6 products to find hard negatives",
        "round 2 of 2: finding hard negatives of 9 queries",
        "round 2 of 2: learning",
    ]
    assert [step.number for step in steps] == list(range(1, 13))
    assert {step.total for step in steps} == {12}
    first, second = (json.loads((tmp_path / f"negatives-{number}.json").read_text()) for number in (1, 2))
    assert first.keys() == second.keys() == ASKED.keys()
    assert first != second
    assert count_right(tmp_path) > count_right(base)


def test_the_first_rounds_vectors_may_come_from_elsewhere(base, tmp_path):
    told: list[list[int]] = []

    def embed(product_ids, on_progress):
        told.append(list(product_ids))
        on_progress(len(product_ids))
        towers = load_towers(base, SETTINGS)
        return towers.encode_products([TEXTS[product_id] for product_id in product_ids])

    learn_in_rounds(base, tmp_path / "given", embed_first=embed)
    learn_in_rounds(base, tmp_path / "own")
    assert told == [sorted(TEXTS)]  # once: later rounds see the towers as they have become
    assert_same_weights(tmp_path / "given", tmp_path / "own")


def test_it_is_told_how_much_of_each_phase_is_done(base, tmp_path):
    told: dict[str, list[tuple[int, int]]] = {}
    learn_in_rounds(
        base,
        tmp_path,
        teacher=WordTeacher(),
        on_phase=lambda phase: told.setdefault(phase, []),
        on_part=lambda done, total: list(told.values())[-1].append((done, total)),
    )
    queries = [(done, len(ASKED)) for done in range(len(ASKED))]
    assert told["round 1 of 2: learning what the teacher's scores mean"] == queries
    assert told["round 1 of 2: finding hard negatives of 9 queries"] == queries
    assert told["round 2 of 2: embedding 6 products to find hard negatives"] == [(6, 6)]
    (asked,) = (parts for phase, parts in told.items() if phase.startswith("round 1 of 2: asking the teacher"))
    assert [done for done, _ in asked] == list(range(asked[0][1]))


@pytest.mark.parametrize(("step", "resumed", "has_mined"), [(6, 7, False), (7, 7, True), (10, 9, True)])
def test_a_training_killed_in_a_round_goes_on_in_it(base, tmp_path, step, resumed, has_mined):
    learn_in_rounds(base, tmp_path / "whole")
    steps: list[Step] = []

    def kill_in_second_round(phase: str) -> None:
        if step == 6 and phase.startswith("round 2"):
            raise KilledError

    with pytest.raises(KilledError):
        learn_in_rounds(base, tmp_path / "cut", on_phase=kill_in_second_round, on_step=kill_after(step + (step == 6)))
    phases: list[str] = []
    learn_in_rounds(base, tmp_path / "cut", on_phase=phases.append, on_step=steps.append)
    assert steps[0].number == resumed
    assert (phases == ["round 2 of 2: learning"]) == has_mined
    assert_same_weights(tmp_path / "cut", tmp_path / "whole")


class WordTeacher:
    """Gives `worth` for each word of the query that the text has."""

    def __init__(self, worth: float = 5.0) -> None:
        self.worth, self.asked = worth, list[str]()

    def score(self, query, documents):
        self.asked.append(query)
        return np.array([self.worth * sum(word in text for word in query.split()) for _, text in documents], np.float32)


def test_a_teachers_margins_are_asked_once_and_learned_from(base, tmp_path):
    teacher = WordTeacher()
    learn_in_rounds(base, tmp_path / "taught", teacher=teacher)
    margins = np.load(tmp_path / "taught" / "margins-1.npy")
    assert margins.shape == (48,)
    assert len(set(margins.tolist())) == 1  # what answers has the word, what was mined and kept has not
    assert margins[0] > 2.0  # in log-odds
    alone = learn_in_rounds(base, tmp_path / "alone", replace(SETTINGS, distillation=0.0), teacher=WordTeacher())
    assert not (alone.parent / "margins-1.npy").exists()
    asked = len(teacher.asked)
    learn_in_rounds(base, tmp_path / "taught", teacher=teacher)
    assert len(teacher.asked) == asked


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_a_teacher_means_the_same_whatever_its_scale(base, tmp_path, scale):
    learn_in_rounds(base, tmp_path / "plain", teacher=WordTeacher())
    learn_in_rounds(base, tmp_path / "scaled", teacher=WordTeacher(5.0 * scale))
    for name in ("negatives-1.json", "negatives-2.json"):
        assert (tmp_path / "plain" / name).read_text() == (tmp_path / "scaled" / name).read_text()
    plain, scaled = (np.load(tmp_path / name / "margins-1.npy") for name in ("plain", "scaled"))
    np.testing.assert_allclose(plain, scaled, rtol=1e-3)


def test_a_teacher_that_tells_nothing_apart_is_left_out(base, tmp_path):
    phases: list[str] = []
    learn_in_rounds(base, tmp_path / "taught", teacher=WordTeacher(0.0), on_phase=phases.append)
    assert "round 1 of 2: the teacher cannot tell right from wrong here: going on without it" in phases
    learn_in_rounds(base, tmp_path / "alone")
    assert_same_weights(tmp_path / "taught", tmp_path / "alone")


def test_mining_stops_when_cancelled(base, tmp_path):
    with pytest.raises(TrainingCancelledError, match="cancelled while hard negatives were looked for"):
        learn_in_rounds(base, tmp_path, is_cancelled=lambda: True)


def test_compiling_without_a_compiler_is_refused_with_the_cure(base, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(TrainingError, match=r"install g\+\+, or train without compile"):
        learn(base, tmp_path / "run", replace(SETTINGS, compile=True))
