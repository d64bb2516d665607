"""Who may write through the API."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import timedelta

from django.db import models
from django.utils import timezone

KEY_PREFIX = "ssk_"
SHOWN_LENGTH = len(KEY_PREFIX) + 8  # of a key, so that its owner recognises it in a list
LAST_USED_INTERVAL = timedelta(minutes=1)


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def create_key(self, name: str, *, can_write: bool = True) -> tuple[ApiKey, str]:
        """Return a new key and its secret. The secret is not kept: it can be shown this once."""
        key = ApiKey(name=name, can_write=can_write)
        secret = key.set_new_secret()
        key.save()
        return key, secret

    def find(self, secret: str) -> ApiKey:
        """Return the key, revoked or not, that has this secret; raises ApiKey.DoesNotExist when none has."""
        digest = hash_secret(secret)
        for key in self.filter(prefix=secret[:SHOWN_LENGTH]):
            if hmac.compare_digest(key.secret_hash, digest):
                return key
        raise ApiKey.DoesNotExist(f"no API key has the secret starting {secret[:SHOWN_LENGTH]!r}")


class ApiKey(models.Model):
    """A secret that lets a program use the API under a name of its own. Only its hash is kept."""

    name = models.CharField(max_length=100, help_text="Who uses it, or for what.")
    prefix = models.CharField(max_length=SHOWN_LENGTH, db_index=True, editable=False)
    secret_hash = models.CharField(max_length=64, editable=False, help_text="SHA-256 of the whole key.")
    can_write = models.BooleanField(default=True, help_text="May create, change and delete products.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @property
    def is_revoked(self) -> bool:
        return self.revoked_at is not None

    def set_new_secret(self) -> str:
        """Return a new secret of 256 random bits, which this key has from now on."""
        secret = KEY_PREFIX + secrets.token_urlsafe(32)
        self.prefix, self.secret_hash = secret[:SHOWN_LENGTH], hash_secret(secret)
        return secret

    def note_use(self) -> None:
        """Write down that the key is in use, at most once a minute."""
        now = timezone.now()
        if self.last_used_at is None or now - self.last_used_at >= LAST_USED_INTERVAL:
            ApiKey.objects.filter(pk=self.pk).update(last_used_at=now)


def hash_secret(secret: str) -> str:
    """Return 64 hex digits. A plain hash is enough: the secret is random, so it cannot be guessed."""
    return hashlib.sha256(secret.encode()).hexdigest()
