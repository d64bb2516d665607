"""Work for Celery. What is to do stands in the database, so a lost message loses nothing."""

from celery import shared_task
from celery.worker import state

from retrieval import diagnostics, indexing, serving, training_runs
from retrieval.models import ModelVersion


@shared_task(autoretry_for=(Exception,), retry_backoff=2, retry_backoff_max=300, retry_jitter=True, max_retries=None)
def index_pending_products() -> int:
    """Bring all waiting changes into the index and return how many there were."""
    return indexing.index_pending()


@shared_task
def rebuild_index() -> None:
    """Build a generation of the whole catalogue and make it the live one."""
    indexing.rebuild()


@shared_task
def diagnose_index() -> None:
    """Measure the live index and its model, and keep the report."""
    diagnostics.diagnose_and_keep()


@shared_task
def train_model(run_id: int) -> None:
    """Train what was asked for, or go on with what a killed worker left."""
    run = training_runs.claim(run_id)
    if run is None:
        return
    from retrieval.finetuning import run_training  # brings torch, which only the learner needs

    run_training(run, is_shutting_down=_is_shutting_down)


@shared_task
def resume_trainings() -> int:
    """Queue trainings whose message was lost or whose process died, and return how many there were."""
    return training_runs.queue_stale()


@shared_task
def serve_model(version_id: int, is_forced: bool = False) -> None:
    """Let a model version serve once what it needs is made."""
    version = ModelVersion.objects.filter(pk=version_id).first()
    if version is not None:
        with serving.telling_work(version, serving.SERVE):
            serving.serve_version(version, serving.index_meanwhile(), is_forced=is_forced)


@shared_task
def build_beside(version_id: int) -> None:
    """Build the index of a model version beside the live one."""
    version = ModelVersion.objects.filter(pk=version_id).first()
    if version is not None:
        with serving.telling_work(version, serving.BUILD):
            serving.build_beside(version, serving.index_meanwhile())


def _is_shutting_down() -> bool:
    """Return whether this worker was told to end."""
    return any(told is not None and told is not False for told in (state.should_stop, state.should_terminate))
