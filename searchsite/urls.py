from django.contrib import admin
from django.contrib.staticfiles.storage import staticfiles_storage
from django.urls import include, path
from django.views.generic import RedirectView

from searchsite import views, views_cart
from searchsite.beacon import record_seen
from searchsite.health import healthz

shop = [
    path("", views.home, name="home"),
    path("product/<path:sku>/", views.product, name="product"),
    path("cart/", views_cart.cart, name="cart"),
    path("cart/add/", views_cart.add, name="add"),
    path("cart/change/", views_cart.change, name="change"),
    path("cart/remove/", views_cart.remove, name="remove"),
    path("cart/undo/", views_cart.undo, name="undo"),
    path("checkout/", views_cart.checkout, name="checkout"),
    path("orders/<str:token>/", views_cart.thanks, name="thanks"),
    path("seen/", record_seen, name="seen"),
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
    path("reports/", include("experiments.urls")),
    path("healthz", healthz, name="healthz"),
    path("robots.txt", views.robots),
    path("favicon.ico", RedirectView.as_view(url=staticfiles_storage.url("searchsite/icon.svg"), permanent=True)),
]
handler400 = views.bad_request
