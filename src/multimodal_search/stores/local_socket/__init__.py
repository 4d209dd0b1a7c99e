"""A store over a local socket: one process has it open, and others of the same user on this machine take part.

server       `serve_store`, `StoreServer`: accept clients, and make their calls in threads
connection   one connection, as the server has it
methods      the server's side of each call
session      what the server holds for one client: half-read scans
store        `connect_store`, `SocketStore`: the client, with the protocols of the store that is served
remote       how a client makes a call
connections  the connections of one client, which its threads share
address      where a store is served: the socket, and the file that names it
handshake    the version, and the proof of the key in both directions
frames       messages on a socket: lengths, JSON, and arrays
values       arguments and answers as JSON
errors       errors as they cross the socket
"""

from multimodal_search.stores.local_socket.server import StoreServer, serve_store
from multimodal_search.stores.local_socket.store import SocketStore, connect_store

__all__ = ["SocketStore", "StoreServer", "connect_store", "serve_store"]
