"""Search hits as HTML, as contact sheets, and as images in a terminal.

card           what is shown of one hit
contact_sheet  an image of all hits
html           a page, and a fragment for notebooks
terminal       thumbnails in a terminal
fonts          fonts that have the characters of a text
"""
