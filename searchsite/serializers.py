"""The shapes of the API's answers, as its OpenAPI schema describes them.

Answers of a search are built as plain dictionaries, which is quicker; tests hold them to these shapes.
"""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from retrieval.engine.types import Explanation


class PriceSerializer(serializers.Serializer[object]):
    amount = serializers.CharField(help_text="With all its decimals: '12.90'.")
    minor = serializers.IntegerField(help_text="In the currency's smallest unit: 1290.")
    currency = serializers.CharField(help_text="ISO 4217.")


class CategorySerializer(serializers.Serializer[object]):
    name = serializers.CharField()
    path = serializers.CharField(help_text="What the filter `category` takes: 'kitchen/mugs'.")


class ExplanationSerializer(serializers.Serializer[object]):
    """Rank (from 1) and score at every stage; null where the product was not found."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        kinds: dict[str, Any] = {"rank": serializers.IntegerField, "score": serializers.FloatField}
        return {name: kinds[name.rpartition("_")[2]](allow_null=True) for name in Explanation.__slots__}


class HitSerializer(serializers.Serializer[object]):
    sku = serializers.CharField()
    title = serializers.CharField()
    brand = serializers.CharField()
    price = PriceSerializer(allow_null=True)
    image_url = serializers.CharField(help_text="Empty when there is no picture.")
    url = serializers.CharField(help_text="The product's page.")
    rating = serializers.FloatField(allow_null=True, help_text="Average stars, 0 to 5.")
    rating_count = serializers.IntegerField()
    in_stock = serializers.BooleanField()
    category = CategorySerializer(allow_null=True)
    score = serializers.FloatField(help_text="Comparable within this answer only.")
    ref = serializers.CharField(
        required=False, help_text="Of a recorded search: say it in an event in place of query, product and position."
    )
    explanation = ExplanationSerializer(required=False, help_text="With explain=1.")


class FacetValueSerializer(serializers.Serializer[object]):
    value = serializers.CharField(help_text="What the facet's parameter takes.")
    label = serializers.CharField(  # type: ignore[assignment]  # a name that Field has too
        help_text="What a shopper reads."
    )
    count = serializers.IntegerField(help_text="How many products choosing it shows.")
    selected = serializers.BooleanField()
    depth = serializers.IntegerField(required=False, help_text="Of a category in its tree, roots 0.")
    price_min = serializers.CharField(required=False, help_text="Of a range of prices; a parameter as it stands.")
    price_max = serializers.CharField(required=False, allow_null=True, help_text="Null when the range is open.")


class FacetSerializer(serializers.Serializer[object]):
    field = serializers.CharField(help_text="category, brand, price, rating, stock or attr.NAME.")
    label = serializers.CharField()  # type: ignore[assignment]
    parameter = serializers.CharField(allow_null=True, help_text="Filters by a value; null: price_min and price_max.")
    values = FacetValueSerializer(many=True)


class SearchedQuerySerializer(serializers.Serializer[object]):
    text = serializers.CharField(help_text="As it was asked.")
    searched_text = serializers.CharField(help_text="As it was searched in the end.")
    corrected_from = serializers.CharField(allow_null=True, help_text="What was typed, when it was corrected.")
    suggestion = serializers.CharField(allow_null=True, help_text="A correction offered but not applied.")


class SearchResponseSerializer(serializers.Serializer[object]):
    query_id = serializers.CharField(allow_null=True, help_text="Of a recorded search, for events: see `client_id`.")
    query = SearchedQuerySerializer()
    notice = serializers.CharField(allow_null=True, help_text="Says when the answer is a lesser one.")
    config = serializers.CharField(help_text="How it was searched; 'database' while no index can answer.")
    total = serializers.IntegerField(help_text="Products on all pages.")
    page = serializers.IntegerField()
    page_size = serializers.IntegerField()
    page_count = serializers.IntegerField()
    hits = HitSerializer(many=True)
    facets = FacetSerializer(many=True, required=False, help_text="Left out with facets=0.")
    timings_ms = serializers.DictField(child=serializers.FloatField(), help_text="Milliseconds of each stage.")


class SuggestedProductSerializer(serializers.Serializer[object]):
    sku = serializers.CharField()
    title = serializers.CharField()
    price = PriceSerializer(allow_null=True)
    image_url = serializers.CharField()
    url = serializers.CharField()


class SuggestResponseSerializer(serializers.Serializer[object]):
    products = SuggestedProductSerializer(many=True)
    categories = CategorySerializer(many=True)
    queries = serializers.ListField(child=serializers.CharField(), help_text="What others searched for.")


class ErrorDetailSerializer(serializers.Serializer[object]):
    code = serializers.CharField(help_text="For programs: 'invalid', 'not_found', 'throttled', …")
    message = serializers.CharField(help_text="For people: what is wrong and what to do.")
    fields = serializers.DictField(  # type: ignore[assignment]
        child=serializers.ListField(child=serializers.CharField()),
        required=False,
        help_text="What is wrong with each parameter or column.",
    )


class ErrorSerializer(serializers.Serializer[object]):
    error = ErrorDetailSerializer()


class ProductSerializer(serializers.Serializer[object]):
    """A product as it is imported and exported: what is read can be written back."""

    sku = serializers.CharField(max_length=100)
    title = serializers.CharField(max_length=1000)
    description = serializers.CharField(required=False, allow_blank=True)
    brand = serializers.CharField(required=False, allow_blank=True, max_length=200)
    category = serializers.ListField(
        child=serializers.CharField(), required=False, help_text="Names, root first: ['Kitchen', 'Mugs']."
    )
    price = serializers.CharField(required=False, allow_null=True, help_text="In major units: '12.90'.")
    currency = serializers.CharField(required=False, allow_blank=True, help_text="ISO 4217.")
    image_url = serializers.CharField(required=False, allow_blank=True, max_length=2000)
    gtin = serializers.CharField(required=False, allow_blank=True, max_length=50)
    attributes = serializers.DictField(required=False, help_text="Free name and value pairs.")
    rating = serializers.FloatField(required=False, allow_null=True, help_text="Average stars, 0 to 5.")
    rating_count = serializers.IntegerField(required=False)
    stock = serializers.IntegerField(required=False, allow_null=True, help_text="Null when not tracked.")
    popularity = serializers.FloatField(required=False)
    released = serializers.DateField(required=False, allow_null=True)
    active = serializers.BooleanField(required=False, help_text="On sale, so that it is found.")
    url = serializers.CharField(read_only=True, help_text="The product's page.")
    created_at = serializers.DateTimeField(read_only=True)
    updated_at = serializers.DateTimeField(read_only=True)


class ProductPageSerializer(serializers.Serializer[object]):
    products = ProductSerializer(many=True)
    next = serializers.CharField(allow_null=True, help_text="The address of the next page.")


class BulkRequestSerializer(serializers.Serializer[object]):
    products = ProductSerializer(many=True, partial=True, help_text="At most 1,000. A new one needs SKU and title.")


class RowErrorSerializer(serializers.Serializer[object]):
    row = serializers.IntegerField(help_text="Counted from 1.")
    sku = serializers.CharField()
    column = serializers.CharField(help_text="Empty when the row as a whole is wrong.")
    value = serializers.CharField()
    reason = serializers.CharField()


class BulkResponseSerializer(serializers.Serializer[object]):
    created = serializers.IntegerField()
    updated = serializers.IntegerField()
    unchanged = serializers.IntegerField()
    rejected = serializers.IntegerField()
    errors = RowErrorSerializer(many=True)  # type: ignore[assignment]


class BulkDeleteRequestSerializer(serializers.Serializer[object]):
    skus = serializers.ListField(child=serializers.CharField(), help_text="At most 1,000.")


class BulkDeleteResponseSerializer(serializers.Serializer[object]):
    deleted = serializers.IntegerField()
    not_found = serializers.ListField(child=serializers.CharField(), help_text="SKUs that no product has.")
