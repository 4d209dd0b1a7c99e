"""Qdrant's engine inside this process, on a folder."""

from multimodal_search.stores.qdrant_edge.store import QdrantEdgeStore

__all__ = ["QdrantEdgeStore"]
