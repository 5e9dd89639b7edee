"""Settings of the documentation. The build needs no network."""

import skae

project = "skae"
author = "skae developers"
copyright = f"2026, {author}"
version = release = skae.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # MathJax from the disk, copied beside the pages
    "matplotlib.sphinxext.plot_directive",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
# The pages in Markdown are read in the repository.
exclude_patterns = ["_build", "_templates", "*.md", "gallery/*.ipynb", "gallery/*.py*"]
# The list at the end of a docstring may hold a work that the text does not cite by number.
suppress_warnings = ["ref.citation"]
default_role = "py:obj"
smartquotes = False  # names in quotation marks are there to be copied

autosummary_generate = True
autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"  # or names are cut at the right
autodoc_typehints = "none"  # the docstrings name the types, with shapes and ranges
# The template of a class lists its methods, so numpydoc need not.
numpydoc_show_class_members = False

copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "ignore_pattern": r"(docstrings|tables|pictures|quickstart)\.py",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "write_computation_times": False,
    "plot_gallery": "True",
}

# Pictures of a page, drawn by the code above them.
plot_include_source = True
plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = [("png", 110)]

html_static_path = ["_static"]
html_css_files = ["skae.css"]
html_theme = "pydata_sphinx_theme"
html_title = f"skae {release}"
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "header_links_before_dropdown": 8,
    "navbar_align": "left",
    "show_nav_level": 2,
}
# Pages of a section of their own have nothing beside them.
html_sidebars = {
    page: []
    for page in ("installation", "coming_from", "benchmarks", "extending", "gallery/plot_tutorial")
}


def skip_foreign_member(app, what, name, obj, skip, options):
    """Leave out what a class has from scikit-learn, torch or Python: it is documented there."""
    if type(obj).__name__ == "_tuplegetter":  # a field of a NamedTuple: in the class docstring
        return True
    if isinstance(obj, type):  # a setting that holds a type, such as ``sample_dtype``
        return skip
    source = getattr(obj, "fget", getattr(obj, "__objclass__", obj))
    owner = getattr(source, "__module__", None) or "skae"
    return skip or owner.partition(".")[0] != "skae"


def setup(app):
    """Connect the hook."""
    app.connect("autodoc-skip-member", skip_foreign_member)
