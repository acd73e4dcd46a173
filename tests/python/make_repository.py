#!/usr/bin/env python3
"""Makes a repository with python-tuf, in two states, and tampered variants of the second.

    make_repository.py FOLDER

FOLDER/input holds `first.wasm`, `first.json`, `second.wasm` and `second.json`: a module and the deployment document that names it,
for each state. What is made, with keys that are thrown away:

  first/     root 1, and everything else at version 1
  second/    roots 1 to 3 (2 replaces a root key, 3 the timestamp key), and everything else at version 2
  tampered/  one folder a case: the files that replace those of second/
  cases.json for each case the state that is trusted before, the error's name, and the role that it names

Roles: targets (2 of ed25519, ecdsa) delegates to releases (2 of ed25519, ecdsa, rsa) by paths and to deployments (ed25519,
terminating) by paths; releases delegates to eight hash bins (ecdsa), of which each lists what falls into it.
"""

import copy
import hashlib
import json
import pathlib
import sys
from datetime import datetime, timedelta, timezone

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole, Delegations, Metadata, MetaFile, Role, Root, Snapshot, SuccinctRoles, TargetFile, Targets, Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

LATER = datetime(2040, 1, 1, tzinfo=timezone.utc)
PAST = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(days=1)
WRITER = JSONSerializer(compact=False)
BINS = 3


class Keys:
    """All keys, by who holds them."""

    def __init__(self):
        ed, ec, rsa = CryptoSigner.generate_ed25519, CryptoSigner.generate_ecdsa, CryptoSigner.generate_rsa
        self.root = [ed(), ec(), rsa()]
        self.next_root = [self.root[0], self.root[1], ed()]
        self.timestamp, self.next_timestamp = [ec()], [ed()]
        self.snapshot = [ed()]
        self.targets = [ed(), ec()]
        self.releases = [ed(), ec(), rsa()]
        self.deployments = [ed()]
        self.bins = [ec()]
        self.stranger = [ed()]


def ids(signers):
    return [signer.public_key.keyid for signer in signers]


def listed_keys(*groups):
    return {signer.public_key.keyid: signer.public_key for group in groups for signer in group}


def seal(signed, signers):
    """Signed metadata as the bytes that a repository serves."""
    metadata = Metadata(copy.deepcopy(signed))
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes(WRITER)


def meta(data, version):
    return MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest(), "sha512": hashlib.sha512(data).hexdigest()})


def make_root(version, root_keys, timestamp_keys, keys):
    groups = {"root": root_keys, "timestamp": timestamp_keys, "snapshot": keys.snapshot, "targets": keys.targets}
    thresholds = {"root": 2, "timestamp": 1, "snapshot": 1, "targets": 2}
    roles = {name: Role(ids(group), thresholds[name]) for name, group in groups.items()}
    return Root(version, expires=LATER, keys=listed_keys(*groups.values()), roles=roles, consistent_snapshot=True,
                unrecognized_fields={"x-note": 'kept é "quoted" \\ back\n'})


def target(path, content, says):
    file = TargetFile.from_data(path, content, ["sha256", "sha512"])
    file.unrecognized_fields["custom"] = {"sanderling": says}
    return file


