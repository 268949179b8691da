"""Pictures on pages."""

import base64
import io

from PIL import Image

COLOURS = 256
OPAQUE = 255


def light(picture: str, on: str | None = None) -> str:
    """A PNG in 256 colours, a third of the size, on a ground of that colour if one is given; base64 in and out.

    A smaller original stays as it is.
    """
    whole = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGBA")
    if on is not None:
        whole = Image.alpha_composite(Image.new("RGBA", whole.size, on), whole)
    buffer = io.BytesIO()
    _few_colours(whole).save(buffer, format="PNG", optimize=True)
    lighter = base64.b64encode(buffer.getvalue()).decode()
    return lighter if len(lighter) < len(picture) or on is not None else picture


def _few_colours(whole: Image.Image) -> Image.Image:
    if whole.getextrema()[3][0] < OPAQUE:  # the one method that keeps what is transparent so
        return whole.quantize(COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    # By coverage: the most frequent colours alone would leave a heat map's rare ones to their neighbours.
    return whole.convert("RGB").quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
