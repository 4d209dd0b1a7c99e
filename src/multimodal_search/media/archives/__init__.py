"""Images inside zip and tar files, read without unpacking.

members  the images of an archive, one after the other
entry    what the entries of both kinds have in common
zip      the entries of a zip file
tar      the entries of a tar file, plain or compressed
names    in which encoding an archive's names are written
"""
