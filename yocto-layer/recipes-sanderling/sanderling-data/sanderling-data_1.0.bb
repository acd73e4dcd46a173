SUMMARY = "What a Sanderling gateway with a read-only root keeps, on a data partition"
DESCRIPTION = "Mounts the partition with the label `data` at /data, and binds its folders to where programs look for them. An entry for /data in the image's fstab, such as Mender's, takes the place of the mount unit."
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
    file://data.mount \
    file://persistent.mount.in \
"

inherit features_check systemd

REQUIRED_DISTRO_FEATURES = "systemd"

S = "${UNPACKDIR}"

# Folders that outlive power cuts and new images, in /data under the same path. Without the clock that timesyncd keeps, a
# gateway without a battery starts in the past, where nothing has expired.
SANDERLING_PERSISTENT ?= "\
    ${localstatedir}/lib/sanderling \
    ${localstatedir}/lib/systemd/timesync \
    ${sysconfdir}/sanderling/device \
"
SANDERLING_PERSISTENT_UNITS = "${@' '.join(f[1:].replace('/', '-') + '.mount' for f in d.getVar('SANDERLING_PERSISTENT').split())}"

SYSTEMD_SERVICE:${PN} = "data.mount ${SANDERLING_PERSISTENT_UNITS}"

do_configure[noexec] = "1"

do_compile() {
    for folder in ${SANDERLING_PERSISTENT}; do
        case $folder in
        # The names of units escape all else.
        *[!A-Za-z0-9_./]* | *//* | */ | */.* | [!/]*)
            bbfatal "SANDERLING_PERSISTENT has $folder: absolute paths of A-Z a-z 0-9 _ . are allowed"
            ;;
        esac
        sed -e "s#@FOLDER@#$folder#g" ${UNPACKDIR}/persistent.mount.in > ${B}/$(echo ${folder#/} | tr / -).mount
    done
}

do_install() {
    install -d ${D}/data ${D}${systemd_system_unitdir}
    install -m 0644 ${UNPACKDIR}/data.mount ${D}${systemd_system_unitdir}/
    for unit in ${SANDERLING_PERSISTENT_UNITS}; do
        install -m 0644 ${B}/$unit ${D}${systemd_system_unitdir}/
    done
    # Where the root cannot be written, systemd cannot make what it mounts upon.
    for folder in ${SANDERLING_PERSISTENT}; do
        install -d ${D}$folder
    done
}

FILES:${PN} += "/data ${SANDERLING_PERSISTENT}"

RDEPENDS:${PN} = "e2fsprogs-e2fsck"
