SUMMARY = "A Sanderling gateway"
DESCRIPTION = "The agent and its fleet's configuration, for any image with systemd."
HOMEPAGE = "https://github.com/sanderling-iot/sanderling"
BUGTRACKER = "https://github.com/sanderling-iot/sanderling/issues"
SECTION = "base"
# Without SPDX's OR before blacksail.
LICENSE = "MIT ${@bb.utils.contains('LAYERSERIES_CORENAMES', 'blacksail', 'OR', '|', d)} Apache-2.0"

inherit features_check packagegroup

REQUIRED_DISTRO_FEATURES = "systemd"

RDEPENDS:${PN} = "\
    sanderling-agent \
    sanderling-config \
"
