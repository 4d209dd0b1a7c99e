"""A collection of a Qdrant server, of Qdrant Cloud, or of qdrant-client's local mode.

store           `QdrantStore`
client          the connection's settings, checked, and the client
settings        how the collection is created and searched
administration  settings of an open collection, the graph after a bulk load, aliases
collection      create or open the collection, and keep its schema
info            the server's description of a collection, also of a newer server
ports           whether the REST port and the gRPC port are of one server
alias           an alias as the collection's name
tuning          the recall that searches reach, and what follows from it
bulk_load       loading a new collection without its graph
shard_keys      shards by a payload field
writing         points, in requests of bounded size
querying        the points that a query finds
paging          queries, in as many requests as the server's limits ask for
strict_mode     what a server refuses, and its limits
filtering       filters, translated, with the indexes that they need
candidates      records that filters were evaluated on, kept for a moment
conditions      the client's classes of conditions
index_creation  payload indexes
text_index      the words of points, and full-text search
notes           metadata of the index, in the collection's own
local_mode      searches of qdrant-client's local mode
errors          what qdrant-client raises, as this library's errors
"""

from multimodal_search.stores.qdrant.settings import QdrantSettings
from multimodal_search.stores.qdrant.store import QdrantStore

__all__ = ["QdrantSettings", "QdrantStore"]
