"""Images from anywhere: bytes, files, addresses and archives, decoded to upright RGB.

images          decode an image, crop it, hash its pixels
file_kinds      what a file is, from its first bytes
remote          fetch an image from an address, bounded and safe
archives        images inside zip and tar files
memory_budget   memory that all decoding threads share
pixels          pixels of any mode to RGB on white
repair          the same image without damaged text, profiles or frames
uncommon_kinds  kinds of BMP and TIFF that Pillow does not read
silence         keep decoders from writing to stderr
system_files    files that systems and programs leave among images
"""
