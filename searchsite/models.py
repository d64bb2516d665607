"""Who may write through the API, and what shoppers ordered."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import Counter
from datetime import timedelta

from django.db import models, transaction
from django.utils import timezone

from catalog.money import format_price

KEY_PREFIX = "ssk_"
SHOWN_LENGTH = len(KEY_PREFIX) + 8  # of a key, so that its owner recognises it in a list
LAST_USED_INTERVAL = timedelta(minutes=1)
NUMBER_LENGTH = 10
NUMBER_LETTERS = "23456789ABCDEFGHJKMNPQRSTVWXYZ"  # none that is read for another
MAX_TOKEN_LENGTH = 64


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def create_key(self, name: str, *, can_write: bool = True, can_read_reports: bool = False) -> tuple[ApiKey, str]:
        """Return a new key and its secret. The secret is not kept: it can be shown this once."""
        key = ApiKey(name=name, can_write=can_write, can_read_reports=can_read_reports)
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
    can_read_reports = models.BooleanField(default=False, help_text="May read reports of experiments.")
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


def make_order_number() -> str:
    """Return a random number to call an order by: 49 bits, so it tells nobody how much the shop sells."""
    return "".join(secrets.choice(NUMBER_LETTERS) for _ in range(NUMBER_LENGTH))


class OrderQuerySet(models.QuerySet["Order"]):
    def erase(self) -> int:
        """Forget who ordered and what led them to it; what was sold stays. Return how many orders there were."""
        with transaction.atomic():
            order_ids = list(self.values_list("pk", flat=True))
            OrderItem.objects.filter(order__in=order_ids).update(query_id="", position=None)
            return Order.objects.filter(pk__in=order_ids).update(client_id="", name="", email="")


class Order(models.Model):
    """What a shopper ordered at one checkout. `token` is its address, which only they know."""

    number = models.CharField(max_length=NUMBER_LENGTH, unique=True, default=make_order_number)
    token = models.CharField(max_length=MAX_TOKEN_LENGTH, unique=True)
    client_id = models.CharField(
        max_length=100, blank=True, db_index=True, help_text="Of the visitor, empty for one who is not logged."
    )
    name = models.CharField(max_length=200, blank=True)
    email = models.EmailField("e-mail", blank=True)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    objects = OrderQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.number

    @property
    def count(self) -> int:
        """How many pieces were ordered."""
        return sum(item.quantity for item in self.items.all())

    @property
    def totals(self) -> list[str]:
        """What all items cost, a sum a currency."""
        sums: Counter[str] = Counter()
        for item in self.items.all():
            sums[item.currency] += item.total_cents
        return [format_price(cents, currency) for currency, cents in sums.items()]


class OrderItem(models.Model):
    """Pieces of a product as they were sold, with the search that led to it and the product's place there."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="items")
    sku = models.CharField("SKU", max_length=100)
    title = models.CharField(max_length=1000)
    quantity = models.PositiveIntegerField()
    price_cents = models.BigIntegerField("price of a piece (minor units)")
    currency = models.CharField(max_length=3, blank=True)
    query_id = models.CharField(max_length=100, blank=True, help_text="Of the search that led to it; empty for none.")
    position = models.PositiveIntegerField(null=True, blank=True, help_text="Where the search showed it, from 1.")

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["order", "sku"], name="item_once_an_order")]

    def __str__(self) -> str:
        return f"{self.quantity} × {self.sku}"

    @property
    def total_cents(self) -> int:
        return self.price_cents * self.quantity

    @property
    def price(self) -> str:
        return format_price(self.price_cents, self.currency)

    @property
    def total(self) -> str:
        return format_price(self.total_cents, self.currency)
