from collections.abc import Mapping

from django.apps import AppConfig


class ExperimentsConfig(AppConfig):
    name = "experiments"
    verbose_name = "Experiments"

    def ready(self) -> None:
        from experiments import analytics  # noqa: F401 - connects its receiver
        from retrieval import promotion

        promotion.USERS.append(find_compared_versions)


def find_compared_versions() -> Mapping[str, str]:
    """Return the versions of models that variants of running experiments name, and which experiment does."""
    from experiments.models import Experiment, Variant

    rows = Variant.objects.filter(experiment__status=Experiment.Status.RUNNING, stopped_at=None)
    return {
        changes[part]: f"the experiment {name}"
        for name, changes in rows.values_list("experiment__name", "changes")
        for part in ("model", "reranker")
        if changes.get(part)
    }
