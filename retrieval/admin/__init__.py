"""Admin pages of the search, one module for each thing shown."""

from retrieval.admin import index

__all__ = ["index"]
