"""The documentation site: the guides of this folder and a reference from the docstrings. Built by `nox -s docs`."""

from __future__ import annotations

import importlib.metadata
import re
from typing import TYPE_CHECKING, Any

import multimodal_search

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "multimodal-search"
author = "the multimodal-search developers"
release = importlib.metadata.version("multimodal-search")
html_title = f"{project} {release}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_copy_source = False
html_show_copyright = False

myst_heading_anchors = 4  # the anchors that GitHub makes

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
autodoc_preserve_defaults = True
autodoc_class_signature = "mixed"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
default_role = "py:obj"  # `Name` in a docstring is a link where there is such a name, and code anywhere
add_module_names = False
python_use_unqualified_type_names = True


def as_restructured_text(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Of a module keep the first line: what follows is a list of files or a drawing. Allow letters after a backtick."""
    if what == "module":
        lines[1:] = [""]
    lines[:] = [re.sub(r"(``[^`]*``|`[^`]*`)(?=\w)", r"\1\\ ", line) for line in lines]


def protocols_are_not_called(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str | None, returns: str | None
) -> tuple[str, None] | None:
    """Leave out the signature that every protocol inherits."""
    return ("", None) if what == "class" and getattr(obj, "_is_protocol", False) else None


def every_public_name(app: Sphinx, exception: Exception | None) -> None:
    """Fail where a public name of the package has no entry in the reference."""
    if exception is None and app.builder.name == "html":
        documented = {name.rpartition(".")[2] for name, *_ in app.env.get_domain("py").get_objects()}
        missing = set(multimodal_search.__all__) - documented - {"__version__"}
        if missing:
            raise ValueError(f"not in docs/reference: {', '.join(sorted(missing))}")


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the functions above."""
    app.connect("autodoc-process-docstring", as_restructured_text)
    app.connect("autodoc-process-signature", protocols_are_not_called)
    app.connect("build-finished", every_public_name)
    return {"parallel_read_safe": True}
