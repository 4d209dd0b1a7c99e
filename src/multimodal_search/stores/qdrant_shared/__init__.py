"""Code that the server's and the in-process engine's stores share.

filters          translate a filter to Qdrant's conditions
payload_indexes  which payload indexes filters call for
keyword_search   `search_text`, `search_hybrid`, over calls of either SDK
reading          `search`, `get`, `scan`, over calls of either SDK
"""
