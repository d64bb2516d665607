"""What browsers tell without being asked: which results were really seen."""

from __future__ import annotations

from itertools import islice

from django.http import HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from experiments.events import record_impressions
from searchsite.http import ShopRequest

MAX_BODY_BYTES = 64_000
MAX_REFERENCES = 200


# A reference says more than a token could: it is good for the visitor in the cookie alone, which other sites' requests
# do not carry. Beacons sent while a page goes away can have no header.
@csrf_exempt
@require_POST
def record_seen(request: ShopRequest) -> HttpResponse:
    """Take the signed references of results seen, with spaces between, and answer 204 whatever they are worth."""
    body = request.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        return HttpResponse(f"More than {MAX_BODY_BYTES:,} bytes.", status=413, content_type="text/plain")
    if request.visitor.is_logged:
        record_impressions(request.visitor, islice(body.decode("ascii", "replace").split(), MAX_REFERENCES))
    return HttpResponse(status=204)
