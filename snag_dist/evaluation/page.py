"""How a report looks as a page: one HTML file with style and pictures inside, which needs nothing else."""

import base64
from collections.abc import Iterable
from html import escape

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 80rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
div.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; white-space: nowrap; }
th.name, td.name { text-align: left; }
thead tr:last-child th { border-bottom: 1px solid #222; }
th.group { text-align: center; border-bottom: 1px solid #aaa; }
table { border-top: 2px solid #222; border-bottom: 2px solid #222; }
tr.stage td { border-top: 1px solid #aaa; }
td.note, th.note { color: #666; font-size: .85em; }
ol, p.note { color: #444; font-size: .9em; }
figure { margin: 1.5rem 0; } img { max-width: 100%; height: auto; } figcaption { font-weight: 600; }
summary { cursor: pointer; margin-top: 1.5rem; }
"""


def lay_out_page(title: str, note: str, body: Iterable[str]) -> str:
    """Return a whole page.

    Args:
        title: plain text.
        note: plain text below the title: how figures are to be read.
        body: parts of it, HTML.
    """
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n<h1>{escape(title)}</h1>\n"
        f'<p class="note">{escape(note)}</p>\n' + "\n".join(body) + "\n</body>\n</html>\n"
    )


def embed_picture(title: str, png: bytes) -> str:
    """Return a picture with its title, the data inside the page.

    Args:
        title: plain text.
        png: content of a PNG file.
    """
    data, words = base64.b64encode(png).decode(), escape(title)
    return f'<figure><figcaption>{words}</figcaption><img alt="{words}" src="data:image/png;base64,{data}"></figure>'
