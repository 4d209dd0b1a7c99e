"""The neutral filter language: a mapping is parsed into a small tree, which each store translates or matches.

nodes     the parsed filter: `And`, `Or`, `Not`, and a node for each operator
parsing   from the mapping that users write to nodes
matching  whether a payload passes
"""
