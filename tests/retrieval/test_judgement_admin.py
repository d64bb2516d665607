"""Judgement sets in the admin: brought in, looked at, mended, taken out."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from retrieval.models import Judgement, JudgementSet
from tests.factories import make_product

pytestmark = pytest.mark.django_db
ADD = "admin:retrieval_judgementset_add"
LIST = "admin:retrieval_judgementset_changelist"


def upload(client, url: str, name: str = "shop", *, replace: bool = False, **files: str):
    form: dict[str, object] = {"name": name, "note": "", **({"replace": "on"} if replace else {})}
    form |= {field: SimpleUploadedFile(f"{field}.tsv", content.encode()) for field, content in files.items()}
    return client.post(url, form, follow=True).content.decode()


@pytest.fixture
def ratings():
    judgement_set = JudgementSet.objects.create(name="Shop ratings")
    rows = [("red mug", "A", 3), ("red mug", "B", 0), ("lamp", "C", 1.5)]
    for query, sku, grade in rows:
        Judgement.objects.create(judgement_set=judgement_set, query=query, sku=sku, grade=grade)
    return judgement_set


def test_a_file_is_brought_in_and_counted(admin_client):
    make_product(sku="A")
    page = upload(admin_client, reverse(ADD), file="query\tsku\tgrade\nred mug\tA\t3\nred mug\tB\t0\nlamp\tA\t1\n")
    assert "3 ratings of 2 queries" in page
    assert "1 SKUs are not in the catalogue, such as B" in page
    (listed,) = admin_client.get(reverse(LIST)).context["cl"].queryset
    assert (listed.name, listed.query_count, listed.judgement_count) == ("shop", 2, 3)


def test_a_pair_of_files_is_brought_in(admin_client):
    queries, qrels = "query_id\tquery\nq1\tmug\n", "query_id\tdoc_id\trelevance\nq1\tA\t1\nq1\tB\t0\n"
    upload(admin_client, reverse(ADD), queries=queries, qrels=qrels)
    assert dict(Judgement.objects.values_list("sku", "grade")) == {"A": 3.0, "B": 0.0}


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"file": "query\tsku\tgrade\nmug\tA\t9\n"}, "file.tsv, line 2, grade &#x27;9&#x27;: expected a number"),
        ({"queries": "query_id\tquery\nq1\tmug\n"}, "expected one file of ratings, or two"),
    ],
)
def test_a_bad_file_is_explained_and_makes_no_set(admin_client, files, reason):
    page = upload(admin_client, reverse(ADD), **files)
    assert reason in page
    assert "/tmp" not in page
    assert not JudgementSet.objects.exists()


def test_a_set_is_filled_again_and_its_grades_replaced(admin_client, ratings):
    url = reverse("admin:retrieval_judgementset_change", args=[ratings.pk])
    assert admin_client.get(url).status_code == 200
    assert "nothing to replace the grades with" in upload(admin_client, url, "Shop ratings", replace=True)
    upload(admin_client, url, "Shop ratings", file="query\tsku\tgrade\nlamp\tC\t3\n", replace=True)
    assert list(ratings.judgements.values_list("query", "sku", "grade")) == [("lamp", "C", 3.0)]


def test_judgements_are_found_and_mended_in_the_list(admin_client, ratings):
    url = reverse("admin:retrieval_judgement_changelist")
    page = admin_client.get(url, {"q": "lamp", "judgement_set__id__exact": ratings.pk})
    (judgement,) = page.context["cl"].result_list
    form = {"form-TOTAL_FORMS": 1, "form-INITIAL_FORMS": 1, "form-0-id": judgement.pk, "_save": "Save"}
    refused = admin_client.post(f"{url}?q=lamp", form | {"form-0-grade": 4})
    assert "less than or equal to 3" in refused.content.decode()
    admin_client.post(f"{url}?q=lamp", form | {"form-0-grade": 2})
    judgement.refresh_from_db()
    assert judgement.grade == 2.0


def test_a_set_is_taken_out_as_a_file_and_deleted(admin_client, ratings):
    url = reverse("admin:retrieval_judgementset_download", args=[ratings.pk])
    response = admin_client.get(url)
    assert response["Content-Disposition"] == 'attachment; filename="shop-ratings.tsv"'
    lines = b"".join(response).decode().splitlines()
    assert lines == ["query\tsku\tgrade", "lamp\tC\t1.5", "red mug\tA\t3.0", "red mug\tB\t0.0"]
    delete = reverse("admin:retrieval_judgementset_delete", args=[ratings.pk])
    assert "Shop ratings, with 3 judgements" in admin_client.get(delete).content.decode()
    admin_client.post(delete, {"post": "yes"})
    assert not Judgement.objects.exists()


def test_sets_made_of_clicks_are_shown_but_not_filled_by_hand(admin_client, ratings):
    JudgementSet.objects.update(source="clicks")
    page = admin_client.get(reverse("admin:retrieval_judgementset_change", args=[ratings.pk])).content.decode()
    assert 'type="file"' not in page
    assert "Download as TSV" in page


def test_staff_see_and_do_what_they_may(client, django_user_model, ratings):
    user = django_user_model.objects.create_user("viewer", password="x", is_staff=True)
    client.force_login(user)
    pages = [
        reverse(LIST),
        reverse("admin:retrieval_judgementset_download", args=[ratings.pk]),
        reverse("admin:retrieval_judgementset_change", args=[ratings.pk]),
        reverse(ADD),
    ]
    assert [client.get(page).status_code for page in pages] == [403] * 4
    user.user_permissions.add(Permission.objects.get(codename="view_judgementset"))
    assert [client.get(page).status_code for page in pages] == [200, 200, 200, 403]


def test_visitors_see_none_of_it(client, ratings):
    for page in (reverse(LIST), reverse("admin:retrieval_judgementset_download", args=[ratings.pk])):
        assert client.get(page).status_code == 302
