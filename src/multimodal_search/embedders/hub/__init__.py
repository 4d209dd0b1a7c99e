"""Models of the Hugging Face hub, for the embedders that run them on this machine.

model      a repository: found in the hub's cache, or downloaded into it
hashes     SHA-256 of files, remembered
json_file  a model's JSON files
"""
