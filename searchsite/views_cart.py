"""Cart, checkout and confirmation: HTTP in, HTML out. What changes something is posted and answered by a redirect."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.core import signing
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from searchsite.attribution import read_reference, record_added
from searchsite.bill import make_bill
from searchsite.cart import Cart, CartFull, Line
from searchsite.forms_checkout import AddForm, CheckoutForm, LineForm, make_token
from searchsite.http import ShopRequest
from searchsite.models import Order
from searchsite.orders import CartChanged, place_order

# What was typed into a checkout that came to nothing stays with the browser alone, for an hour.
CUSTOMER_COOKIE, CUSTOMER_LASTS_S = "customer", 3600
NOT_ORDERED = "Nothing was ordered: the cart has changed since you looked at it."


@never_cache
@require_safe
def cart(request: HttpRequest) -> HttpResponse:
    return render_cart(request, Cart(request.session), latest=request.GET.get("latest", ""))


@require_POST
def add(request: ShopRequest) -> HttpResponse:
    form, cart = AddForm(request.POST), Cart(request.session)
    if not form.is_valid():
        return render_cart(request, cart, status=400, errors=list_errors(form), wanted=form.cleaned_data.get("sku"))
    product, quantity, text = (form.cleaned_data[name] for name in ("sku", "quantity", "ref"))
    reference = read_reference(request.visitor, text, product.sku)
    kept = text if reference and not reference.is_expired else ""
    line = Line(product.sku, product.title, quantity, product.price_cents or 0, product.currency, kept)
    try:
        cart.add(line)
    except CartFull as error:
        return render_cart(request, cart, status=409, errors=[str(error)])
    record_added(request.visitor, product, quantity, reference)
    return return_to_cart(request, cart, latest=product.sku)


@require_POST
def change(request: HttpRequest) -> HttpResponse:
    form, cart = LineForm(request.POST), Cart(request.session)
    if not form.is_valid():
        wrong = {"sku": request.POST.get("sku", ""), "quantity": request.POST.get("quantity", "")}
        return render_cart(request, cart, status=400, errors=list_errors(form), wrong=wrong)
    sku = form.cleaned_data["sku"]
    cart.change(sku, form.cleaned_data["quantity"])
    return return_to_cart(request, cart, latest=sku)


@require_POST
def remove(request: HttpRequest) -> HttpResponse:
    cart = Cart(request.session)
    cart.remove(request.POST.get("sku", ""))
    return return_to_cart(request, cart)


@require_POST
def undo(request: HttpRequest) -> HttpResponse:
    cart = Cart(request.session)
    latest = cart.removed.line.sku if cart.removed else ""
    cart.undo()
    return return_to_cart(request, cart, latest=latest)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def checkout(request: ShopRequest) -> HttpResponse:
    cart = Cart(request.session)
    if request.method == "POST":
        return order(request, cart)
    form = CheckoutForm(initial=read_customer(request))
    return render_checkout(request, cart, form)


def order(request: ShopRequest, cart: Cart) -> HttpResponse:
    form = CheckoutForm(request.POST)
    if placed := Order.objects.filter(token=request.POST.get("token", "")[:100].replace("\x00", "")).first():
        return thank(placed)
    if not form.is_valid():
        return render_checkout(request, cart, form, status=400)
    try:
        placed = place_order(form.to_purchase(cart.lines), request.visitor)
    except CartChanged:
        response = render_checkout(request, cart, form, status=409, errors=[NOT_ORDERED])
        keep_customer(response, form)
        return response
    cart.clear()
    response = thank(placed)
    cart.show_count(request, response)
    return response


def thank(placed: Order) -> HttpResponse:
    """Return the way to the order's page; the browser forgets name and e-mail address."""
    response = redirect("shop:thanks", placed.token)
    response.delete_cookie(CUSTOMER_COOKIE, path=reverse("shop:checkout"), samesite="Lax")
    return response


def keep_customer(response: HttpResponse, form: CheckoutForm) -> None:
    """Have the browser keep name and e-mail address for the next look at the checkout."""
    typed = {name: form.cleaned_data[name] for name in ("name", "email")}
    response.set_cookie(
        CUSTOMER_COOKIE,
        signing.dumps(typed, salt=CUSTOMER_COOKIE, compress=True),
        max_age=CUSTOMER_LASTS_S,
        path=reverse("shop:checkout"),
        httponly=True,
        samesite="Lax",
        secure=settings.SESSION_COOKIE_SECURE,
    )


def read_customer(request: HttpRequest) -> dict[str, str]:
    """Return what the browser keeps of the last checkout, {} for nothing or what was not signed here."""
    try:
        kept: dict[str, str] = signing.loads(
            request.COOKIES.get(CUSTOMER_COOKIE, ""), salt=CUSTOMER_COOKIE, max_age=CUSTOMER_LASTS_S
        )
    except signing.BadSignature:
        return {}
    return kept


@never_cache
@require_safe
def thanks(request: HttpRequest, token: str) -> HttpResponse:
    if "\x00" in token:  # PostgreSQL takes no such text, not even to look for it
        raise Http404
    order = get_object_or_404(Order.objects.prefetch_related("items"), token=token)
    return render(request, "shop/thanks.html", {"order": order})


def render_cart(request: HttpRequest, cart: Cart, *, status: int = 200, **context: Any) -> HttpResponse:
    context |= {"cart": cart, "bill": make_bill(cart.lines), "cart_count": cart.count}
    response = render(request, "shop/cart.html", context, status=status)
    cart.show_count(request, response)
    return response


def render_checkout(
    request: HttpRequest, cart: Cart, form: CheckoutForm, *, status: int = 200, errors: list[str] | None = None
) -> HttpResponse:
    """Return the checkout, or the cart where something in it must be put right first."""
    bill = make_bill(cart.lines)
    if not bill.is_payable:
        return render_cart(request, cart, status=status, errors=errors) if errors else redirect("shop:cart")
    token = form.cleaned_data.get("token") if form.is_bound else None
    context = {"bill": bill, "form": form, "errors": errors, "token": token or make_token(), "cart_count": cart.count}
    return render(request, "shop/checkout.html", context, status=status)


def return_to_cart(request: HttpRequest, cart: Cart, *, latest: str = "") -> HttpResponse:
    """Return the way to the cart, which tells how many pieces of the `latest` product it holds."""
    parameters = f"?{urlencode({'latest': latest})}" if latest else ""
    response = redirect(reverse("shop:cart") + parameters)
    cart.show_count(request, response)
    return response


def list_errors(form: AddForm | LineForm) -> list[str]:
    return [str(error) for errors in form.errors.values() for error in errors]
