"""The neutral filter language: a mapping is parsed into a small tree, which each store translates or matches.

nodes     the parsed filter: `And`, `Or`, `Not`, and a node for each operator
parsing   from the mapping that users write to nodes
matching  whether a payload passes

An author of a store needs two functions: `parse_filter` gives the tree of a filter, or says what is wrong with it, and
`passes` tells whether a payload passes. A store with a query language of its own translates the nodes into that.
"""

from multimodal_search.filters.matching import passes
from multimodal_search.filters.nodes import (
    And,
    DatetimeRange,
    Equals,
    Exists,
    FieldNode,
    FieldPath,
    Glob,
    In,
    Native,
    Node,
    Not,
    NumberRange,
    Or,
    Prefix,
)
from multimodal_search.filters.parsing import parse_filter

__all__ = [
    "And",
    "DatetimeRange",
    "Equals",
    "Exists",
    "FieldNode",
    "FieldPath",
    "Glob",
    "In",
    "Native",
    "Node",
    "Not",
    "NumberRange",
    "Or",
    "Prefix",
    "parse_filter",
    "passes",
]
