"""What is checked before the site or a command starts: settings whose choices only the engine knows."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from retrieval.engine.config import get_config
from retrieval.engine.text import Analyzer
from retrieval.engine.types import EngineError


@register
def check_search_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Return an error for each setting of the search that has none of its values."""
    errors: list[CheckMessage] = []
    for variable, check in (("SEARCHSITE_CONFIG", _check_config), ("SEARCHSITE_LANGUAGE", _check_language)):
        try:
            check()
        except EngineError as error:
            errors.append(Error(f"{variable}: {error}", id=f"retrieval.{variable}"))
    return errors


def _check_config() -> None:
    get_config(settings.SEARCHSITE["CONFIG"])


def _check_language() -> None:
    Analyzer(settings.SEARCHSITE["LANGUAGE"])
