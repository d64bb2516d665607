"""API keys in the admin: made, named and revoked here, each shown once."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.decorators import display

from searchsite.keys import HEADER_HELP
from searchsite.models import ApiKey, ApiKeyQuerySet

STATE_COLOURS = {"active": "success", "revoked": "danger"}


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):
    list_display = ("name", "prefix", "show_state", "can_write", "created_at", "last_used_at")
    search_fields = ("name", "prefix")
    fields = ("name", "can_write", "prefix", "created_at", "last_used_at", "revoked_at")
    readonly_fields = ("prefix", "created_at", "last_used_at", "revoked_at")
    actions = ("revoke",)

    @display(description="State", label=STATE_COLOURS)
    def show_state(self, key: ApiKey) -> str:
        return "revoked" if key.is_revoked else "active"

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        return self.fields if obj else ("name", "can_write")

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        secret = "" if change else obj.set_new_secret()
        super().save_model(request, obj, form, change)
        if secret:
            messages.warning(request, f"The key is {secret} - copy it now, it is not shown again; {HEADER_HELP}.")

    @admin.action(description="Revoke the chosen keys", permissions=["change"])
    def revoke(self, request: HttpRequest, keys: ApiKeyQuerySet) -> None:
        count = keys.filter(revoked_at=None).update(revoked_at=timezone.now())
        messages.success(request, f"Revoked: {count}. They no longer work.")