class State:
    """The targets roles, snapshot and timestamp of one version, each a value that a case may change before it is sealed."""

    def __init__(self, version, keys, given, timestamp_keys):
        self.version, self.keys = version, keys
        self.signers = {"timestamp": timestamp_keys, "snapshot": keys.snapshot, "targets": keys.targets,
                        "releases": keys.releases[:2], "deployments": keys.deployments}
        self.roles = {}
        self.roles["targets"] = Targets(version, expires=LATER, delegations=Delegations(
            listed_keys(keys.releases, keys.deployments), {
                "releases": DelegatedRole("releases", ids(keys.releases), 2, False,
                                          ["modules/*", "modules/*/*", "models/*", "models/*/*"]),
                "deployments": DelegatedRole("deployments", ids(keys.deployments), 1, True, ["deployments/*"]),
            }))
        self.bins = SuccinctRoles(ids(keys.bins), 1, BINS, "bin")
        self.roles["releases"] = Targets(version, expires=LATER, delegations=Delegations(
            listed_keys(keys.bins), succinct_roles=self.bins))
        for name in self.bins.get_roles():
            self.roles[name] = Targets(version, expires=LATER)
            self.signers[name] = keys.bins
        self.roles["deployments"] = Targets(version, expires=LATER)
        self.dropped = []
        self.misnamed = {}
        self.unlisted = False
        self.snapshot = self.timestamp = version
        self.snapshot_lists = {}
        self.timestamp_lists = None
        self.expired = set()
        self.fill(given)

    def fill(self, given):
        ceiling = {"grants": ["emit:*", "infer"], "memory_mib": 32, "deadline_ms": 1000}
        document = json.loads(given["json"])
        path = document["modules"][0]["module"]
        self.module_bin = self.bins.get_role_for_target(path)
        self.roles[self.module_bin].targets[path] = target(
            path, given["wasm"], {"kind": "module", "abi": 1, "ceiling": ceiling})
        # What no delegation covers is to be seen by nobody.
        self.roles[self.module_bin].targets["deployments/stolen.json"] = target("x", b"{}", {"kind": "deployment"})
        name = f"deployments/{document['name']}.json"
        self.roles["deployments"].targets[name] = target(
            name, given["json"], {"kind": "deployment", "audience": {}, "percent": 100, "salt": "s", "priority": 0})
        self.roles["deployments"].targets["modules/stolen.wasm"] = target("x", b"\0asm", {"kind": "module"})

    def sealed(self, name, signed):
        if name in self.expired:
            signed = copy.deepcopy(signed)
            signed.expires = PAST
        return seal(signed, self.signers[name])

    def files(self):
        """By name, what a repository serves."""
        made, lists = {}, {}
        for name, signed in self.roles.items():
            data = self.sealed(name, signed)
            made[f"{self.version}.{name}"] = data
            version = self.snapshot_lists.get(name, self.version)
            lists[f"{name}.json"] = MetaFile(version) if self.unlisted else meta(data, version)
        for name in self.dropped:
            del lists[f"{name}.json"]
        snapshot = self.sealed("snapshot", Snapshot(self.misnamed.get("snapshot", self.snapshot), expires=LATER, meta=lists))
        made[f"{self.snapshot}.snapshot"] = snapshot
        version = self.timestamp_lists or self.snapshot
        lists = MetaFile(version) if self.unlisted else meta(snapshot, version)
        made["timestamp"] = self.sealed("timestamp", Timestamp(self.timestamp, expires=LATER, snapshot_meta=lists))
        return made


def save(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / f"{name}.json").write_bytes(data)


