"""Qdrant's engine in this process, on a folder.

store         `QdrantEdgeStore`
folder        the open folder, shared by the stores on it
opening       open or create a folder
disk_space    space that an index takes and needs
engine        the engine's module, and its settings
conditions    the conditions of its filters
optimize      build the HNSW graph, in a child process
tuning        the recall that searches reach, and what follows from it
process_lock  a lock that one process holds
text_index    the words of points, and full-text search
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
