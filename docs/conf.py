"""Sphinx configuration. Nothing is fetched at build: no intersphinx, no fonts, no scripts from elsewhere."""

from importlib.metadata import version as installed_version

project = "progress-relay"
author = "the progress-relay contributors"
project_copyright = "the progress-relay contributors"
release = version = installed_version("progress-relay")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "examples"]

myst_heading_anchors = 3
# Docstrings are read in the editor first: `name` in them is code.
default_role = "literal"

# Links to other hosts are checked by `make docs LINKS=outside` alone: a build needs no network.
linkcheck_ignore = [r"https?://127\.0\.0\.1", r"https?://[^/]*\bexample\b"]
linkcheck_anchors = False
if not tags.has("outside"):  # noqa: F821 - Sphinx brings it
    linkcheck_ignore.append(r"https?://")

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_display_short_literal_types = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100

html_theme = "furo"
html_title = "progress-relay"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_show_sphinx = False
html_copy_source = False
