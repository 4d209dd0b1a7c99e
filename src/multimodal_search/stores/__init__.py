"""Vector stores, and the kit for writing another one.

memory         `MemoryStore`: exact, in NumPy, not persisted
qdrant         `QdrantStore`: a server, Qdrant Cloud, or local mode
qdrant_edge    `QdrantEdgeStore`: Qdrant's engine in this process
qdrant_shared  what both Qdrant stores use
local_socket   a store that one process serves to others
registry       `load_store`, `StoreRef`: stores by name
arguments      check what a store is given
ranking        pages of matches in the protocol's order
keywords       the words of a point: which fields make them up
bm25           BM25 scores of texts
tuning         tune an approximate search to a recall
scanning       text search and vectors by reading every point
"""
