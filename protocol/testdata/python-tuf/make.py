#!/usr/bin/env python3
"""Makes the metadata in this folder with python-tuf, for the tests of sanderling-protocol.

    python3 -m venv /tmp/tuf && /tmp/tuf/bin/pip install 'tuf>=7,<8' 'securesystemslib[crypto]' && /tmp/tuf/bin/python make.py

The keys are made anew and thrown away, so each run gives other files. The files are:
  1.root    two ed25519 root keys, threshold 2; ecdsa for the timestamp; an RSA key beside an ed25519 key for the snapshot
  2.root    rotates the timestamp key and one root key
  timestamp, 1.snapshot, 1.targets, 1.releases (ecdsa, threshold 2), 1.deployments (terminating),
  bins/     a second repository, with succinct hash bins (TAP 15); only the bins that hold targets are kept
"""

import copy
import hashlib
import pathlib
from datetime import datetime, timezone

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole, Delegations, Metadata, MetaFile, Role, Root, Snapshot, SuccinctRoles, TargetFile, Targets, Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

HERE = pathlib.Path(__file__).parent
EXPIRES = datetime(2040, 1, 1, tzinfo=timezone.utc)
WRITER = JSONSerializer(compact=False)


def ed():
    return CryptoSigner.generate_ed25519()


def ec():
    return CryptoSigner.generate_ecdsa()


def rsa():
    return CryptoSigner.generate_rsa()


def role(signers, threshold):
    return Role([signer.public_key.keyid for signer in signers], threshold)


def seal(signed, signers, name, folder=HERE):
    metadata = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    data = metadata.to_bytes(WRITER)
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_bytes(data)
    return data


def listed(data, version=1):
    return MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest(), "sha512": hashlib.sha512(data).hexdigest()})


def root(version, signers, thresholds):
    keys = {s.public_key.keyid: s.public_key for group in signers.values() for s in group}
    roles = {name: role(group, thresholds[name]) for name, group in signers.items()}
    return Root(version=version, expires=EXPIRES, keys=keys, roles=roles, consistent_snapshot=True,
                unrecognized_fields={"x-note": "kept \u00e9 \"quoted\" \\ back\n"})


def target(path, content, kind):
    file = TargetFile.from_data(path, content)
    file.unrecognized_fields["custom"] = {"sanderling": {"kind": kind}}
    return file


def main_repository():
    old_root, shared_root, new_root = ed(), ed(), ec()
    old_timestamp, new_timestamp = ec(), ed()
    snapshot_keys, targets_key = [rsa(), ed()], ed()
    releases, deployments = [ec(), ec(), ed()], [ed()]
    thresholds = {"root": 2, "timestamp": 1, "snapshot": 1, "targets": 1}
    first = {"root": [old_root, shared_root], "timestamp": [old_timestamp], "snapshot": snapshot_keys, "targets": [targets_key]}
    seal(root(1, first, thresholds), first["root"], "1.root")
    second = dict(first, root=[shared_root, new_root], timestamp=[new_timestamp])
    seal(root(2, second, thresholds), [old_root, shared_root, new_root], "2.root")

    keys = {s.public_key.keyid: s.public_key for s in releases + deployments}
    delegations = Delegations(keys, {
        "releases": DelegatedRole("releases", role(releases, 2).keyids, 2, False, ["modules/*", "modules/*/*", "models/*", "models/*/*"]),
        "deployments": DelegatedRole("deployments", role(deployments, 1).keyids, 1, True, ["deployments/*"]),
    })
    top = seal(Targets(expires=EXPIRES, delegations=delegations), [targets_key], "1.targets")
    files = {path: target(path, content, kind) for path, content, kind in [
        ("modules/defect/1.0.0.wasm", b"\0asm", "module"), ("models/defect/1.onnx", b"onnx", "model"),
        # releases is not trusted for this path
        ("deployments/stolen", b"{}", "deployment"),
    ]}
    rel = seal(Targets(expires=EXPIRES, targets=files), releases[:2], "1.releases")
    files = {"deployments/line-a": target("deployments/line-a", b"{}", "deployment")}
    dep = seal(Targets(expires=EXPIRES, targets=files), deployments, "1.deployments")
    meta = {"targets.json": listed(top), "releases.json": listed(rel), "deployments.json": MetaFile(1)}
    snapshot = seal(Snapshot(expires=EXPIRES, meta=meta), snapshot_keys, "1.snapshot")
    seal(Timestamp(expires=EXPIRES, snapshot_meta=listed(snapshot)), [new_timestamp], "timestamp")


def bins_repository():
    folder = HERE / "bins"
    key = ed()
    group = {name: [key] for name in ("root", "timestamp", "snapshot", "targets")}
    seal(root(1, group, dict.fromkeys(group, 1)), [key], "1.root", folder)
    bins = SuccinctRoles([key.public_key.keyid], 1, 5, "bin")
    contents = {name: Targets(expires=EXPIRES) for name in bins.get_roles()}
    for path in ("models/a", "models/b"):
        contents[bins.get_role_for_target(path)].targets[path] = target(path, path.encode(), "model")
    meta = {}
    for name, signed in contents.items():
        data = Metadata(copy.deepcopy(signed))
        data.sign(key)
        data = data.to_bytes(WRITER)
        meta[f"{name}.json"] = listed(data)
        if signed.targets:
            (folder / f"1.{name}.json").write_bytes(data)
    top = seal(Targets(expires=EXPIRES, delegations=Delegations({key.public_key.keyid: key.public_key}, succinct_roles=bins)),
               [key], "1.targets", folder)
    meta["targets.json"] = listed(top)
    snapshot = seal(Snapshot(expires=EXPIRES, meta=meta), [key], "1.snapshot", folder)
    seal(Timestamp(expires=EXPIRES, snapshot_meta=listed(snapshot)), [key], "timestamp", folder)


if __name__ == "__main__":
    main_repository()
    bins_repository()
