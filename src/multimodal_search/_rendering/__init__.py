"""Hits as pictures of pages: HTML, contact sheets, terminals.

card           one hit as it is shown
contact_sheet  an image of all hits
html           a page, and a fragment for notebooks
terminal       images in a terminal
fonts          a font that has a text's characters
"""
