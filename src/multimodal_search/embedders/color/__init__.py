"""Images by their colours and texts by their colour words, in one space.

embedder  `ColorEmbedder`
words     which words name which colour
"""

from multimodal_search.embedders.color.embedder import ColorEmbedder

__all__ = ["ColorEmbedder"]
