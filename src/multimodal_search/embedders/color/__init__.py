"""Images by their colours and texts by their colour words, in one space."""

from multimodal_search.embedders.color.embedder import ColorEmbedder

__all__ = ["ColorEmbedder"]
