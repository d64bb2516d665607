"""`manage.py models` and the admin's pages of model versions: the same doors to the same functions."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.urls import reverse
from kombu.exceptions import OperationalError

from retrieval import live, promotion, registry
from retrieval.engine.exported import ModelCard
from retrieval.engine.types import EngineError
from retrieval.learning import sources
from retrieval.learning.export import export_encoder, export_reranker
from retrieval.learning.versions import write_version
from retrieval.models import ModelVersion
from retrieval.serving import check_other
from retrieval.tasks import build_beside, serve_model
from tests.factories import make_product
from tests.retrieval.test_adapters import save_scorer_adapter
from tests.retrieval.test_registry import add
from tests.retrieval.test_versions import make_card
from tests.tiny_models import save_cross_encoder, save_two_tower

pytestmark = pytest.mark.django_db
JUDGE = make_card("judge-1", kind="cross-encoder", dim=1, rerank_depth=10, rerank_blend=0.5)


@pytest.fixture(autouse=True)
def folder(tmp_path, settings, monkeypatch):
    settings.DATA_DIR = tmp_path / "data"
    for module in (live, promotion):
        monkeypatch.setattr(module, "MODELS_DIR", tmp_path / "data" / "models")
    monkeypatch.setattr(sources, "BUILT_IN", tmp_path / "built_in")
    registry.models_dir().mkdir(parents=True)
    return tmp_path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A tiny two-tower model, the adapter of a tiny cross-encoder, and both exported."""
    folder = tmp_path_factory.mktemp("made")
    export_encoder(str(save_two_tower(folder / "towers")), folder / "models")
    source = save_cross_encoder(folder / "tiny")
    save_scorer_adapter(str(source), folder / "adapter")
    judge = write_version(folder, JUDGE, {"adapter": folder / "adapter"})
    export_reranker(str(judge), folder / "models")  # what is the same is not converted again
    return folder


@pytest.fixture
def towers(made, settings):
    """The two-tower model that serves beside."""
    shutil.copytree(made / "models", registry.models_dir(), dirs_exist_ok=True)
    settings.SEARCHSITE = settings.SEARCHSITE | {"MODEL": str(made / "towers")}


@pytest.fixture
def judge(made, towers):
    """The adapter of a cross-encoder."""
    return made / "adapter"


def add_judge(adapter: Path) -> ModelVersion:
    made = write_version(registry.models_dir(), JUDGE, {"adapter": adapter})
    return registry.register(made, ModelVersion.Origin.TRAINED)


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command("models", *arguments, stdout=output)
    return output.getvalue()


