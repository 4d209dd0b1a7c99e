"""Embedders: one package for each model family or service, and what wraps any of them.

registry     `load_embedder`, `EmbedderRef`: embedders by name
guarded      an embedder with checks, limits and retries
late         an embedder that is made when it is first needed
prepared     an image as an embedder's `prepare` leaves it
kept         the embedder of an index, kept with the index
limiter      adaptive concurrency (AIMD) and retries with backoff
service      what embedders of a service on the network share
color        images by colours, texts by colour words
aleph_alpha  Aleph Alpha's API
http         services and self-hosted servers that speak one of five dialects
hub          models of the Hugging Face hub, in its cache
onnx         models on this machine, as ONNX files
sentence_transformers  models on this machine, through sentence-transformers and torch
"""
