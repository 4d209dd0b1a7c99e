"""Searching: from queries to ranked hits.

encoder     embed queries
searcher    from queries to results
options     what a search asks for, checked
stages      from the nearest points to the hits of a page: fusion (RRF), near-duplicates, MMR, groups
pages       pages of a store's matches, checked
whole       what a verdict needs to know of a whole answer
keywords    keyword search, also in some fields alone
languages   warn about queries in a language the embedder does not know
duplicates  groups of near-duplicates
"""
