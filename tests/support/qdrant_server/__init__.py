"""A Qdrant server for tests: its faces on real sockets, over qdrant-client's own local mode.

What travels is what a real server would get from the real client, and answer; what it stores is as right as local mode
is. What it refuses follows from its own indexes, settings, rights and peers, in the words of a real server 1.19.

- server: the state, and what is answered to a request
- operations: what a request to one collection does
- collection: the settings of one collection
- strict_mode: which index a condition needs, and the limits of requests
- rights: what a key or token may do
- cluster: peers that are behind the others
- refusals: answers other than 200
- rest_face: the REST API on a socket
- grpc_face: the gRPC API on a socket, over the same state
- quick_clients: what every client would do anew, done once
"""
