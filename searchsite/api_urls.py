from django.urls import path, re_path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from searchsite import api, api_bulk, api_events, api_products, api_reports, api_search
from searchsite.throttles import SearchThrottle

app_name = "api"
urlpatterns = [
    path("", RedirectView.as_view(pattern_name="api:docs"), name="root"),
    path("search/", api_search.search, name="search"),
    path("suggest/", api_search.suggest_queries, name="suggest"),
    path("products/", api_products.list_products, name="products"),
    path("products/bulk/", api_bulk.save_products, name="bulk"),
    path("products/bulk-delete/", api_bulk.remove_products, name="bulk-delete"),
    path("products/<path:sku>/", api_products.product, name="product"),
    path("events/", api_events.record_events, name="events"),
    path("reports/", api_reports.list_all, name="reports"),
    path("reports/<slug:name>/", api_reports.read_one, name="report"),
    path("schema/", SpectacularAPIView.as_view(throttle_classes=[SearchThrottle]), name="schema"),
    path("docs/", SpectacularSwaggerView.as_view(url_name="api:schema"), name="docs"),
    re_path("", api.find_nothing),
]
