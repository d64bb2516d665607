"""What the admin pages of the search share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin

ACTIONS_TEMPLATE = "admin/retrieval/_actions.html"
View = Callable[..., HttpResponse]


class ReadOnlyAdmin(ModelAdmin):
    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


class ServingAdmin(ModelAdmin):
    """Pages with buttons that change what serves: forms that are posted, so that no link and no prefetch does.

    `list_buttons` and `page_buttons` are pairs of a method's name, which is the URL's too, and what the button says.
    """

    list_buttons: tuple[tuple[str, str], ...] = ()
    page_buttons: tuple[tuple[str, str], ...] = ()
    list_before_template = ACTIONS_TEMPLATE
    change_form_outer_before_template = ACTIONS_TEMPLATE

    def has_serve_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_active and request.user.is_superuser)

    def get_urls(self) -> list[URLPattern]:
        own = [self._to_path(f"{name}/", name) for name, _ in self.list_buttons]
        own += [self._to_path(f"<int:object_id>/{name}/", name) for name, _ in self.page_buttons]
        return [*own, *super().get_urls()]

    def _to_path(self, route: str, name: str) -> URLPattern:
        def act(request: HttpRequest, **arguments: Any) -> HttpResponse:
            if not self.has_serve_permission(request):
                raise PermissionDenied
            view: View = getattr(self, name)
            return view(request, **arguments)

        pattern: URLPattern = path(route, require_POST(self.admin_site.admin_view(act)), name=self._url_name(name))
        return pattern

    def _url_name(self, name: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{name}"

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = self._with_buttons(request, self.list_buttons, extra_context)
        page: HttpResponse = super().changelist_view(request, context)
        return page

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = self._with_buttons(request, self.page_buttons, extra_context) | {"object_id": object_id}
        page: HttpResponse = super().change_view(request, object_id, form_url, context)
        return page

    def _with_buttons(
        self, request: HttpRequest, buttons: tuple[tuple[str, str], ...], context: dict[str, Any] | None
    ) -> dict[str, Any]:
        shown = buttons if self.has_serve_permission(request) else ()
        return (context or {}) | {"buttons": [(f"admin:{self._url_name(name)}", label) for name, label in shown]}
