"""What comes back: hits of a search, and the report of an indexing run."""