def tampered(make, roots, keys):
    """name: (state that is trusted before, error, role, files that replace those of the second state)."""
    cases = {}

    def case(name, before, error, role, change=lambda state: None, files=None):
        state = make()
        change(state)
        made = state.files() if files is None else files(state.files())
        cases[name] = (before, error, role, made)

    def resign(role, signers):
        return lambda state: state.signers.update({role: signers})

    def expire(role):
        return lambda state: state.expired.add(role)

    second = roots["2.root"].decode()
    case("a root that the old keys did not sign", "first", "Threshold", "root", files=lambda made: made | {
        "2.root": seal(make_root(2, keys.next_root, keys.timestamp, keys), keys.next_root[2:])})
    case("a root that skips a version", "first", "NotNextRoot", "", files=lambda made: made | {
        "2.root": seal(make_root(3, keys.next_root, keys.timestamp, keys), keys.next_root)})
    case("a root that was edited", "first", "Threshold", "root", files=lambda made: made | {
        "2.root": second.replace('"threshold": 2', '"threshold": 1', 1).encode()})
    case("a timestamp by the replaced key", "first", "Threshold", "timestamp", resign("timestamp", keys.timestamp))
    case("a timestamp that is older", "second", "Rollback", "timestamp", lambda state: setattr(state, "timestamp", 1))

    def lists_older_snapshot(state):
        state.timestamp, state.timestamp_lists = 3, 1

    case("a timestamp that lists an older snapshot", "second", "ListedRollback", "snapshot", lists_older_snapshot)

    def lists_older_role(state):
        state.timestamp = state.snapshot = 3
        state.snapshot_lists = {"releases": 1}

    case("a snapshot that lists an older role", "second", "ListedRollback", "releases", lists_older_role)

    def drops_role(state):
        state.timestamp = state.snapshot = 3
        state.dropped = ["deployments"]

    case("a snapshot that no longer lists a role", "second", "Unlisted", "deployments", drops_role)

    def mixes(state):
        state.unlisted = True
        state.misnamed["snapshot"] = 1

    case("a snapshot of another version", "first", "MixAndMatch", "snapshot", mixes)
    case("a snapshot by a stranger", "first", "Threshold", "snapshot", resign("snapshot", keys.stranger))
    case("targets by one of two keys", "first", "Threshold", "targets", resign("targets", keys.targets[:1]))
    case("releases by one key and a stranger", "first", "Threshold", "releases",
         resign("releases", keys.releases[:1] + keys.stranger))
    case("deployments by a release key", "first", "Threshold", "deployments", resign("deployments", keys.releases[:1]))

    def foreign_bin(state):
        state.signers[state.module_bin] = keys.stranger

    case("a hash bin by a stranger", "first", "Threshold", make().module_bin, foreign_bin)

    def one_key_twice(state):
        key = copy.deepcopy(keys.releases[0].public_key)
        key.keyid = "another-name"
        delegations = state.roles["targets"].delegations
        delegations.keys[key.keyid] = key
        delegations.roles["releases"].keyids.append(key.keyid)
        twin = CryptoSigner(keys.releases[0]._private_key, key)
        state.signers["releases"] = [keys.releases[0], twin]

    case("releases by one key under two names", "first", "Threshold", "releases", one_key_twice)
    for role in ("timestamp", "snapshot", "targets", "releases", "deployments"):
        case(f"expired {role}", "first", "Expired", role, expire(role))
    case("an expired hash bin", "first", "Expired", make().module_bin, lambda state: state.expired.add(state.module_bin))
    case("releases with other content", "first", "WrongDigest", "releases", files=lambda made: made | {
        "2.releases": made["2.releases"].replace(b"2040-", b"2041-")})
    case("a cut snapshot", "first", "WrongLength", "snapshot", files=lambda made: made | {"2.snapshot": made["2.snapshot"][:-1]})
    case("a snapshot that goes on and on", "first", "TooLong", "snapshot", files=lambda made: made | {
        "2.snapshot": made["2.snapshot"] + b" " * 1_000_000})
    case("a role that is not there", "first", "Unavailable", "deployments", files=lambda made: {
        name: data if name != "2.deployments" else b"" for name, data in made.items()})
    return cases


def main():
    folder = pathlib.Path(sys.argv[1])
    given = {state: {kind: (folder / "input" / f"{state}.{kind}").read_bytes() for kind in ("wasm", "json")}
             for state in ("first", "second")}
    keys = Keys()
    roots = {
        "1.root": seal(make_root(1, keys.root, keys.timestamp, keys), keys.root[1:]),
        "2.root": seal(make_root(2, keys.next_root, keys.timestamp, keys), keys.root + keys.next_root[2:]),
        "3.root": seal(make_root(3, keys.next_root, keys.next_timestamp, keys), keys.next_root[1:]),
    }
    save(folder / "first", {"1.root": roots["1.root"]} | State(1, keys, given["first"], keys.timestamp).files())

    def second():
        return State(2, keys, given["second"], keys.next_timestamp)

    save(folder / "second", roots | second().files())
    told = {}
    for number, (name, (before, error, role, files)) in enumerate(tampered(second, roots, keys).items()):
        save(folder / "tampered" / str(number), files)
        told[name] = {"folder": str(number), "before": before, "error": error, "role": role}
    (folder / "cases.json").write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
