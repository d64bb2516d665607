from django.contrib import admin
from django.contrib.staticfiles.storage import staticfiles_storage
from django.urls import include, path
from django.views.generic import RedirectView

from searchsite import views
from searchsite.health import healthz

shop = [
    path("", views.home, name="home"),
    path("product/<path:sku>/", views.product, name="product"),
    path("sample-images/<slug:kind>/<slug:colour>.svg", views.sample_image, name="sample-image"),
]
search = [
    path("search/", views.results, name="results"),
    path("suggest/", views.suggestions, name="suggestions"),
]
urlpatterns = [
    path("", include((shop, "shop"))),
    path("", include((search, "search"))),
    path("api/v1/", include("searchsite.api_urls")),
    path("admin/", admin.site.urls),
    path("healthz", healthz, name="healthz"),
    path("robots.txt", views.robots),
    path("favicon.ico", RedirectView.as_view(url=staticfiles_storage.url("searchsite/icon.svg"), permanent=True)),
]
handler400 = views.bad_request
