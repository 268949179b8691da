"""What pages show that Markdown can't say, from the templates of this package."""

import jinja2
from IPython.display import HTML

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader(__package__), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


def render(template: str, **facts: object) -> HTML:
    """A template filled in; every text in ``facts`` is escaped."""
    return HTML(_TEMPLATES.get_template(template).render(**facts))
