"""Reading settings from the environment: a wrong value stops the start and names its cure."""

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

TRUE = {"1", "true", "yes", "on"}
FALSE = {"0", "false", "no", "off"}


def get_str(name: str, default: str = "") -> str:
    return os.environ.get(name, "").strip() or default


def get_bool(name: str, default: bool) -> bool:
    value = get_str(name).lower()
    if not value:
        return default
    if value not in TRUE | FALSE:
        raise ImproperlyConfigured(f"{name}={value!r} is no flag, expected one of: 1, 0, true, false, yes, no")
    return value in TRUE


def get_int(name: str, default: int, *, minimum: int, maximum: int) -> int:
    value = get_str(name)
    if not value:
        return default
    if not value.lstrip("-").isdigit() or not minimum <= int(value) <= maximum:
        raise ImproperlyConfigured(f"{name}={value!r}: expected a whole number from {minimum} to {maximum}")
    return int(value)


def get_float(name: str, default: float, *, minimum: float, maximum: float) -> float:
    value = get_str(name)
    if not value:
        return default
    try:
        number = float(value)
    except ValueError:
        number = minimum - 1
    if not minimum <= number <= maximum:
        raise ImproperlyConfigured(f"{name}={value!r}: expected a number from {minimum} to {maximum}")
    return number


def get_choice(name: str, default: str, choices: tuple[str, ...]) -> str:
    value = get_str(name, default)
    if value not in choices:
        raise ImproperlyConfigured(f"{name}={value!r}: expected one of: {', '.join(choices)}")
    return value


def get_matching(name: str, default: str, pattern: str, expected: str) -> str:
    """Return the text in variable `name`, all of which must match `pattern`; `expected` says so in words."""
    value = get_str(name, default)
    if not re.fullmatch(pattern, value):
        raise ImproperlyConfigured(f"{name}={value!r}: expected {expected}")
    return value


def get_rate(name: str, default: str) -> str:
    """Return how many requests a client may make in a time, such as '600/min'."""
    return get_matching(name, default, r"[1-9]\d*/(s|sec|min|hour|day)", "a number per s, min, hour or day: 600/min")


def get_url(name: str, schemes: tuple[str, ...], default: str = "") -> str:
    """Return the address in variable `name`; it must start with one of `schemes` and '://'."""
    value = get_str(name, default)
    if value and value.partition("://")[0] not in schemes:
        expected = ", ".join(f"{scheme}://…" for scheme in schemes)
        raise ImproperlyConfigured(f"{name}={value!r}: expected one of: {expected}")
    return value


def get_list(name: str, default: str = "") -> list[str]:
    return [part.strip() for part in get_str(name, default).split(",") if part.strip()]


def get_secret(name: str, data_dir: Path) -> str:
    """Return the secret in variable `name`, or one made once and kept in the data directory."""
    if value := get_str(name):
        return value
    path = data_dir / "secret_key"
    if not path.exists():
        draft = data_dir / f".secret_key-{os.getpid()}"
        with open(draft, "w", opener=lambda file, flags: os.open(file, flags, 0o600)) as file:
            file.write(secrets.token_urlsafe(50))
        with suppress(FileExistsError):  # another process was first: its secret counts
            os.link(draft, path)
        draft.unlink()
    return path.read_text()
