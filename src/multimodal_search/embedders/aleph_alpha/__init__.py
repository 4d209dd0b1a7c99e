"""Embeddings from Aleph Alpha's API."""

from multimodal_search.embedders.aleph_alpha.embedder import AlephAlphaEmbedder

__all__ = ["AlephAlphaEmbedder"]
