SUMMARY = "Configuration and root of trust of a fleet's Sanderling gateways"
DESCRIPTION = "What is the same on all gateways of a fleet: the broker, its CA and the root metadata that all trust comes from. Bring your fleet's agent.toml, ca.pem and root.json in an append. What makes a device itself, its certificate and key, is no part of an image: it lies in /etc/sanderling/device."
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

SRC_URI = "\
    file://agent.toml \
    file://ca.pem \
    file://root.json \
    file://provisioned.conf \
    file://sanderling-device.conf \
"

require recipes-sanderling/includes/sanderling-user.inc

S = "${UNPACKDIR}"

# warn, error or ignore.
SANDERLING_PLACEHOLDERS ??= "warn"

python do_check_placeholders() {
    import sanderling_layer.placeholders
    sanderling_layer.placeholders.report(d, d.getVar("UNPACKDIR"))
}
do_check_placeholders[doc] = "Says which files of the configuration are not a fleet's own"
addtask check_placeholders after do_unpack before do_install

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${sysconfdir}/sanderling/agent.toml.d
    for file in agent.toml ca.pem root.json; do
        install -m 0644 ${UNPACKDIR}/$file ${D}${sysconfdir}/sanderling/
    done
    # The device's own settings are laid over those of the fleet; there need not be any.
    ln -s ../device/agent.toml ${D}${sysconfdir}/sanderling/agent.toml.d/90-device.toml
    install -D -m 0644 ${UNPACKDIR}/sanderling-device.conf -t ${D}${nonarch_libdir}/tmpfiles.d
    install -D -m 0644 ${UNPACKDIR}/provisioned.conf -t ${D}${systemd_system_unitdir}/sanderling-agent.service.d
    # As in tmpfiles.d of the agent, which cannot change it where the root is read-only.
    chown -R root:sanderling ${D}${sysconfdir}/sanderling
    chmod 0750 ${D}${sysconfdir}/sanderling ${D}${sysconfdir}/sanderling/agent.toml.d
}

FILES:${PN} += "\
    ${nonarch_libdir}/tmpfiles.d \
    ${systemd_system_unitdir}/sanderling-agent.service.d/provisioned.conf \
"
CONFFILES:${PN} = "${sysconfdir}/sanderling/agent.toml"
