from django.apps import AppConfig


class SearchsiteConfig(AppConfig):
    name = "searchsite"
    verbose_name = "Site"

    def ready(self) -> None:
        from searchsite import receivers  # noqa: F401
