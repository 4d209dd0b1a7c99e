"""Embeddings from Aleph Alpha's API.

embedder   `AlephAlphaEmbedder`
settings   what it is made with
images     an image as it is sent
client     requests in the words of the official client
transport  HTTP under the official client
"""

from multimodal_search.embedders.aleph_alpha.embedder import AlephAlphaEmbedder

__all__ = ["AlephAlphaEmbedder"]
