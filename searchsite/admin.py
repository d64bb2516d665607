"""API keys in the admin, made, named and revoked here, each shown once; and orders, to read."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display

from searchsite.keys import HEADER_HELP
from searchsite.models import ApiKey, ApiKeyQuerySet, Order, OrderItem, OrderQuerySet

STATE_COLOURS = {"active": "success", "revoked": "danger"}


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):
    list_display = ("name", "prefix", "show_state", "can_write", "can_read_reports", "created_at", "last_used_at")
    search_fields = ("name", "prefix")
    fields = ("name", "can_write", "can_read_reports", "prefix", "created_at", "last_used_at", "revoked_at")
    readonly_fields = ("prefix", "created_at", "last_used_at", "revoked_at")
    actions = ("revoke",)

    @display(description="State", label=STATE_COLOURS)
    def show_state(self, key: ApiKey) -> str:
        return "revoked" if key.is_revoked else "active"

    def get_fields(self, request: HttpRequest, obj: ApiKey | None = None) -> tuple[str, ...]:
        return self.fields if obj else ("name", "can_write", "can_read_reports")

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        secret = "" if change else obj.set_new_secret()
        super().save_model(request, obj, form, change)
        if secret:
            messages.warning(request, f"The key is {secret} - copy it now, it is not shown again; {HEADER_HELP}.")

    @admin.action(description="Revoke the chosen keys", permissions=["change"])
    def revoke(self, request: HttpRequest, keys: ApiKeyQuerySet) -> None:
        count = keys.filter(revoked_at=None).update(revoked_at=timezone.now())
        messages.success(request, f"Revoked: {count}. They no longer work.")


class ReadOnly:
    """Nobody adds, changes or deletes these here."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class OrderItemInline(ReadOnly, TabularInline):
    model = OrderItem
    extra = 0
    fields = ("sku", "title", "quantity", "show_price", "show_total", "query_id", "position")
    readonly_fields = fields

    @display(description="Price")
    def show_price(self, item: OrderItem) -> str:
        return item.price

    @display(description="Together")
    def show_total(self, item: OrderItem) -> str:
        return item.total


@admin.register(Order)
class OrderAdmin(ReadOnly, ModelAdmin):
    list_display = ("number", "created_at", "name", "show_pieces", "show_total", "show_attributed")
    search_fields = ("number", "name", "email", "client_id", "items__sku")
    date_hierarchy = "created_at"
    fields = ("number", "created_at", "name", "email", "client_id", "show_total")
    readonly_fields = fields
    inlines = (OrderItemInline,)
    actions = ("erase",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Order]:
        orders: QuerySet[Order] = super().get_queryset(request)
        return orders.prefetch_related("items")

    @display(description="Pieces")
    def show_pieces(self, order: Order) -> int:
        return order.count

    @display(description="Total")
    def show_total(self, order: Order) -> str:
        return " + ".join(order.totals)

    @display(description="Items found by search")
    def show_attributed(self, order: Order) -> str:
        items = order.items.all()
        return f"{sum(bool(item.query_id) for item in items)} of {len(items)}"

    @admin.action(description="Erase who ordered, and what led them to it", permissions=["erase"])
    def erase(self, request: HttpRequest, orders: OrderQuerySet) -> None:
        messages.success(request, f"Erased from {orders.erase()} orders. What was sold stays.")

    def has_erase_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("searchsite.change_order")
