"""Trainings of tiny models from sources to verdict: they finish, stop, go on after a kill, and say why they failed."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval import finetuning, indexing, learners, live, training_files, training_runs
from retrieval.engine.files import hold_lock
from retrieval.evaluation.gate import HELD_OUT
from retrieval.evaluation.rating_files import Rating
from retrieval.finetuning import promote_result, run_training
from retrieval.judgement_files import import_ratings
from retrieval.judging import CODES, OLD, PART, SEARCHED, Court, convene, decide
from retrieval.learners import TwoTowerLearner
from retrieval.learning.cross_encoder import CrossEncoderSettings
from retrieval.learning.examples import LabelledQuery
from retrieval.learning.export import export_encoder
from retrieval.learning.versions import read_card
from retrieval.lessons import Lesson
from retrieval.live import MODELS_DIR, TWO_TOWER, find_live
from retrieval.models import ModelVersion, PastQuery, TrainingRun
from retrieval.registry import folder_of
from retrieval.training_data import Amounts, collect
from retrieval.training_progress import Recorder
from retrieval.training_settings import TrainingRefused
from retrieval.training_sources import CATALOGUE
from tests.factories import make_product
from tests.tiny_models import save_cross_encoder, save_two_tower

PEFT_SAYS = "ignore:.*is_gradient_checkpointing:FutureWarning"
NOUNS, COLOURS = ["mug", "kettle", "sofa", "cup"], ["red", "blue", "green", "steel"]
TWO_TOWER_SETTINGS = {
    "rounds": 2, "steps": 3, "batch_size": 8, "max_tokens": 16, "lora_rank": 4, "catalogue_queries": 60,
}  # fmt: skip
CROSS_ENCODER_SETTINGS = {"steps": 3, "lists": 2, "list_size": 4, "lora_rank": 4, "rerank_depth": 5}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    name = str(save_two_tower(tmp_path_factory.mktemp("towers") / "tiny"))
    export_encoder(name, MODELS_DIR)
    return name


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> str:
    return str(save_cross_encoder(tmp_path_factory.mktemp("readers") / "reader"))


@pytest.fixture
def learning_shop(db, tmp_path: Path, settings, base) -> Path:
    """Sixteen products, each rated for the query that names it, and a tiny live model."""
    settings.DATA_DIR = tmp_path
    settings.SEARCHSITE = settings.SEARCHSITE | {"MODEL": base, "RERANKER": ""}
    for noun in NOUNS:
        for colour in COLOURS:
            make_product(f"{colour} {noun}", sku=f"{noun}-{colour}", category=f"Home > {noun}")
    ratings = [
        Rating(text.format(noun=noun, colour=colour), f"{noun}-{other}", 3.0 if other == colour else 0.0)
        for noun in NOUNS for colour in COLOURS for other in COLOURS
        for text in ("{colour} {noun}", "{noun} of {colour} for travel")
    ]  # fmt: skip
    import_ratings("shop", ratings)
    return tmp_path


def begin(kind: str = "two-tower", **settings: Any) -> TrainingRun:
    defaults = TWO_TOWER_SETTINGS if kind == "two-tower" else CROSS_ENCODER_SETTINGS
    run = training_runs.create_training(kind, [("judgements:shop", 1.0)], defaults | settings)
    claimed = training_runs.claim(run.pk)
    assert claimed
    return claimed


def go_on(run: TrainingRun, **hooks: Any) -> TrainingRun:
    claimed = training_runs.claim(training_runs.reopen(run).pk)
    assert claimed
    return run_training(claimed, **hooks)


def stop_at_step(run: TrainingRun, step: int) -> Any:
    return lambda: run.steps_done >= step


@pytest.mark.parametrize(("chosen", "towers"), [({}, "untied"), ({"towers": "tied"}, "tied")])
def test_towers_are_as_the_base_has_them_unless_chosen(learning_shop, base, tmp_path, chosen, towers):
    untied = tmp_path / "untied"
    for part in ("model", "query_model"):
        shutil.copytree(base, untied / part)
    run = begin(base=str(untied), **chosen)
    lesson = Lesson(run, collect([("judgements:shop", 1.0)]), tmp_path / "work", Recorder(run))
    assert TwoTowerLearner(lesson).settings.towers == towers
    run.settings["base"] = base
    assert TwoTowerLearner(lesson).settings.towers == "tied"


def test_of_made_queries_alone_half_is_kept(learning_shop, tmp_path):
    for sources, strength in (([("catalogue", 1.0)], 0.5), ([("catalogue", 1.0), ("judgements:shop", 2.0)], 1.0)):
        run = training_runs.create_training("two-tower", sources, TWO_TOWER_SETTINGS)
        lesson = Lesson(run, collect([("judgements:shop", 1.0)]), tmp_path / "work", Recorder(run))
        assert TwoTowerLearner(lesson).settings.strength == strength
    run.settings["strength"] = 0.8
    assert TwoTowerLearner(lesson).settings.strength == 0.8


def test_a_cross_encoders_curve_is_drawn_while_it_learns(learning_shop, reader, monkeypatch):
    monkeypatch.setattr(learners, "CrossEncoderSettings", partial(CrossEncoderSettings, checkpoint_steps=2))
    monkeypatch.setattr(finetuning, "CURVE_QUERIES", {"cross-encoder": 4})
    told: list[str] = []
    run = run_training(begin("cross-encoder", base=reader, steps=5), on_progress=lambda run: told.append(run.phase))
    assert (run.state, run.error) == ("finished", "")
    assert [step for step, _ in run.scores] == [0, 2, 4, 5]
    assert all(0 <= score <= 1 for _, score in run.scores)
    assert any(phase.startswith("measuring on 4 held-out queries") for phase in told)


def test_two_towers_are_trained_judged_and_registered(learning_shop):
    phases: list[str] = []
    run = run_training(begin(), on_progress=lambda run: phases.append(run.phase.partition(",")[0]))
    assert (run.state, run.error) == ("finished", "")
    run.refresh_from_db()
    version = run.result
    assert version is not None
    assert (version.kind, version.origin, version.dim) == ("two-tower", "trained", 32)
    assert version.name == f"two-tower-{run.pk}"
    assert (MODELS_DIR / version.exported / "model.json").is_file()
    assert version.verdict["sets"][0]["name"] == HELD_OUT
    assert {"nDCG@10", "nDCG@10 before", "queries", "loss"} <= version.metrics.keys()
    card = read_card(folder_of(version.name))
    assert card.metrics == version.metrics
    assert card.data_hash == version.data_hash
    assert "nDCG@10" in (folder_of(version.name) / "README.md").read_text()
    assert [step for step, _ in run.losses] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in run.scores] == [0, 3, 6]
    assert any("finding hard negatives" in phase for phase in phases)
    assert any(phase.startswith("judging") for phase in phases)
    assert not training_files.folder_of(run.pk).exists()
    assert find_live(TWO_TOWER).version != version.exported


def test_a_second_training_knows_its_parent(learning_shop):
    first = run_training(begin(rounds=1)).result
    assert first
    second = run_training(begin(rounds=1, base=first.name)).result
    assert second
    assert second.parent == first


@pytest.mark.filterwarnings(PEFT_SAYS)
def test_a_cross_encoder_is_trained_judged_and_registered(learning_shop, reader):
    run = run_training(begin("cross-encoder", base=reader))
    assert (run.state, run.error) == ("finished", "")
    version = run.result
    assert version
    card = read_card(folder_of(version.name))
    assert (card.rerank_depth, card.rerank_blend, version.dim) == (5, 0.5, 1)
    assert len(run.losses) == 3
    assert version.verdict["sets"][0]["queries"] > 0


@pytest.mark.filterwarnings(PEFT_SAYS)
def test_a_cross_encoder_s_training_goes_on_when_another_model_went_live(learning_shop, reader, settings, tmp_path):
    run = begin("cross-encoder", base=reader)
    run = run_training(run, is_cancelled=stop_at_step(run, 1))
    assert run.state == "cancelled"
    other = str(save_two_tower(tmp_path / "other", seed=7))
    export_encoder(other, MODELS_DIR)
    settings.SEARCHSITE = settings.SEARCHSITE | {"MODEL": other}
    run = go_on(run)
    assert (run.state, run.error) == ("finished", "")


@pytest.mark.filterwarnings(PEFT_SAYS)
def test_a_cross_encoder_learns_from_a_teacher(learning_shop, reader):
    run = run_training(begin("cross-encoder", base=reader, teacher=reader))
    assert (run.state, run.error) == ("finished", "")


@pytest.mark.filterwarnings(PEFT_SAYS)
def test_a_cross_encoder_is_averaged_with_those_of_other_seeds(learning_shop, reader):
    for name, seed in (("first", 1), ("second", 3)):
        run_training(begin("cross-encoder", base=reader, name=name, seed=seed))
    run = begin("cross-encoder", base=reader, average="first, second", seed=2)
    run = run_training(run, is_cancelled=stop_at_step(run, 2))
    assert run.state == "cancelled"
    run = go_on(run)
    assert (run.state, run.error) == ("finished", "")
    names = ModelVersion.objects.order_by("pk").values_list("name", flat=True)
    settings = [json.loads((folder_of(name) / "adapter" / "adapter_config.json").read_text()) for name in names]
    assert [one["r"] for one in settings] == [4, 4, 8]


@pytest.mark.parametrize(
    ("name", "model", "told"),
    [
        ("average", "nobody/knows", r"average='nobody/knows', expected a version or a folder"),
        ("average", "./x,/no/folder", r"average: there is no model folder './x'"),
        ("average", ",", r"average='', expected the names of versions, parted by commas"),
        ("average", "/no/folder", r"average: there is no model folder '/no/folder'"),
        ("teacher", "./none", r"teacher: there is no model folder './none'"),
        ("base", "~nobody/x", r"base: there is no model folder '~nobody/x'"),
    ],
)
def test_models_that_are_not_there_are_refused_before_anything_is_queued(learning_shop, name, model, told):
    with pytest.raises(TrainingRefused, match=told):
        begin("cross-encoder", **{name: model})
    assert not TrainingRun.objects.exists()


@pytest.mark.filterwarnings(PEFT_SAYS)
def test_what_cannot_be_averaged_fails_before_it_learns(learning_shop, reader):
    run = run_training(begin("cross-encoder", base=reader, average=reader))
    assert (run.state, run.steps_done) == ("failed", 0)
    assert "holds no adapter, and only adapters of the same base can be averaged" in run.error


def test_one_that_is_stopped_goes_on_where_it_was(learning_shop):
    run = begin()
    run = run_training(run, is_cancelled=stop_at_step(run, 4))
    assert run.state == "cancelled"
    assert 4 <= run.steps_done < 6
    assert not ModelVersion.objects.exists()
    assert training_files.folder_of(run.pk).is_dir()
    make_product("green lamp")  # what it learns from stays as it was collected
    run = go_on(run)
    assert (run.state, run.error) == ("finished", "")
    assert [step for step, _ in run.losses] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in run.scores] == [0, 3, 6]


def test_one_asked_to_stop_in_the_admin_stops(learning_shop):
    run = begin()
    training_runs.cancel(run)
    assert run_training(run).state == "cancelled"


def test_a_worker_that_ends_leaves_it_queued(learning_shop):
    run = begin()
    run = run_training(run, is_shutting_down=stop_at_step(run, 1))
    assert run.state == "queued"
    claimed = training_runs.claim(run.pk)
    assert claimed
    assert run_training(claimed).state == "finished"


def test_one_killed_while_it_is_judged_is_judged_again(learning_shop, monkeypatch):
    class Killed(BaseException):
        pass

    def die(*args: Any) -> None:
        raise Killed

    run = begin()
    with monkeypatch.context() as patch:
        patch.setattr(finetuning, "_judge", die)
        with pytest.raises(Killed):
            run_training(run)
    assert folder_of(f"two-tower-{run.pk}").is_dir()
    run.refresh_from_db()
    run = go_on(run)
    assert run.state == "finished"
    assert run.result
    assert run.result.name == f"two-tower-{run.pk}"


def test_a_diverging_one_stops_with_the_reason(learning_shop, monkeypatch):
    def explode(queries: Any, products: Any, batch: Any, **rest: Any) -> Any:
        return (queries.sum() + products.sum()) * float("nan")

    monkeypatch.setattr("retrieval.learning.two_tower.masked_infonce", explode)
    run = run_training(begin())
    assert run.state == "failed"
    assert "lower the learning rate" in run.error
    assert not ModelVersion.objects.exists()


@pytest.mark.parametrize(
    ("grades", "told"),
    [
        ([3.0, 3.0], "every product is graded 3, which tells no right from wrong"),
        ([3.0, 0.0], "queries have both a product that answers them"),
    ],
)
def test_what_nothing_can_be_learned_from_is_refused_with_the_cure(learning_shop, grades, told):
    ratings = [Rating("red mug", "mug-red", grades[0]), Rating("red mug", "mug-blue", grades[1])]
    ratings += [Rating("blue mug", "mug-blue", grades[0]), Rating("steel cup", "cup-steel", grades[0])]
    import_ratings("shop", ratings, replace=True)
    run = run_training(begin())
    assert run.state == "failed"
    assert told in run.error


def test_a_second_training_waits_for_the_first_and_begins_when_it_has_ended(learning_shop, monkeypatch):
    first = TrainingRun.objects.create(state="running", phase="learning")
    monkeypatch.setattr(finetuning, "WAIT_S", 0.01)
    told: list[tuple[str, int]] = []
    lock = ExitStack()
    lock.enter_context(hold_lock(learning_shop / "trainings" / finetuning.LOCK, is_waiting=False))
    second = begin(rounds=1, steps=1)

    def follow(run: TrainingRun) -> None:
        told.append((run.phase, run.steps_done))
        if len(told) == 5:
            training_runs.end(first, "finished")
            lock.close()

    run_training(second, on_progress=follow)
    assert set(told[:5]) == {(f"waits for training {first.pk}", 0)}
    phases = list(dict.fromkeys(phase for phase, _ in told if not phase.startswith("waits")))
    assert phases[:2] == ["exporting the models that serve", "collecting what to learn from"]
    assert (second.state, second.steps_done) == ("finished", 1)


def test_one_is_cancelled_while_it_collects(learning_shop):
    run, phases = begin(rounds=1, steps=1), [""]
    run = run_training(
        run,
        on_progress=lambda run: phases.append(run.phase),
        is_cancelled=lambda: phases[-1] == "collecting what to learn from: judgements:shop",
    )
    assert (run.state, run.steps_done) == ("cancelled", 0)
    assert not training_files.load_collected(training_files.folder_of(run.pk))


def test_one_that_waits_can_be_cancelled(learning_shop, monkeypatch):
    monkeypatch.setattr(finetuning, "WAIT_S", 0.01)
    with hold_lock(learning_shop / "trainings" / finetuning.LOCK, is_waiting=False):
        run = begin()
        training_runs.cancel(run)
        assert run_training(run).state == "cancelled"


def test_one_that_another_process_ended_meanwhile_is_left_as_it_is(learning_shop):
    run = begin()
    TrainingRun.objects.filter(pk=run.pk).update(state="finished", phase="")
    assert run_training(run).state == "finished"
    assert not ModelVersion.objects.exists()


def test_one_that_kills_its_processes_is_given_up(learning_shop):
    run = begin()
    for _ in range(training_runs.MOST_TRIES):
        training_files.count_try(run.pk)
    assert "may need more memory" in run_training(run).error


# --- the gate's material ------------------------------------------------------------------------------


def test_the_court_has_guard_sets_of_what_was_not_learned_from(learning_shop):
    import_ratings("other", [Rating("something to travel with", "cup-steel", 3.0), Rating("cup blue", "cup-blue", 3.0)])
    PastQuery.objects.record("something to travel with", 4, ["ada"])
    collected = collect([("judgements:shop", 1.0)])
    court = convene(collected, ["judgements:shop"], seed=1)
    assert [query.text for query in court.sets[OLD]] == ["something to travel with"]
    assert "cup-steel" in {query.text for query in court.sets[CODES]}
    trained = {query.text for query in collected.queries}
    assert trained.isdisjoint(query.text for query in court.sets[HELD_OUT])
    assert all(trained.isdisjoint(query.text for query in found) for name, found in court.sets.items() if name != CODES)


def test_codes_of_a_catalogue_that_was_not_learned_from_are_guarded(learning_shop):
    amounts = Amounts(sample_products=300, sample_queries=60)
    court = convene(collect([("sample", 1.0)], amounts=amounts), ["sample"], seed=1)
    assert "cup-steel" in {query.text for query in court.sets[CODES]}


def test_a_gain_is_to_be_shown_on_queries_that_people_asked(learning_shop):
    collected = collect([("judgements:shop", 1.0)])
    made = LabelledQuery("anything blue", collected.held_out[0].grades, CATALOGUE)
    mixed = replace(collected, held_out=[*collected.held_out, made])
    court = convene(mixed, ["judgements:shop", CATALOGUE], seed=1)
    assert {query.source for query in court.sets[HELD_OUT]} == {"judgements:shop"}
    assert court.sets[f"{PART}{CATALOGUE}"] == [made]
    assert f"{PART}judgements:shop" not in court.sets


def test_what_shoppers_searched_for_is_a_set_of_its_own(learning_shop):
    collected = collect([("judgements:shop", 1.0)])
    PastQuery.objects.record(collected.held_out[0].text, 4, ["ada"])
    court = convene(collected, ["judgements:shop"], seed=1)
    assert [query.text for query in court.sets[f"{PART}{SEARCHED}"]] == [collected.held_out[0].text]


def test_a_verdict_names_the_guards_that_there_were_none_of():
    court = Court(
        {HELD_OUT: [LabelledQuery(f"mug {number}", {1: 3.0}, "file:ratings.tsv") for number in range(40)]}, []
    )
    scores = {HELD_OUT: np.full(40, 0.5), CODES: np.full(20, 0.5)}
    assert decide(court, scores, scores).reason.endswith("; not measured: cold categories")


@pytest.mark.parametrize(
    ("source", "is_passed"), [("catalogue: brand", False), ("sample: made", False), ("file:ratings.tsv", True)]
)
def test_what_pleases_those_who_made_the_queries_alone_does_not_pass(source, is_passed):
    court = Court({HELD_OUT: [LabelledQuery(f"mug {number}", {1: 3.0}, source) for number in range(40)]}, [])
    verdict = decide(court, {HELD_OUT: np.full(40, 0.5)}, {HELD_OUT: np.full(40, 0.6)})
    assert verdict.is_passed is is_passed
    assert ("rate some queries, or have shoppers compare both" in verdict.reason) is not is_passed


# --- serving ------------------------------------------------------------------------------------------


def test_only_what_passed_is_promoted(shop, learning_shop, settings):
    settings.DATA_DIR = learning_shop
    indexing.rebuild()
    version = run_training(begin(rounds=1)).result
    assert version
    version.verdict = version.verdict | {"is_passed": False}
    assert not promote_result(version)
    version.verdict = version.verdict | {"is_passed": True, "champion": find_live(TWO_TOWER).version}
    version.save()
    assert promote_result(version)
    assert find_live(TWO_TOWER).version == version.exported
    assert json.loads((learning_shop / "models" / live.LIVE).read_text())
