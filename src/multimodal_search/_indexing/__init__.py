"""The indexing pipeline: scan, load, embed, write.

indexer          one indexing run, from the first item to the calibration
options          how a run goes about its items
pipeline         the stages and what is in flight between them
sources          items from folders, globs, archives and iterables
walk             walk a folder or a glob
candidate        what may be indexed, not yet read
patterns         patterns for names of files
job              a candidate on its way through a run
recognition      what is stored already, and what has to be embedded
point_finder     the stored point of an item, and ids for new ones
reuse            vectors that are stored already
loading          read, hash and prepare a candidate
embed_stage      batches out, vectors in
isolation        find which items of a failed batch are at fault
writing          records into the store, in bounded writes
write_stage      finished jobs into the store, in a few threads
retrying_store   a store whose calls are retried
records          records that bring their vectors
sync             points whose files moved, changed or were deleted
absence          deleted files, told from those out of sight
ledger           a cache of what is known of files beside the index
verdicts         remember which files failed or are no images
failed_contents  contents that fail for good
model_version    warn when a service changes its model
equal_embedder   whether another embedder gives the same vectors
integrity        `status` and `verify` of any store
run_stats        counts of a run, its events and its report
"""
