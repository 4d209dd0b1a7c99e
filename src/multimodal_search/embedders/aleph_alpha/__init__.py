"""Embeddings from Aleph Alpha's API.

embedder   `AlephAlphaEmbedder`
settings   what it is made with, checked
images     an image as it is sent
service    the official client, with retries and clear errors
transport  HTTP under the client: deadlines, `Retry-After`, counted bytes
"""

from multimodal_search.embedders.aleph_alpha.embedder import AlephAlphaEmbedder

__all__ = ["AlephAlphaEmbedder"]
