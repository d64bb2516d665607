"""Housekeeping for Celery."""

from celery import shared_task
from django.core.management import call_command


@shared_task
def clear_sessions() -> None:
    """Delete sessions that have expired, with the carts left in them."""
    call_command("clearsessions")
