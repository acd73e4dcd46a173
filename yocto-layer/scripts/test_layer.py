# SPDX-License-Identifier: MIT OR Apache-2.0
"""Tests of what the layer computes, without BitBake: `python3 -m unittest yocto-layer/scripts/test_layer.py`."""

import importlib.machinery
import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
import unittest

LAYER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SHIPPED = os.path.join(LAYER, "recipes-sanderling/sanderling-config/files")
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(LAYER, "lib"))

from sanderling_layer import placeholders  # noqa: E402

loader = importlib.machinery.SourceFileLoader("crates", os.path.join(LAYER, "scripts/crates"))
crates = importlib.util.module_from_spec(importlib.util.spec_from_loader("crates", loader))
loader.exec_module(crates)

ROOT = {
    "signatures": [{"keyid": "ab", "sig": "00"}],
    "signed": {"_type": "root", "keys": {"ab": {}, "cd": {}}, "roles": {"root": {"keyids": ["ab", "cd"], "threshold": 1}}},
}


class Placeholders(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.put("agent.toml", '[broker]\nhost = "broker.fleet.net"\n')
        self.put("ca.pem", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n")
        self.put("root.json", json.dumps(ROOT))

    def put(self, name, text):
        with open(os.path.join(self.folder, name), "w", encoding="utf-8") as file:
            file.write(text)

    def root(self, **changes):
        root = json.loads(json.dumps(ROOT))
        root["signed"]["roles"]["root"].update(changes)
        return root

    def assert_found(self, *names):
        found = [re.split(r"[ :]", said)[0] for said in placeholders.findings(self.folder)]
        self.assertEqual(found, list(names))

    def test_a_fleets_own_files_are_none(self):
        self.assert_found()

    def test_each_file_of_the_layer_is_one(self):
        self.assertEqual(len(placeholders.findings(SHIPPED)), 3)

    def test_finds_brokers_that_cannot_be(self):
        for host in ("broker.invalid", "example.com", "mqtt.example.org", "a.example", "EXAMPLE.NET."):
            self.put("agent.toml", "[broker]\n  host = '%s'\n" % host)
            self.assert_found("agent.toml")

    def test_finds_them_however_the_table_is_written(self):
        for text in ('broker.host = "broker.invalid"', 'broker = { port = 1, host = "broker.invalid" }'):
            self.put("agent.toml", text)
            self.assert_found("agent.toml")

    def test_leaves_brokers_alone_that_only_look_like_it(self):
        for host in ("myexample.com", "example.company.net", "invalid.net", "10.0.0.1"):
            self.put("agent.toml", '# host = "broker.invalid"\nhost = "%s"\n' % host)
            self.assert_found()

    def test_finds_a_root_that_is_not_signed_as_it_demands(self):
        for root in (self.root(threshold=2), self.root(threshold=0), self.root(keyids=["cd"]), self.root(keyids=["ef"])):
            self.put("root.json", json.dumps(root))
            self.assert_found("root.json")

    def test_finds_what_is_no_root(self):
        targets = json.loads(json.dumps(ROOT))
        targets["signed"]["_type"] = "targets"
        for text in ("", "[]", "null", '{"signed":[]}', json.dumps(targets)):
            self.put("root.json", text)
            self.assert_found("root.json")

    def test_finds_files_that_are_not_there_or_not_text(self):
        os.remove(os.path.join(self.folder, "ca.pem"))
        with open(os.path.join(self.folder, "root.json"), "wb") as file:
            file.write(b"\xff\xfe")
        self.assert_found("ca.pem", "root.json")

    def test_takes_a_key_for_no_certificate(self):
        self.put("ca.pem", "-----BEGIN PRIVATE KEY-----\n")
        self.assert_found("ca.pem")


class Crates(unittest.TestCase):
    LOCK = '[[package]]\nname = "a"\nversion = "1.0.0"\nsource = "%s"\nchecksum = "00"\n' % crates.REGISTRY

    def test_lists_crates_with_their_checksums_and_leaves_ours_out(self):
        text = crates.listing(self.LOCK + '[[package]]\nname = "ours"\nversion = "0.1.0"\n')
        self.assertIn("crate://crates.io/a/1.0.0 \\\n", text)
        self.assertIn('SRC_URI[a-1.0.0.sha256sum] = "00"\n', text)
        self.assertNotIn("ours", text)

    def test_refuses_what_cannot_be_fetched(self):
        for lock in (self.LOCK.replace("registry+", "git+"), self.LOCK.replace('checksum = "00"\n', "")):
            with self.assertRaises(crates.Refused):
                crates.listing(lock)


class Recipes(unittest.TestCase):
    def read(self, path):
        with open(os.path.join(LAYER, path), encoding="utf-8") as file:
            return file.read()

    def test_offers_each_feature_of_the_agent_and_takes_its_defaults(self):
        import tomllib

        features = tomllib.loads(self.read("../agent/Cargo.toml")).get("features", {})
        recipe = self.read("recipes-sanderling/sanderling-agent/sanderling-agent_0.1.0.bb")
        offered = set(re.findall(r'^PACKAGECONFIG\[([\w-]+)\] = "--features=sanderling-agent/\1[",]', recipe, re.M))
        taken = re.search(r'^PACKAGECONFIG \?\?= "([^"]*)"', recipe, re.M).group(1).split()
        self.assertEqual(offered, set(features) - {"default"})
        self.assertEqual(sorted(taken), sorted(features.get("default", [])))

    def test_has_a_package_for_each_kind_of_device(self):
        kinds = sorted(file.removesuffix(".conf") for file in os.listdir(os.path.join(LAYER, "../agent/dist/systemd/devices")))
        recipe = self.read("recipes-sanderling/sanderling-agent/sanderling-agent_0.1.0.bb")
        self.assertEqual(re.search(r'^DEVICES = "(.*)"', recipe, re.M).group(1).split(), kinds)
        for kind in kinds:
            self.assertIn("${PN}-%s " % kind, re.search(r'^PACKAGE_BEFORE_PN \+= "(.*)"', recipe, re.M).group(1) + " ")
            self.assertRegex(recipe, r"(?m)^FILES:\$\{PN\}-%s \+= " % kind)

    def test_opens_the_groups_that_the_drop_ins_name(self):
        recipe = self.read("recipes-sanderling/sanderling-agent/sanderling-agent_0.1.0.bb")
        # Those of base-passwd.
        there = {"dialout", "video"} | set(re.findall(r'^GROUPADD_PARAM:\S+ = "--system (\w+)"', recipe, re.M))
        folder = "../agent/dist/systemd/devices"
        for file in os.listdir(os.path.join(LAYER, folder)):
            named = re.findall(r"^SupplementaryGroups=(.*)", self.read(os.path.join(folder, file)), re.M)
            self.assertLessEqual(set(" ".join(named).split()), there, file)

    def test_installs_what_the_tree_has(self):
        recipe = self.read("recipes-sanderling/sanderling-agent/sanderling-agent_0.1.0.bb")
        for file in re.findall(r"\$\{S\}/(agent/dist/[^\s$]+) ", recipe):
            self.assertTrue(os.path.isfile(os.path.join(LAYER, "..", file)), file)


if __name__ == "__main__":
    unittest.main()
