"""A key for a program that uses the API."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from searchsite.keys import HEADER_HELP
from searchsite.models import ApiKey


class Command(BaseCommand):
    help = "Make an API key and print it. It is shown this once; the admin lists and revokes keys."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="who uses the key, or for what; at most 100 characters")
        parser.add_argument("--read-only", action="store_true", help="the key may not change products")
        parser.add_argument("--reports", action="store_true", help="the key may read reports of experiments")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, name: str, read_only: bool, reports: bool, **options: Any) -> None:
        rights = {"can_write": not read_only, "can_read_reports": reports}
        key, secret = ApiKey.objects.create_key(clean_name(name), **rights)
        if options["json"]:
            facts = {"name": key.name, "key": secret, "prefix": key.prefix, **rights}
            self.stdout.write(json.dumps(facts, ensure_ascii=False))
        else:
            self.stderr.write(f"API key for {key.name}. Keep it now, it is not shown again; {HEADER_HELP}.")
            self.stdout.write(secret)


def clean_name(name: str) -> str:
    """Return the name as it is kept; raises CommandError if no key may have it."""
    try:
        return str(ApiKey._meta.get_field("name").clean(name.strip(), None))
    except ValidationError as error:
        raise CommandError(f"NAME {name!r}: {' '.join(error.messages)}") from error
