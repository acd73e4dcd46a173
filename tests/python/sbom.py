"""Holds bills of materials to the schema of CycloneDX, strictly.

usage: sbom.py FILE...
"""

import json
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

for name in sys.argv[1:]:
    with open(name, encoding="utf-8") as file:
        text = file.read()
    bill = json.loads(text)
    error = JsonStrictValidator(SchemaVersion.from_version(bill["specVersion"])).validate_str(text)
    if error is not None:
        sys.exit(f"{name} is not as CycloneDX {bill['specVersion']} has it: {error}")
    known = {bill["metadata"]["component"]["bom-ref"]} | {component["bom-ref"] for component in bill["components"]}
    named = {ref for entry in bill["dependencies"] for ref in [entry["ref"], *entry["dependsOn"]]}
    if named != known:
        sys.exit(f"{name}: components and dependencies differ: {sorted(named ^ known)}")
