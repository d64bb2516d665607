"""The catalogue in the admin."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from django.utils import timezone
from kombu.exceptions import OperationalError

from catalog.models import Category, ImportRun, Product
from catalog.tasks import run_import
from retrieval.models import PendingChange
from tests.factories import make_product

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _uploads(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path


def test_products_are_listed_found_and_put_on_sale(admin_client):
    product = make_product("Red mug", category="Kitchen > Mugs", price_cents=900, currency="USD", image_url="/a.svg")
    url = reverse("admin:catalog_product_changelist")
    page = admin_client.get(url, {"q": "red"}).content.decode()
    assert "Red mug" in page
    assert "$9.00" in page
    assert "/a.svg" in page
    admin_client.post(url, {"action": "deactivate", "_selected_action": [product.pk]})
    product.refresh_from_db()
    assert not product.active
    assert admin_client.get(reverse("admin:catalog_product_change", args=[product.pk])).status_code == 200


def test_a_renamed_category_has_its_products_indexed_again(admin_client):
    product = make_product(category="Kitchen > Mugs")
    PendingChange.objects.all().delete()
    category = Category.objects.get(path="kitchen/mugs")
    url = reverse("admin:catalog_category_change", args=[category.pk])
    make_product(category="Kitchen > Mugs and more")  # the path begins alike
    PendingChange.objects.all().delete()
    admin_client.post(url, {"name": "Cups"})
    category.refresh_from_db()
    assert (category.name, category.path) == ("Cups", "kitchen/mugs")
    assert PendingChange.objects.all().product_ids() == {product.pk}


def test_a_new_category_gets_the_path_that_imports_look_for(admin_client):
    url = reverse("admin:catalog_category_add")
    admin_client.post(url, {"name": "Kitchen"})
    parent = Category.objects.get(path="kitchen")
    admin_client.post(url, {"name": "Mugs & Cups", "parent": parent.pk})
    assert Category.objects.for_path(["Kitchen", "Mugs & Cups"]) == Category.objects.get(parent=parent)
    page = admin_client.post(url, {"name": "mugs cups", "parent": parent.pk}).content.decode()
    assert "There is a category kitchen/mugs-cups already." in page


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("attributes", "[1]", "expected an object of names and values"),
        ("attributes", '{"a": {"b": 1}}', "expected a single value"),
        ("image_url", "javascript:alert(1)", "expected an address beginning"),
        ("price_cents", "-5", "expected a number from 0"),
        ("rating", "7", "expected a number from 0 to 5"),
        ("currency", "???", "expected three letters"),
    ],
)
def test_products_typed_by_hand_follow_the_rules_of_files(admin_client, name, value, reason):
    product = make_product("Red mug")
    form = {"sku": "A", "title": "Cup", "attributes": "{}", "rating_count": 0, "popularity": 0, "active": "on"}
    url = reverse("admin:catalog_product_change", args=[product.pk])
    assert reason in admin_client.post(url, form | {name: value}).content.decode()
    assert admin_client.post(url, form | {"attributes": '{"Sizes": ["S", "M"]}'}).status_code == 302
    product.refresh_from_db()
    assert (product.title, product.attributes, product.price_cents) == ("Cup", {"Sizes": "S, M"}, None)


def upload(client, content: bytes, **options):
    form = {"upload": SimpleUploadedFile("feed.csv", content), "mapping": "{}", **options}
    return client.post(reverse("admin:catalog_importrun_add"), form)


def test_an_upload_is_queued_and_followed(admin_client, django_capture_on_commit_callbacks, monkeypatch):
    # In place of the queue: the worker's own code, at once.
    monkeypatch.setattr(run_import, "apply_async", lambda args, kwargs=None, **options: run_import(*args))
    with django_capture_on_commit_callbacks(execute=True):
        response = upload(admin_client, b"sku,title,price\nA1,Mug,9\nA2,Cup,free\n")
    run = ImportRun.objects.get()
    assert response["Location"] == reverse("admin:catalog_importrun_change", args=[run.pk])
    assert (run.source, run.state, run.created, run.rejected) == ("feed.csv", "finished", 1, 1)
    assert Product.objects.get().sku == "A1"
    page = admin_client.get(response["Location"]).content.decode()
    assert "Download as CSV" in page
    rejected = admin_client.get(reverse("admin:catalog_importrun_rejected", args=[run.pk]))
    assert b"".join(rejected).decode().splitlines()[1].startswith("2,price,free,expected a price")
    progress = admin_client.get(reverse("admin:catalog_importrun_progress")).json()
    assert progress[str(run.pk)]["state"] == "finished"
    assert "feed.csv" in admin_client.get(reverse("admin:catalog_importrun_changelist")).content.decode()
    listing = admin_client.get(reverse("admin:catalog_rejectedrow_changelist"), {"run__id__exact": run.pk})
    assert "expected a price" in listing.content.decode()


@pytest.mark.parametrize("mapping", ['{"a": "titel"}', '["a"]', "{"])
def test_a_mapping_that_is_none_is_explained(admin_client, mapping):
    response = upload(admin_client, b"sku,title\nA,B\n", mapping=mapping)
    assert response.status_code == 200
    assert not ImportRun.objects.exists()
    if "titel" in mapping:
        assert "expected one of: sku, title" in response.content.decode()


def test_values_are_no_formulas_in_the_download(admin_client):
    run = ImportRun.objects.create(source="x", rejected=1)
    run.rejections.create(row=1, column="title", value="=cmd|' /C calc'!A0", reason="bad")
    content = b"".join(admin_client.get(reverse("admin:catalog_importrun_rejected", args=[run.pk]))).decode()
    assert ",'=cmd" in content or "\"'=cmd" in content


def make_run(folder, **facts):
    (folder / "feed.csv").write_text("sku,title\nA1,Mug\n")
    return ImportRun.objects.create(source="feed.csv", upload="feed.csv", **facts)


def run_again(client, *runs):
    url = reverse("admin:catalog_importrun_changelist")
    form = {"action": "run_again", "_selected_action": [run.pk for run in runs]}
    return client.post(url, form, follow=True).content.decode()


def test_an_interrupted_import_is_shown_as_such_and_run_again(
    admin_client, tmp_path, django_capture_on_commit_callbacks, monkeypatch
):
    killed, finished = make_run(tmp_path, state="running"), make_run(tmp_path, state="finished")
    ImportRun.objects.update(beat_at=timezone.now() - timedelta(minutes=5))
    listing = admin_client.get(reverse("admin:catalog_importrun_changelist")).content.decode()
    assert "interrupted" in listing
    monkeypatch.setattr(run_import, "apply_async", lambda args, kwargs=None, **options: run_import(*args))
    with django_capture_on_commit_callbacks(execute=True):
        page = run_again(admin_client, killed, finished)
    assert "1 imports queued again." in page
    assert "1 left alone: finished, under way" in page
    killed.refresh_from_db()
    assert (killed.state, killed.created) == ("finished", 1)


def test_a_queue_that_is_down_is_told(admin_client, tmp_path, django_capture_on_commit_callbacks, monkeypatch):
    def fail(*args, **options):
        raise OperationalError("no route")

    monkeypatch.setattr(run_import, "apply_async", fail)
    with django_capture_on_commit_callbacks(execute=True):
        response = upload(admin_client, b"sku,title\nA1,Mug\n")
    run = ImportRun.objects.get()
    assert (response.status_code, run.state) == (302, "failed")
    assert run.error == "the queue does not answer (no route); start it, then choose “Run again”"
    assert "the queue does not answer" in admin_client.get(response["Location"]).content.decode()


def test_a_run_is_deleted_with_its_rejections_and_its_file(admin_client, tmp_path, django_capture_on_commit_callbacks):
    run = make_run(tmp_path, state="finished", rejected=1)
    run.rejections.create(row=1, column="title", value="x", reason="bad")
    url = reverse("admin:catalog_importrun_delete", args=[run.pk])
    assert "rejected rows" in admin_client.get(url).content.decode()
    with django_capture_on_commit_callbacks(execute=True):
        admin_client.post(url, {"post": "yes"})
    assert not ImportRun.objects.exists()
    assert not (tmp_path / "feed.csv").exists()


def test_a_run_under_way_is_not_deleted(admin_client, tmp_path):
    run = make_run(tmp_path, state="running")
    assert admin_client.get(reverse("admin:catalog_importrun_delete", args=[run.pk])).status_code == 403
    form = {"action": "delete_selected", "_selected_action": [run.pk], "post": "yes"}
    admin_client.post(reverse("admin:catalog_importrun_changelist"), form)
    assert ImportRun.objects.exists()


def test_staff_see_and_do_what_they_may(client, django_user_model, tmp_path):
    run = make_run(tmp_path, state="failed", rejected=1)
    user = django_user_model.objects.create_user("viewer", password="x", is_staff=True)
    client.force_login(user)
    pages = [
        reverse("admin:catalog_importrun_progress"),
        reverse("admin:catalog_importrun_changelist"),
        reverse("admin:catalog_importrun_rejected", args=[run.pk]),
        reverse("admin:catalog_importrun_add"),
    ]
    assert [client.get(page).status_code for page in pages] == [403] * 4
    user.user_permissions.add(Permission.objects.get(codename="view_importrun"))
    assert [client.get(page).status_code for page in pages] == [200, 200, 200, 403]
    run_again(client, run)
    run.refresh_from_db()
    assert run.state == "failed"


def test_visitors_see_none_of_it(client):
    for name in ("admin:catalog_importrun_progress", "admin:catalog_importrun_changelist"):
        assert client.get(reverse(name)).status_code == 302
