"""Embeddings from ONNX files on this machine: no account, and no network once they are here.

embedder   `OnnxEmbedder`
catalogue  models that are known by name
variants   which precision of a model's files, for each tower
layout     what is in a model's folder: the graphs, and how their inputs are made
reading    the layouts of onnx-community and Immich, and the description of other files
files      the files of a model, wherever it is
header     inputs, outputs and operators of an ONNX file
pixels     an image as a model's input
tokens     texts as a model's input
session    ONNX Runtime: a graph, ready to run
tower      one of a model's two: images or texts to vectors
"""

from multimodal_search.embedders.onnx.embedder import OnnxEmbedder

__all__ = ["OnnxEmbedder"]