def run_json(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json"))


def test_versions_are_listed_newest_first(folder):
    assert run("list") == "There is no model version yet.\n"
    assert run_json("list") == []
    add(folder)
    add(folder, "shop-2")
    assert [row["name"] for row in run_json("list")] == ["shop-2", "shop-1"]
    assert all(name in run("list") for name in ("shop-1", "shop-2", "two-tower", "trained"))


def test_one_version_is_shown_with_its_figures(folder):
    add(folder, metrics={"nDCG@10": {"held out": 0.8}}, note="ours")
    facts = run_json("show", "shop-1")
    assert (facts["name"], facts["metrics"], facts["is_live"], facts["is_passed"]) == (
        "shop-1", {"nDCG@10": {"held out": 0.8}}, False, None,
    )  # fmt: skip
    assert "metrics: nDCG@10: held out: 0.8" in run("show", "shop-1")


def test_a_cross_encoder_is_promoted_and_rolled_back(judge):
    version = add_judge(judge)
    with pytest.raises(CommandError, match=r"judge-1 is not shown to be better .it was never judged on this shop"):
        run("promote", "judge-1")
    facts = run_json("promote", "judge-1", "--force")
    version.refresh_from_db()
    assert facts == {"kind": "cross-encoder", "name": str(registry.folder_of("judge-1")), "version": version.exported}
    assert run_json("show", "judge-1")["is_live"] is True
    assert "judge-1" in run("promote", "judge-1", "--force")
    assert run_json("rollback", "cross-encoder")["name"] == ""
    assert not registry.is_live(version)


def test_what_was_never_judged_here_is_refused_until_it_is_forced(judge):
    name = str(registry.folder_of(add_judge(judge).name))
    ModelVersion.objects.update(origin=ModelVersion.Origin.BUILT_IN)
    registry.prepare(ModelVersion.objects.get())
    for refused in (("judge-1",), (name, "--kind", "cross-encoder")):
        with pytest.raises(CommandError, match=rf"{refused[0]} is not shown to be better .*, force it"):
            run("promote", *refused)
    run("promote", name, "--kind", "cross-encoder", "--force")
    run("promote", "none", "--kind", "cross-encoder")
    assert "judge-1" in run("promote", "judge-1"), "it has served before"


def test_the_model_that_shops_start_with_and_those_the_settings_name_need_no_force(settings):
    check_other("two-tower", "default")
    check_other("cross-encoder", "")
    settings.SEARCHSITE = settings.SEARCHSITE | {"MODEL": "/models/ours", "RERANKER": "default-reranker"}
    check_other("two-tower", "/models/ours")
    check_other("cross-encoder", "default-reranker")
    for kind, name in (("cross-encoder", "default"), ("two-tower", "/models/theirs")):
        with pytest.raises(EngineError, match=f"{name} is not shown to be better"):
            check_other(kind, name)


def test_no_cross_encoder_can_be_promoted(judge):
    add_judge(judge)
    run("promote", "judge-1", "--force")
    assert run("promote", "none", "--kind", "cross-encoder") == "No cross-encoder serves now.\n"


def test_a_version_is_exported_and_imported(folder):
    version = add(folder)
    facts = run_json("export", "shop-1", str(folder / "shop-1.zip"))
    assert facts == {
        "name": "shop-1",
        "file": str(folder / "shop-1.zip"),
        "bytes": (folder / "shop-1.zip").stat().st_size,
    }
    registry.remove(version)
    assert "models promote shop-1" in run("import", str(folder / "shop-1.zip"))
    assert run_json("list")[0]["origin"] == "imported"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "shop-2"), "there is no model version 'shop-2', expected one of: shop-1"),
        (("promote", "other"), "'other' is no model version: say which --kind of model it is"),
        (("promote", "shop-1", "--kind", "cross-encoder"), "shop-1 is a two-tower model, not a cross-encoder one"),
        (("rollback", "two-tower"), "no two-tower model"),
        (("rollback", "bm25"), "invalid choice: 'bm25'"),
        (("retire", "shop-1"), "model version shop-1 was never prepared, so it serves nowhere"),
        (("retire", "shop-9"), "shop-9"),
        (("import", "/no/such.zip"), r"the archive cannot be read: .*/no/such\.zip"),
        (("export", "shop-1", "/no/such/folder.zip"), r"/no/such/folder\.zip cannot be written"),
        ((), "the following arguments are required: ACTION"),
        (("dance",), "invalid choice: 'dance'"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_cure(towers, folder, arguments, message):
    add(folder)
    with pytest.raises(CommandError, match=message):
        run(*arguments)


def test_each_action_explains_itself(capsys):
    for action in ("list", "show", "promote", "rollback", "export", "import", "retire"):
        with pytest.raises(SystemExit):
            run(action, "--help")
        assert "--json" in capsys.readouterr().out


# --- admin ---------------------------------------------------------------------------------------------


def page(client: Any, version: ModelVersion) -> str:
    response = client.get(reverse("admin:retrieval_modelversion_change", args=[version.pk]))
    assert response.status_code == 200
    return str(response.content.decode())


def test_the_admin_lists_what_comes_with_the_project(admin_client, folder, made):
    shutil.copytree(made / "versions", folder / "built_in")
    listing = admin_client.get(reverse("admin:retrieval_modelversion_changelist")).content.decode()
    version = ModelVersion.objects.get()
    assert version.origin == "built in"
    assert version.name in listing


def test_the_admin_lists_versions_and_shows_figures_as_tables(admin_client, folder):
    version = add(folder, metrics={"nDCG@10": {"held <out>": 0.81239}}, settings={"rows": 100})
    version.verdict = {
        "is_passed": True,
        "reason": "passes: +0.03",
        "sets": [{"name": "SKU queries", "queries": 30, "difference": 0.0123456}],
    }
    version.save()
    listing = admin_client.get(reverse("admin:retrieval_modelversion_changelist")).content.decode()
    assert all(text in listing for text in ("shop-1", "passed", "Go back to the two towers before"))
    text = page(admin_client, version)
    for part in ("nDCG@10: held &lt;out&gt;", "0.8124", "rows", "passes: +0.03", "SKU queries", "0.01235", "Promote"):
        assert part in text


def test_a_version_without_a_verdict_says_so(admin_client, folder):
    assert "Not judged yet." in page(admin_client, add(folder))


def test_a_cross_encoder_is_promoted_in_int8(judge):
    add_judge(judge)
    with pytest.raises(CommandError, match="none is on sale; import a catalogue first"):
        run("promote", "judge-1", "--force", "--precision", "int8")
    for number, title in enumerate(("red steel mug", "blue mug", "green sofa", "travel kettle")):
        make_product(title, sku=f"S-{number}", brand="Acme")
    run("promote", "judge-1", "--force", "--precision", "int8")
    served = live.find_live("cross-encoder")
    assert ModelCard.read(registry.models_dir() / served.version).precision == "int8"


def test_the_admin_promotes_and_rolls_back(admin_client, judge, monkeypatch):
    version = add_judge(judge)
    promote = reverse("admin:retrieval_modelversion_promote", args=[version.pk])
    assert admin_client.get(promote).status_code == 405
    assert "Promote although the gate" in page(admin_client, version)
    refused = admin_client.post(promote, follow=True).content.decode()
    assert "judge-1 is not shown to be better" in refused
    force = reverse("admin:retrieval_modelversion_promote_anyway", args=[version.pk])
    sent: list[tuple[int, bool]] = []
    monkeypatch.setattr(serve_model, "delay", lambda *arguments: sent.append(arguments))
    waiting = admin_client.post(force, follow=True).content.decode()
    assert "judge-1 serves as soon as what it needs is made" in waiting
    assert sent == [(version.pk, True)]
    assert "to serve: waits for a worker" in page(admin_client, version)
    registry.prepare(version)
    ModelVersion.objects.update(verdict={"is_passed": True, "champion": "none"})
    assert "judge-1 serves within seconds." in admin_client.post(promote, follow=True).content.decode()
    assert registry.is_live(version)
    back = reverse("admin:retrieval_modelversion_roll_back_cross_encoder")
    assert "No cross-encoder serves again" in admin_client.post(back, follow=True).content.decode()
    assert "no two-tower model" in admin_client.post(
        reverse("admin:retrieval_modelversion_roll_back_two_tower"), follow=True
    ).content.decode()  # fmt: skip
    assert not registry.is_live(version)


def test_a_version_is_made_to_serve_by_the_worker_that_builds_indexes(admin_client, judge):
    assert not {serve_model.name, build_beside.name} & settings.CELERY_TASK_ROUTES.keys()
    version = add_judge(judge)
    with pytest.raises(EngineError, match="never judged"):
        serve_model(version.pk)
    assert "to serve: failed: judge-1 is not shown to be better" in page(admin_client, version)
    assert "failed" in run("show", "judge-1")
    serve_model(version.pk, is_forced=True)
    version.refresh_from_db()
    assert (version.work, registry.is_live(version)) == ("", True)


def test_a_queue_that_is_down_is_told_and_nothing_waits(admin_client, judge, monkeypatch):
    def refuse(*arguments: Any) -> None:
        raise OperationalError("no broker")

    version = add_judge(judge)
    monkeypatch.setattr(build_beside, "delay", refuse)
    build = reverse("admin:retrieval_modelversion_build_beside", args=[version.pk])
    text = admin_client.post(build, follow=True).content.decode()
    assert "no broker" in text
    assert "waits for a worker" not in text


def test_a_cross_encoder_has_no_index_to_build_or_retire(admin_client, judge):
    version = add_judge(judge)
    with pytest.raises(EngineError, match="judge-1 is a cross-encoder model: it needs no index"):
        build_beside(version.pk)
    assert "it needs no index" in page(admin_client, version)
    retire = reverse("admin:retrieval_modelversion_retire", args=[version.pk])
    assert "was never prepared, so it serves nowhere" in admin_client.post(retire, follow=True).content.decode()


def test_the_admin_downloads_an_archive_and_takes_one_up(admin_client, folder):
    version = add(folder)
    link = reverse("admin:retrieval_modelversion_download", args=[version.pk])
    response = admin_client.get(link, follow=True)
    archive = b"".join(response.streaming_content)  # the client closes the response with its last part
    assert response["Content-Disposition"] == 'attachment; filename="shop-1.zip"'
    registry.remove(version)
    url = reverse("admin:retrieval_modelversion_add")
    assert admin_client.get(url).status_code == 200
    taken = admin_client.post(url, {"archive": SimpleUploadedFile("x.zip", archive)}, follow=True)
    assert "shop-1 is here; promote it to let it serve." in taken.content.decode()
    again = admin_client.post(url, {"archive": SimpleUploadedFile("x.zip", archive)})
    assert "there is a model version shop-1 already" in again.content.decode()
    damaged = admin_client.post(url, {"archive": SimpleUploadedFile("x.zip", b"nonsense")})
    assert "no archive of a model version" in damaged.content.decode()
    assert ModelVersion.objects.count() == 1


def test_the_admin_deletes_what_is_not_in_use(admin_client, folder):
    first = add(folder, "first")
    add(folder, "second", base=str(registry.folder_of("first")))
    admin_client.post(reverse("admin:retrieval_modelversion_delete", args=[first.pk]), {"post": "yes"})
    selected = [version.pk for version in ModelVersion.objects.all()]
    everything = {"action": "delete_selected", "_selected_action": selected, "post": "yes"}
    admin_client.post(reverse("admin:retrieval_modelversion_changelist"), everything)
    assert ModelVersion.objects.count() == 2
    alone = everything | {"_selected_action": selected[:1]}
    admin_client.post(reverse("admin:retrieval_modelversion_changelist"), alone)
    assert [version.name for version in ModelVersion.objects.all()] == ["first"]
    assert not registry.folder_of("second").exists()


def test_staff_may_look_but_not_let_another_serve(client, django_user_model, folder):
    from django.contrib.auth.models import Permission

    version = add(folder)
    staff = django_user_model.objects.create_user("staff", is_staff=True)
    staff.user_permissions.add(Permission.objects.get(codename="view_modelversion"))
    client.force_login(staff)
    assert "Promote" not in page(client, version)
    assert client.post(reverse("admin:retrieval_modelversion_promote", args=[version.pk])).status_code == 403
    assert client.get(reverse("admin:retrieval_modelversion_archive", args=[version.pk])).status_code == 403
    assert client.get(reverse("admin:retrieval_modelversion_add")).status_code == 403
