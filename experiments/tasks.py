"""Work for Celery. What is to do stands on disk, so a lost message loses nothing."""

from celery import shared_task

from experiments import analytics, intake, offline_runs, reports, retention


@shared_task
def write_events() -> int:
    """Take what waits in the spool into the event log and return how many rows were new."""
    return intake.take_in_spool()


@shared_task
def prune_events() -> int:
    """Delete what is older than the shop keeps events, and return how many rows that were."""
    return retention.prune().total


@shared_task
def refresh_reports() -> int:
    """Make the reports of running experiments anew, and return how many; one process does it at a time."""
    return reports.refresh_running()


@shared_task
def sum_searches() -> int:
    """Bring up to date what the page about searches shows, and return how many days were summed up again."""
    return analytics.refresh()


@shared_task
def evaluate_offline(run_id: int) -> None:
    """Measure rankings on a judgement set, as was asked for on the page; the run tells how far it is."""
    offline_runs.evaluate(run_id)


@shared_task
def resume_evaluations() -> int:
    """Queue the evaluation whose message was lost or whose worker was killed, and return how many there were."""
    return offline_runs.queue_stale()
