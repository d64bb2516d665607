"""What the search does when the catalogue changes."""

import logging
from typing import Any

from django.db import transaction
from django.dispatch import receiver
from kombu.exceptions import OperationalError

from catalog.signals import products_changed
from retrieval.models import PendingChange
from retrieval.tasks import index_pending_products

logger = logging.getLogger(__name__)


@receiver(products_changed)
def queue_changes(product_ids: list[int], **kwargs: Any) -> None:
    """Note the changes in the same transaction, and wake a worker once it is committed."""
    if product_ids:
        PendingChange.objects.create(product_ids=list(product_ids))
        transaction.on_commit(wake_worker)


def wake_worker() -> None:
    """Queue the indexing. A queue that is down loses nothing: the worker's clock looks for changes too."""
    try:
        index_pending_products.delay()
    except (OperationalError, OSError) as error:
        logger.error("the queue does not answer, changes wait for the worker's clock: %s", error)
