"""What `make images` ends with: of each image its size, layers, bill of materials and behaviour."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from cluster import places, sbom, start_up
from cluster.buildah import StoredImage
from cluster.container import Container
from cluster.images import Image
from cluster.progress import say, step
from cluster.tools import MissingError

BILLS = places.ROOT / "dist" / "sbom"

QUESTIONS = {
    "operator": ["evalrun-operator", "--version"],
    "runner": ["evalrun-runner", "--help"],
}
"""What an image's program is asked to show how long it takes to start."""


def report(image: Image, built: StoredImage) -> None:
    """Write the image's bill of materials, and print its part of the table.

    What was measured of the same image is not measured again.
    """
    bill = _bill(image, built)
    kept = places.cache() / "images" / f"{image.short_name}.report.json"
    known = json.loads(kept.read_text()) if kept.exists() else {}
    if known.get("image") != built.id or None in known["seconds"].values():
        with step(f"measuring {image.name}"):
            known = {"image": built.id, **_measure(image, built)}
        kept.write_text(json.dumps(known))
    print("\n".join(_lines(image, built, bill, known)), flush=True)


def _bill(image: Image, built: StoredImage) -> dict[str, Any]:
    file = BILLS / f"{image.short_name}.cdx.json"
    if file.exists():
        known: dict[str, Any] = json.loads(file.read_text())
        if sbom.image_of(known) == built.id:
            return known
    with step(f"listing what {image.name} is made of"):
        text = sbom.make(built, image.name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return dict(json.loads(text))


def _measure(image: Image, built: StoredImage) -> dict[str, Any]:
    question = QUESTIONS[image.short_name.partition("-")[0]]
    seconds: dict[str, float | None] = {" ".join(question): start_up.to_the_end(built, question)}
    if image.short_name == "operator":
        seconds |= {"its first log line": None, "/healthz": None}
        try:
            started = start_up.of_the_operator(built)
            seconds |= {"its first log line": started.logged, "/healthz": started.healthy}
        except MissingError as missing:
            say(f"not measured beside an API server: {missing}")
    own = Container(built, user=None)
    return {
        "seconds": seconds,
        "id": own.run("id").stdout.strip(),
        "write": own.run("touch", "/here").stderr.strip(),
    }


def _lines(
    image: Image, built: StoredImage, bill: dict[str, Any], known: dict[str, Any]
) -> Iterator[str]:
    sizes = [layer.size for layer in built.layers]
    file = (BILLS / f"{image.short_name}.cdx.json").relative_to(places.ROOT)
    python, debian = (len(sbom.packages(bill, kind)) for kind in ("pypi", "deb"))
    yield f"{image.name} sha256:{built.id[:12]}"
    yield f"  size           {_megabytes(sum(sizes))}, unpacked"
    yield f"  layers         {len(sizes)}: {', '.join(map(_megabytes, sizes))}"
    yield f"  SBOM           {file}: {python} Python distributions, {debian} Debian packages"
    for what, seconds in known["seconds"].items():
        took = "not measured" if seconds is None else f"{seconds:.2f} s"
        yield f"  started        {took} to {what}"
    yield f"  id             {known['id']}"
    yield f"  touch /here    {known['write']}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
