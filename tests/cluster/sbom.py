"""Bills of materials of images, in CycloneDX's JSON: Python distributions and Debian packages."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License, LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cluster.buildah import StoredImage
from cluster.container import run_on_root

IMAGE_ID = "lmms-eval.io:image-id"
"""Name of the property that says of which image it is."""


def make(image: StoredImage, name: str) -> str:
    """The bill of an image, the same each time. Raises ValueError if it is not as the schema says.

    name: of the image.
    """
    labels = json.loads(image.config)["config"]["Labels"]
    text = bill(
        inventory(image), name, labels["org.opencontainers.image.version"], f"sha256:{image.id}"
    )
    if fault := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise ValueError(f"{name}: {str(fault).splitlines()[0]}")
    return text


def inventory(image: StoredImage) -> dict[str, Any]:
    """What is installed in an image, see inventory.py."""
    with tempfile.TemporaryDirectory() as root:
        program = Path(__file__).with_name("inventory.py")
        done = run_on_root(image, Path(root), [sys.executable, "-I", program, root])
    if done.returncode:
        raise ValueError(f"{program.name}: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def bill(found: Mapping[str, Any], name: str, version: str, image_id: str) -> str:
    """The document of an inventory."""
    bom = Bom()
    whole = Component(name=name, version=version, type=ComponentType.CONTAINER, bom_ref="image")
    whole.properties.add(Property(name=IMAGE_ID, value=image_id))
    bom.metadata.component = whole
    own = Component(
        name="lmms-eval-operator",
        version=version,
        type=ComponentType.APPLICATION,
        bom_ref="lmms-eval-operator",
        licenses=[LicenseFactory().make_from_string("Apache-2.0")],
    )
    python = {canonicalize_name(it["name"]): _python(it) for it in found["distributions"]}
    packages = list(debian(found.get("dpkg", ""), found.get("release", "")))
    for component in (own, *python.values(), *packages):
        bom.components.add(component)
    for it in found["distributions"]:
        needed = [canonicalize_name(Requirement(text).name) for text in it["requires"]]
        known = [python[need] for need in needed if need in python]
        itself = python[canonicalize_name(it["name"])]
        bom.register_dependency(itself, [need for need in known if need is not itself])
    bom.register_dependency(whole, [own, *python.values(), *packages])
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    del document["serialNumber"], document["metadata"]["timestamp"]  # other ones each time
    return json.dumps(document, indent=1)


def _python(found: Mapping[str, Any]) -> Component:
    address = PackageURL("pypi", None, found["name"], found["version"])
    return Component(
        name=found["name"],
        version=found["version"],
        type=ComponentType.LIBRARY,
        description=found["summary"],
        licenses=_licenses(found),
        purl=address,
        bom_ref=address.to_string(),
    )


def _licenses(found: Mapping[str, Any]) -> list[License]:
    """As the distribution says it: an expression, else its field if that is one, else all names."""
    factory = LicenseFactory()
    field = (found["license"] or "").strip()
    said = [it.rpartition(" :: ")[2] for it in found["classifiers"] if it.startswith("License ::")]
    if "\n" in field:  # some put the whole text there
        field = said.pop(0) if said else field.splitlines()[0]
    first = found["license_expression"] or field
    if not first:
        return [factory.make_with_name(text) for text in said]
    license = factory.make_from_string(first)
    if isinstance(license, LicenseExpression) or license.id:
        return [license]
    return [license, *(factory.make_with_name(text) for text in said if text != first)]


def debian(status: str, release: str) -> Iterator[Component]:
    """Components for the packages of dpkg's status file. release: of os-release."""
    system = dict(re.findall(r'^(ID|VERSION_ID)="?([^"\n]*)"?$', release, re.MULTILINE))
    distribution = "-".join(system[it] for it in ("ID", "VERSION_ID") if it in system)
    for entry in status.strip().split("\n\n"):
        package = dict(re.findall(r"^([A-Za-z-]+): (.*)$", entry, re.MULTILINE))
        if not package.get("Status", "").endswith(" installed"):
            continue
        name, version = package["Package"], package["Version"]
        qualifiers = {"arch": package["Architecture"], "distro": distribution}
        address = PackageURL("deb", system["ID"], name, version, qualifiers)
        yield Component(
            name=name,
            version=version,
            type=ComponentType.LIBRARY,
            purl=address,
            bom_ref=address.to_string(),
        )


def packages(document: Mapping[str, Any], kind: str) -> set[tuple[str, str]]:
    """Names and versions of a bill's components of a kind: pypi or deb."""
    return {
        (it["name"], it["version"])
        for it in document["components"]
        if it.get("purl", "").startswith(f"pkg:{kind}/")
    }


def image_of(document: Mapping[str, Any]) -> str:
    """Id of the image that a bill is about."""
    (found,) = document["metadata"]["component"]["properties"]
    return str(found["value"].partition(":")[2])
