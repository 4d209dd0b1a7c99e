"""A collection of a Qdrant server, of Qdrant Cloud, or of qdrant-client's local mode."""

from multimodal_search.stores.qdrant.store import QdrantStore

__all__ = ["QdrantStore"]
