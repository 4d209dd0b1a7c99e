"""Searching: from queries to ranked hits.

encoder     embed queries
searcher    run a search
languages   warn about queries in a language the embedder does not know
hubs        hubness penalty (CSLS)
duplicates  groups of near-duplicates
"""
