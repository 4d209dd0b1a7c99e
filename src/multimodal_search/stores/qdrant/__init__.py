"""A collection of a Qdrant server, of Qdrant Cloud, or of qdrant-client's local mode.

store           `QdrantStore`
client          the connection's settings, checked, and the client
collection      create or open the collection, and keep its schema
index_creation  payload indexes
writing         points, in requests of bounded size
querying        the nearest points
candidates      records that filters were evaluated on
text_index      full-text search
notes           metadata of the index, in the collection's own
local_mode      searches of qdrant-client's local mode
errors          what qdrant-client raises, as this library's errors
"""

from multimodal_search.stores.qdrant.store import QdrantStore

__all__ = ["QdrantStore"]
