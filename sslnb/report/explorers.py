"""Pictures for live explorers, which call back into Python."""

import io

from matplotlib.figure import Figure


def picture(figure: Figure, dpi: int = 80) -> bytes:
    """A figure as a PNG, the value of an image widget."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()
