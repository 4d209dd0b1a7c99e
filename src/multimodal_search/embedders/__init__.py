"""Embedders: one file for each model family or service."""
