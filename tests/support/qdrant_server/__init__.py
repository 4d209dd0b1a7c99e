"""A Qdrant server for tests: its faces on real sockets, over qdrant-client's own local mode.

What travels is what a real server would get from the real client, and answer; what it stores is as right as local mode
is. What it refuses follows from its own indexes, settings and rights, in the words of a real server 1.19.

- server: the state, and what is answered to a request
- collection: the settings of one collection
- strict_mode: which index a condition needs, and the limits of requests
- refusals: answers other than 200
- rest_face: the REST API on a socket
"""
