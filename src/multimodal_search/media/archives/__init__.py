"""Images inside zip and tar files, read without unpacking.

members  read the files of an archive
entry    an entry of either kind, and the inflation budget
zip      the entries of a zip file
tar      the entries of a tar file, plain or compressed
names    detect the encoding of names
"""
