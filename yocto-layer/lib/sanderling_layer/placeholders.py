# SPDX-License-Identifier: MIT OR Apache-2.0
"""Tells whether a device's configuration still is what the layer ships, instead of a fleet's own.

The layer cannot know a fleet's broker and root of trust. What it ships in their place trusts nobody: an image with it
starts, the agent says what is wrong and ends with status 78. This module finds that before the image leaves the house.
It only reads, and never takes a file for right that it cannot read. It does not replace `sanderling-agent --check`,
which knows the whole configuration; it runs where no agent for the build machine exists.
"""

import json
import os
import re

_HOST = re.compile(r"""^[^#\n]*\bhost\s*=\s*["']([^"']*)["']""", re.M)
_CERTIFICATE = re.compile(r"^-----BEGIN CERTIFICATE-----$", re.M)


def _read(folder, name):
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            return file.read(), None
    except (OSError, UnicodeDecodeError) as error:
        return None, "%s cannot be read: %s" % (name, getattr(error, "strerror", None) or error)


def _is_reserved(host):
    """Whether RFC 2606 keeps the name from ever being a broker's."""
    labels = host.lower().rstrip(".").split(".")
    return labels[-1] in ("example", "invalid") or labels[-2:-1] == ["example"] and labels[-1] in ("com", "net", "org")


def _broker(text):
    if any(_is_reserved(host) for host in _HOST.findall(text)):
        return "agent.toml: broker.host is a placeholder; write the host name of your fleet's broker"
    return None


def _authority(text):
    if not _CERTIFICATE.search(text):
        return "ca.pem holds no certificate; put your broker's CA there (`ca.pem` of `sanderling provision`)"
    return None


def _root(text):
    advice = "put your fleet's there (`root.json` of `sanderling provision`)"
    try:
        root = json.loads(text)
        signed, signatures = root["signed"], root["signatures"]
        role = signed["roles"]["root"]
        signing = {each["keyid"] for each in signatures if each["sig"]} & set(role["keyids"]) & set(signed["keys"])
        complete = signed["_type"] == "root" and role["threshold"] >= 1 and len(signing) >= role["threshold"]
    except (ValueError, KeyError, TypeError):
        return "root.json is a placeholder and no root of trust; " + advice
    if not complete:
        return "root.json is no root metadata with the signatures that it demands; " + advice
    return None


_CHECKS = (("agent.toml", _broker), ("ca.pem", _authority), ("root.json", _root))


def findings(folder):
    """One sentence for each file in `folder` that is not a fleet's own; none if all are."""
    found = []
    for name, check in _CHECKS:
        text, unread = _read(folder, name)
        said = unread or check(text)
        if said:
            found.append(said)
    return found


def report(d, folder):
    """Warns of each finding, or ends the task where SANDERLING_PLACEHOLDERS is `error`."""
    import bb

    level = d.getVar("SANDERLING_PLACEHOLDERS") or "warn"
    if level not in ("warn", "error", "ignore"):
        bb.fatal('SANDERLING_PLACEHOLDERS is "%s"; allowed are warn, error and ignore' % level)
    found = findings(folder)
    for said in found:
        if level == "warn":
            bb.warn("sanderling-config: " + said)
        elif level == "error":
            bb.error("sanderling-config: " + said)
    if found and level == "error":
        bb.fatal("the image would trust nobody: see the lines above, and README.md of meta-sanderling")
