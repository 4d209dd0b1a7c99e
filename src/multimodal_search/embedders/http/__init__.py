"""Embeddings over HTTP: vendors and self-hosted servers that speak one of five dialects.

embedder  `HttpEmbedder`
settings  what it is made with
dialects  requests and answers of each kind of service
images    an image as it is sent
texts     a text as it is sent
served    the model that a server has
client    HTTP requests, over urllib3
"""

from multimodal_search.embedders.http.embedder import HttpEmbedder

__all__ = ["HttpEmbedder"]
