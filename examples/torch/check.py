"""Check that the extensions were built against the torch of the runtime."""

import json
from importlib.metadata import version
from pathlib import Path

manifest = json.loads(Path("wheelhouse/build-stages.json").read_text())
for wheel in manifest["wheels"]:
    built_against = wheel["environment"]["torch"]
    assert built_against == version("torch"), (wheel["name"], built_against)
    assert version(wheel["name"]) == wheel["version"]
    print(f"{wheel['name']} {wheel['version']}: torch {built_against}")
