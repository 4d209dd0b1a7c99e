"""Qdrant's engine inside this process, on a folder.

store         `QdrantEdgeStore`
folder        the folder: lock, schema, and the open shard
engine        the engine's module, and how shards are made
optimize      build the HNSW graph, in a child process
process_lock  a lock that one process holds
text_index    full-text search
notes         metadata of the index, one file each
errors        what the engine raises, as this library's errors
checksums     a log of the checksums of all points
inventory     sizes and checksums of the engine's files
place         whether the folder is still the one that was opened
verify        compare everything with its checksums
fields        whether payload indexes agree with payloads
plausible     numbers in files that cannot be right
"""

from multimodal_search.stores.qdrant_edge.store import QdrantEdgeStore

__all__ = ["QdrantEdgeStore"]
