"""Embeddings from models on this machine, through sentence-transformers and torch.

embedder  `SentenceTransformersEmbedder`
settings  what it is made with, checked
folder    a model's files, in a folder or the hub's cache, and what they are known by
traits    dimension and modalities of a model, remembered, so that a warm start need not load it
model     a loaded model: texts, images and both to vectors
texts     texts as a model was trained on them
images    images as a model's input
"""

from multimodal_search.embedders.sentence_transformers.embedder import SentenceTransformersEmbedder

__all__ = ["SentenceTransformersEmbedder"]
