"""The shop's pages: HTTP in, HTML out."""

from __future__ import annotations

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from catalog.models import PATH_SEPARATOR, Category, Product
from experiments.events import record_click
from experiments.forcing import read_forced
from retrieval.similar import find_similar
from retrieval.suggest import suggest
from searchsite.forms import SearchForm
from searchsite.home import build_front
from searchsite.http import ShopRequest, add_server_timing, wants_fragment
from searchsite.links import ResultLinks, drop_parameters
from searchsite.search import search_products

HELPFUL_DEPARTMENTS = 12
WEEK_S = 7 * 86_400


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    return render(request, "shop/home.html", {"front": build_front()})


@require_safe
@vary_on_headers("HX-Request")
def results(request: ShopRequest) -> HttpResponse:
    form = SearchForm(request.GET)
    if not form.is_valid():
        cure = drop_parameters(request.GET, [name for name, _, _ in form.problems()])
        return render(request, "search/invalid.html", {"problems": form.problems(), "cure": cure}, status=400)
    page = search_products(form.to_query(), request.visitor, forced=read_forced(request))
    links = ResultLinks(request.GET, page)
    is_fragment = wants_fragment(request)
    context = {"page": page, "results": page.results, "links": links, "is_fragment": is_fragment}
    if not page.results.total:
        context["departments"] = Category.objects.filter(parent=None)[:HELPFUL_DEPARTMENTS]
    if request.GET.get("explain"):
        context["is_explained"] = request.user.is_staff
    response = render(request, "search/_results.html" if is_fragment else "search/page.html", context)
    if is_fragment:
        # Forms send empty fields along: the address shown is the short one.
        response["HX-Push-Url"] = links.here
    return add_server_timing(response, page.results.timings_ms)


@require_safe
@cache_control(max_age=30)
def suggestions(request: HttpRequest) -> HttpResponse:
    found = suggest(request.GET.get("q", ""))
    products = Product.objects.in_order([product.product_id for product in found.products])
    return render(request, "search/_suggestions.html", {"found": found, "products": products})


@require_safe
def product(request: ShopRequest, sku: str) -> HttpResponse:
    if "\x00" in sku:  # PostgreSQL knows no such text
        raise Http404
    found = get_object_or_404(Product.objects.select_related("category"), sku=sku)
    if reference := request.GET.get("ref"):
        record_click(request.visitor, reference, sku)
    context = {"product": found, "similar": find_similar(found), "trail": list_trail(found.category)}
    if not found.active:
        return render(request, "shop/gone.html", context, status=410)
    return render(request, "shop/product.html", context)


def list_trail(category: Category | None) -> list[Category]:
    """Return the category with all above it, root first."""
    if category is None:
        return []
    slugs = category.path.split(PATH_SEPARATOR)
    paths = [PATH_SEPARATOR.join(slugs[:depth]) for depth in range(1, len(slugs))]
    above = Category.objects.filter(path__in=paths) if paths else ()
    return [*sorted(above, key=lambda node: len(node.path)), category]


@require_safe
@cache_control(max_age=WEEK_S, public=True)
def sample_image(request: HttpRequest, kind: str, colour: str) -> HttpResponse:
    from catalog.sample.pictures import draw_svg  # only the sample shop needs it

    try:
        return HttpResponse(draw_svg(kind, colour), content_type="image/svg+xml")
    except LookupError:
        return HttpResponse("There is no such picture.", status=404, content_type="text/plain")


@require_safe
def robots(request: HttpRequest) -> HttpResponse:
    return HttpResponse("User-agent: *\nDisallow: /search/\nDisallow: /suggest/\n", content_type="text/plain")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return render(request, "400.html", {"shop_name": settings.SEARCHSITE["SHOP_NAME"]}, status=400)
