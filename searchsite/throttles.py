"""How often one client may ask. The rates are settings; a client is an API key, or else an address."""

from __future__ import annotations

import logging
import math
import time

from django.core.cache import caches
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.settings import api_settings
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from searchsite.models import ApiKey

logger = logging.getLogger(__name__)
PERIODS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class RateThrottle(BaseThrottle):
    """Counts the requests of each client in fixed spans: one number a client, however high the rate.

    Without Redis each web process counts for itself.
    """

    scope = ""
    _wait_s = 0.0

    def allow_request(self, request: Request, view: APIView) -> bool:
        limit, period_s = parse_rate(str(api_settings.DEFAULT_THROTTLE_RATES[self.find_scope(request)]))
        span, elapsed_s = divmod(time.time(), period_s)
        self._wait_s = period_s - elapsed_s
        key = f"{self.find_scope(request)}:{self.identify(request)}:{span:.0f}"
        return count_request(key, period_s) <= limit

    def wait(self) -> int:
        """Return how many seconds are left until the count starts anew, at least 1."""
        return math.ceil(self._wait_s)

    def find_scope(self, request: Request) -> str:
        return self.scope

    def identify(self, request: Request) -> str:
        return f"key-{request.auth.pk}" if isinstance(request.auth, ApiKey) else self.get_ident(request)


class SearchThrottle(RateThrottle):
    scope = "search"


class SuggestThrottle(RateThrottle):
    scope = "suggest"


class ProductThrottle(RateThrottle):
    """Reading products counts as searching."""

    def find_scope(self, request: Request) -> str:
        return "search" if request.method in SAFE_METHODS else "write"


def parse_rate(rate: str) -> tuple[int, int]:
    """Return the requests and the seconds of a rate such as '600/min'."""
    count, _, period = rate.partition("/")
    return int(count), PERIODS_S[period[0]]


def count_request(key: str, period_s: int) -> int:
    """Return how many requests were counted under `key`, this one included; 0 when the cache is down."""
    counts = caches["throttles"]
    try:
        return 1 if counts.add(key, 1, timeout=2 * period_s) else counts.incr(key)
    except ValueError:  # removed to make room, between the two calls
        return 1
    except Exception as error:  # whatever the cache raises: better unlimited than shut
        logger.error("requests are not limited now, the cache does not answer: %s", error)
        return 0
