"""Admin pages of the search, one module for each thing shown."""

from retrieval.admin import diagnostics, index, judgements, runs, versions

__all__ = ["diagnostics", "index", "judgements", "runs", "versions"]
