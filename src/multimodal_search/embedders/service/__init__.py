"""What embedders of a service on the network share: pacing, deadlines, clear errors, secrecy.

embedder   `ServiceEmbedder`, their base class
settings   addresses, keys and pacing, checked
service    one service, asked with retries and in parts
refusals   what went wrong, as this library's errors
contents   what is sent: names for messages, bytes, sizes
answers    an answer that is none, `Retry-After`, excerpts without secrets
exchanges  HTTP requests that end at a deadline, and can be interrupted
"""
