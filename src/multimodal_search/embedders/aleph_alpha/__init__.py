"""Embeddings from Aleph Alpha's API.

embedder   `AlephAlphaEmbedder`
service    the official client, with retries and clear errors
transport  HTTP under the client: deadlines, `Retry-After`, counted bytes
"""

from multimodal_search.embedders.aleph_alpha.embedder import AlephAlphaEmbedder

__all__ = ["AlephAlphaEmbedder"]
