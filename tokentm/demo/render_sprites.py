"""Render the sprite atlas from the Noto Color Emoji font. Run once; its result is committed.

python -m tokentm.demo.render_sprites --font /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tokentm.demo.sprites import CATALOGUE, CELL

BITMAP_SIZE = 109  # the only size for which the font holds bitmaps


def render(character: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """One drawing, cropped to its visible pixels and centred in a square cell of ``CELL`` pixels."""
    canvas = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(canvas).text((10, 10), character, font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise ValueError(
            f"the font has no drawing for {character!r} (U+{ord(character):X}); "
            "expected Noto Color Emoji 2.034 or newer"
        )
    drawing = canvas.crop(box)
    scale = CELL / max(drawing.size)
    size = (max(1, round(drawing.width * scale)), max(1, round(drawing.height * scale)))
    cell = Image.new("RGBA", (CELL, CELL))
    cell.paste(drawing.resize(size, Image.Resampling.LANCZOS), ((CELL - size[0]) // 2, (CELL - size[1]) // 2))
    return cell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--font", default="/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
    font = ImageFont.truetype(parser.parse_args().font, BITMAP_SIZE)
    rows = ["".join(split) for split in CATALOGUE.values()]
    atlas = Image.new("RGBA", (CELL * max(map(len, rows)), CELL * len(rows)))
    for r, characters in enumerate(rows):
        for c, character in enumerate(characters):
            atlas.paste(render(character, font), (c * CELL, r * CELL))
    atlas.save(Path(__file__).with_name("sprites.png"), optimize=True)


if __name__ == "__main__":
    main()
