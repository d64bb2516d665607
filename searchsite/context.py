"""What every page may show."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from searchsite.cart import read_count


def shop(request: HttpRequest) -> dict[str, Any]:
    return {
        "shop_name": settings.SEARCHSITE["SHOP_NAME"],
        "shop_currency": settings.SEARCHSITE["CURRENCY"],
        "cart_count": read_count(request),
    }
