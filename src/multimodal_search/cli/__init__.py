"""The shell command `multimodal-search`; what it does is one call of the index, and how it is printed."""
