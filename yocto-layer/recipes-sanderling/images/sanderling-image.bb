SUMMARY = "A gateway: read-only root, data partition, the Sanderling agent, and little else"
DESCRIPTION = "For qemuarm64 and the machines of meta-raspberrypi with a layout of partitions; for others bring a .wks file with a partition of the label `data`."
HOMEPAGE = "https://github.com/sanderling-iot/sanderling"
BUGTRACKER = "https://github.com/sanderling-iot/sanderling/issues"
SECTION = "base"
# Without SPDX's OR before blacksail.
LICENSE = "MIT ${@bb.utils.contains('LAYERSERIES_CORENAMES', 'blacksail', 'OR', '|', d)} Apache-2.0"

REQUIRED_DISTRO_FEATURES = "systemd"

IMAGE_FEATURES += "read-only-rootfs"
IMAGE_LINGUAS = ""
IMAGE_INSTALL = "\
    packagegroup-core-boot \
    packagegroup-sanderling \
    sanderling-boot-check \
    sanderling-data \
    ${CORE_IMAGE_EXTRA_INSTALL} \
"

# The data partition, as wic writes sizes.
SANDERLING_DATA_SIZE ?= "512M"

IMAGE_FSTYPES:append:qemuarm64 = " wic"
WKS_FILE:qemuarm64 = "sanderling-qemu.wks.in"
# nooelint: oelint.vars.specific
WKS_FILE:rpi = "sanderling-raspberrypi.wks.in"

# runqemu starts the kernel itself, with the first partition as its root.
QB_DEFAULT_FSTYPE:qemuarm64 = "wic"
QB_KERNEL_ROOT:qemuarm64 = "/dev/vda1 ro"
QB_MEM:qemuarm64 = "-m 512"

inherit core-image features_check sanderling_placeholders
