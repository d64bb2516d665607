"""Work for Celery. What is to do stands in the database, so a lost message loses nothing."""

from celery import shared_task

from retrieval import indexing


@shared_task(autoretry_for=(Exception,), retry_backoff=2, retry_backoff_max=300, retry_jitter=True, max_retries=None)
def index_pending_products() -> int:
    """Bring all waiting changes into the index and return how many there were."""
    return indexing.index_pending()


@shared_task
def rebuild_index() -> None:
    """Build a generation of the whole catalogue and make it the live one."""
    indexing.rebuild()
