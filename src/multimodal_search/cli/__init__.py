"""The shell command `multimodal-search`.

backends      list the embedders and stores, and what is missing
models        list and download models that run on this machine
app           the commands and their options
options       arguments and options that several commands share
query         what a command searches for, from its arguments
output        what commands print and write
folder_index  the index of a folder
manifest      a CSV, TSV or JSON Lines file of images
demo_images   paint the images of the demo
"""

from multimodal_search._extras import require

require("typer", extra="cli", purpose="the command multimodal-search")
