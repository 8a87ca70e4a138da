"""Claims with something changed in them."""

import json

from eval.claims.digests import images_digest


def changed(file, path, value, out=None):
    """Writes a claim with a value in place of another, or without it where the value is None; returns its file."""
    claim = json.loads(file.read_text())
    inner = claim
    for key in path[:-1]:
        inner = inner[key]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value(inner[path[-1]]) if callable(value) else value
    images = claim["images"]
    if path[0] == "images" and path[-1] != "sha256" and isinstance(images.get("label"), str):
        numbers = ([int(word) for word in images[name].split()] for name in ("label", "seed"))
        images["sha256"] = images_digest(range(images["count"]), *numbers)
    out = out or file
    out.write_text(json.dumps(claim))
    return out


def word(place, change):
    """Changes one word of a text with blanks."""

    def of(text):
        words = text.split(" ")
        words[place] = change(words[place])
        return " ".join(words)

    return of


def digit(text, place=0):
    """The text with another hexadecimal digit at a place."""
    return text[:place] + ("1" if text[place] == "0" else "0") + text[place + 1 :]
