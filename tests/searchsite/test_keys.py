"""API keys: made once, recognised, refused, revoked; and what each lets its holder do."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.contrib.messages import get_messages
from django.core.cache import caches
from django.core.management import CommandError, call_command
from django.urls import reverse
from django.utils import timezone

from searchsite.models import ApiKey
from tests.factories import make_product

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_counts_left():
    caches["throttles"].clear()


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def test_a_key_is_found_by_its_secret_which_is_not_kept():
    key, secret = ApiKey.objects.create_key("importer")
    assert secret.startswith("ssk_")
    assert ApiKey.objects.find(secret) == key
    assert secret not in str(ApiKey.objects.values().get())
    with pytest.raises(ApiKey.DoesNotExist, match="no API key has the secret starting 'ssk_"):
        ApiKey.objects.find(secret[:-1] + "!")


def test_use_is_noted_at_most_once_a_minute():
    key, _ = ApiKey.objects.create_key("importer")
    key.note_use()
    key.refresh_from_db()
    first = key.last_used_at
    assert first is not None
    key.note_use()
    key.refresh_from_db()
    assert key.last_used_at == first
    ApiKey.objects.update(last_used_at=timezone.now() - timedelta(seconds=61))
    key.refresh_from_db()
    key.note_use()
    key.refresh_from_db()
    assert key.last_used_at is not None
    assert timezone.now() - key.last_used_at < timedelta(seconds=30)


@pytest.mark.parametrize(
    ("kind", "read", "write"),
    [("none", 200, 401), ("wrong", 401, 401), ("read-only", 200, 403), ("writer", 200, 200), ("revoked", 401, 401)],
)
def test_who_may_read_and_who_may_write(client, kind, read, write):
    make_product(sku="A")
    key, secret = ApiKey.objects.create_key(kind, can_write=kind != "read-only")
    if kind == "revoked":
        ApiKey.objects.filter(pk=key.pk).update(revoked_at=timezone.now())
    headers = {} if kind == "none" else bearer("ssk_wrong" if kind == "wrong" else secret)
    assert client.get("/api/v1/products/A/", headers=headers).status_code == read
    for method, address, body in [
        ("put", "/api/v1/products/A/", {"title": "Mug"}),
        ("post", "/api/v1/products/bulk/", []),
        ("post", "/api/v1/products/bulk-delete/", []),
    ]:
        answer = getattr(client, method)(address, json.dumps(body), "application/json", headers=headers)
        assert answer.status_code == write, (method, address)
        if write == 401:
            assert answer["WWW-Authenticate"] == 'Bearer realm="api"'
    assert client.delete("/api/v1/products/A/", headers=headers).status_code == (204 if write == 200 else write)


@pytest.mark.parametrize(
    ("header", "status", "words"),
    [
        ("Bearer", 401, "no API key of this site"),
        ("Bearer ", 401, "no API key of this site"),
        ("Bearer abc", 401, "send it as 'Authorization: Bearer ssk_…'"),
        ("bearer ssk_" + "x" * 5000, 401, "not known"),
        ("Bearer ssk_\x00\xff", 401, "no API key"),
        ("Basic dXNlcjpwYXNz", 401, "needs an API key"),
        ("", 401, "needs an API key"),
    ],
)
def test_a_header_that_is_no_key_is_answered_with_the_cure(client, header, status, words):
    answer = client.delete("/api/v1/products/A/", headers={"authorization": header})
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]


def test_a_session_of_the_admin_does_not_write(admin_client):
    assert admin_client.delete("/api/v1/products/A/").status_code == 401


def test_the_command_shows_the_key_once(capsys):
    call_command("make_api_key", "importer")
    output = capsys.readouterr()
    assert ApiKey.objects.find(output.out.strip()).name == "importer"
    assert "not shown again" in output.err
    call_command("make_api_key", "reports", "--read-only", "--json")
    made = json.loads(capsys.readouterr().out)
    assert (made["name"], made["can_write"]) == ("reports", False)
    assert not ApiKey.objects.find(made["key"]).can_write


@pytest.mark.parametrize("name", ["", "  ", "x" * 101])
def test_the_command_refuses_a_bad_name(name):
    with pytest.raises(CommandError, match="NAME '"):
        call_command("make_api_key", name)


def test_the_admin_makes_a_key_shown_once_and_revokes_it(client):
    client.force_login(User.objects.create_superuser("boss"))
    answer = client.post(reverse("admin:searchsite_apikey_add"), {"name": "importer", "can_write": "on"})
    assert answer.status_code == 302
    shown = next(
        word for message in get_messages(answer.wsgi_request) for word in str(message).split() if "ssk_" in word
    )
    key = ApiKey.objects.find(shown)
    page = client.get(reverse("admin:searchsite_apikey_change", args=[key.pk])).content.decode()
    assert key.prefix in page
    changes = reverse("admin:searchsite_apikey_changelist")
    client.get(changes)  # the message is shown and gone
    assert shown not in client.get(changes).content.decode()
    client.post(changes, {"action": "revoke", "_selected_action": [key.pk]})
    key.refresh_from_db()
    assert key.is_revoked
    assert key.secret_hash == ApiKey.objects.find(shown).secret_hash
