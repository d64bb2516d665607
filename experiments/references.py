"""Signed references: which search, product and place a link or an impression belongs to, in one short text."""

from __future__ import annotations

import hashlib
import hmac
import struct
import time
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

from django.conf import settings

from experiments.assignment import Visitor

SALT = "experiments.references"
MAC_BYTES = 10  # 80 bits: enough for what is worth one click
MAX_LENGTH = 1000  # of a text; a SKU has at most 100 characters
MAX_POSITION = 2**32 - 1
_HEAD = struct.Struct(">16s6sIIB")  # query id, visitor, seconds, position, flags


class BadReference(Exception):  # noqa: N818 - says what the text is
    """The text is no reference of this site, or not this visitor's."""


class ForeignReference(BadReference):
    """A sound reference that was made for another visitor."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A product at a position (from 1, over all pages) of the results of one search.

    `is_narrowed`: the list was filtered, or sorted otherwise than by relevance. `visitor_hash` and `signed_at` (epoch
    seconds) are known of references that were read.
    """

    query_id: str
    sku: str
    position: int
    is_narrowed: bool = False
    visitor_hash: bytes = b""
    signed_at: float = 0.0

    @property
    def age(self) -> timedelta:
        return timedelta(seconds=time.time() - self.signed_at)

    @property
    def is_expired(self) -> bool:
        """Return whether it is too old for what happens now to be attributed to its search."""
        return bool(self.signed_at) and self.age > find_window()

    def is_of(self, visitor: Visitor) -> bool:
        """Return whether it was made for this visitor, or says nothing of whom it is for."""
        return self.visitor_hash in (b"", hash_visitor(visitor.id))


def find_window() -> timedelta:
    """Return how long after a search what happens is attributed to it."""
    return timedelta(hours=settings.SEARCHSITE["ATTRIBUTION_HOURS"])


def sign(reference: Reference, visitor: Visitor) -> str:
    """Return the reference as a text that fits into an address, good for this visitor alone.

    Raises ValueError for a query id that is no UUID, as those of this site's searches are.
    """
    head = _HEAD.pack(
        uuid.UUID(reference.query_id).bytes,
        hash_visitor(visitor.id),
        int(time.time()),
        min(reference.position, MAX_POSITION),
        int(reference.is_narrowed),
    )
    content = head + reference.sku.encode()
    return urlsafe_b64encode(content + _mac(content, settings.SECRET_KEY)).rstrip(b"=").decode()


def read(text: str, visitor: Visitor | None = None) -> Reference:
    """Return the reference that was signed; raises BadReference if it is none, ForeignReference if not `visitor`'s."""
    content = _open(text)
    query_id, visitor_hash, signed_at, position, flags = _HEAD.unpack_from(content)
    sku = content[_HEAD.size :].decode()
    found = Reference(str(uuid.UUID(bytes=query_id)), sku, position, bool(flags & 1), visitor_hash, float(signed_at))
    if visitor is not None and not found.is_of(visitor):
        raise ForeignReference("the reference is another visitor's")
    return found


@lru_cache(maxsize=256)
def hash_visitor(visitor_id: str) -> bytes:
    """Return 6 bytes by which a reference knows its visitor without telling the id."""
    return hashlib.sha256(f"{SALT}\0{visitor_id}".encode()).digest()[:6]


def _open(text: str) -> bytes:
    """Return what was signed; raises BadReference when it was not here."""
    if not text.isascii() or len(text) > MAX_LENGTH:
        raise BadReference("the reference is no such text")
    try:
        signed = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise BadReference("the reference is no such text") from error
    content, mac = signed[:-MAC_BYTES], signed[-MAC_BYTES:]
    keys = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    if len(content) < _HEAD.size or not any(hmac.compare_digest(mac, _mac(content, key)) for key in keys):
        raise BadReference("the reference was not signed here")
    return content


def _mac(content: bytes, key: str | bytes) -> bytes:
    return hmac.digest(_derive_key(key), content, "sha256")[:MAC_BYTES]


@lru_cache(maxsize=8)  # a page of results has a reference for each product
def _derive_key(secret: str | bytes) -> bytes:
    """Return a key that is good for references alone."""
    return hashlib.sha256(SALT.encode() + (secret if isinstance(secret, bytes) else secret.encode())).digest()
