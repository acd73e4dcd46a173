SUMMARY = "A new image is good only once the Sanderling agent runs"
DESCRIPTION = "Makes sanderling-agent.service a condition of boot-complete.target, after which RAUC, systemd-bless-boot and others mark what was booted as good."
HOMEPAGE = "https://github.com/sanderling-iot/sanderling"
BUGTRACKER = "https://github.com/sanderling-iot/sanderling/issues"
SECTION = "base"
# Without SPDX's OR before blacksail.
LICENSE = "MIT ${@bb.utils.contains('LAYERSERIES_CORENAMES', 'blacksail', 'OR', '|', d)} Apache-2.0"
# nooelint: oelint.var.licenseremotefile
LIC_FILES_CHKSUM = "\
    file://${COMMON_LICENSE_DIR}/MIT;md5=0835ade698e0bcf8506ecda2f7b4f302 \
    file://${COMMON_LICENSE_DIR}/Apache-2.0;md5=89aea4e17d99a7cacdbeed46a0096b10 \
"

SRC_URI = "file://boot-complete.conf"

inherit features_check

REQUIRED_DISTRO_FEATURES = "systemd"

S = "${UNPACKDIR}"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -D -m 0644 ${UNPACKDIR}/boot-complete.conf \
        ${D}${systemd_system_unitdir}/sanderling-agent.service.d/boot-complete.conf
    install -d ${D}${systemd_system_unitdir}/boot-complete.target.requires
    ln -s ../sanderling-agent.service ${D}${systemd_system_unitdir}/boot-complete.target.requires/
}

FILES:${PN} += "${systemd_system_unitdir}"

RDEPENDS:${PN} = "sanderling-agent"
