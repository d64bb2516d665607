"""Start a sample shop: everything from an empty folder to a running site."""

from __future__ import annotations

import secrets
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand

from catalog.management.commands.make_sample_shop import write_products
from catalog.models import Product
from retrieval.setup import find_generation
from searchsite.management.commands.serve import check_port

ADMIN = "admin"


class Command(BaseCommand):
    help = "Fill an empty shop with sample products, index them, and run the site. A filled shop is just run."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--products", type=int, default=5000, help="sample products to make (default: 5000)")
        parser.add_argument("--seed", type=int, default=7, help="another seed makes another shop (default: 7)")
        parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
        parser.add_argument("--port", type=int, default=8000, help="port to listen at (default: 8000)")
        parser.add_argument("--no-serve", action="store_true", help="fill and index the shop, but do not run it")

    def handle(
        self, *args: Any, products: int, seed: int, host: str, port: int, no_serve: bool, **options: Any
    ) -> None:
        if not no_serve:
            check_port(host, port)
        call_command("migrate", verbosity=0)
        if not Product.objects.exists():
            self.stdout.write(f"Making {products} sample products …")
            path = Path(settings.DATA_DIR) / "sample-products.jsonl.gz"
            write_products(path, products, seed)
            call_command("import_products", str(path), stdout=self.stdout)
        if find_generation() is None:
            self.stdout.write("Building the search index …")
            call_command("reindex", stdout=self.stdout)
        self._announce_admin(host, port)
        if not no_serve:
            call_command("serve", host=host, port=port, stdout=self.stdout)

    def _announce_admin(self, host: str, port: int) -> None:
        """Make an administrator once; the password is kept in the shop's folder."""
        path = Path(settings.DATA_DIR) / "demo-admin-password"
        users = get_user_model().objects
        if not users.filter(username=ADMIN).exists():
            path.write_text(secrets.token_urlsafe(9))
            path.chmod(0o600)
            users.create_superuser(username=ADMIN, email="", password=path.read_text())
        if path.exists():
            self.stdout.write(f"Admin: http://{host}:{port}/admin/  user {ADMIN}, password {path.read_text()}")
