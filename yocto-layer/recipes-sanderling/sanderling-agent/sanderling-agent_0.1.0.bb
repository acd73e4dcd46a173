SUMMARY = "Gateway agent that runs signed WebAssembly modules and ONNX models"
DESCRIPTION = "Sanderling pulls modules and models over MQTT, checks them against The Update Framework, runs them in confined processes, feeds them frames from sensors, and sends what they find back, through power cuts, dead links and bad updates."
HOMEPAGE = "https://github.com/sanderling-iot/sanderling"
BUGTRACKER = "https://github.com/sanderling-iot/sanderling/issues"
SECTION = "net"
# Without SPDX's OR before blacksail.
LICENSE = "MIT ${@bb.utils.contains('LAYERSERIES_CORENAMES', 'blacksail', 'OR', '|', d)} Apache-2.0"
LIC_FILES_CHKSUM = "\
    file://LICENSE-MIT;md5=9ede1dd8888e5e8347dd14151624c623 \
    file://LICENSE-APACHE;md5=22a53954e4e0ec258dfce4391e905dac \
"

SRC_URI = "git://github.com/sanderling-iot/sanderling.git;protocol=https;branch=main"
# The list of crates is that of this commit: scripts/crates --pin moves both.
SRCREV = "0f6a85861609b0f25aea6c0b54365b721e6ea1df"

require ${BPN}-crates.inc
require recipes-sanderling/includes/sanderling-user.inc

CVE_PRODUCT = "sanderling-iot:sanderling"

inherit cargo cargo-update-recipe-crates features_check systemd

REQUIRED_DISTRO_FEATURES = "systemd"

# The agent's features in cargo, with its own defaults: families of sensors, sinks and what they are told by.
PACKAGECONFIG ??= "gpio home-assistant http iio metrics modbus serial v4l2"
PACKAGECONFIG[gpio] = "--features=sanderling-agent/gpio"
PACKAGECONFIG[home-assistant] = "--features=sanderling-agent/home-assistant"
PACKAGECONFIG[http] = "--features=sanderling-agent/http"
PACKAGECONFIG[iio] = "--features=sanderling-agent/iio"
PACKAGECONFIG[metrics] = "--features=sanderling-agent/metrics"
PACKAGECONFIG[modbus] = "--features=sanderling-agent/modbus"
PACKAGECONFIG[serial] = "--features=sanderling-agent/serial"
PACKAGECONFIG[sparkplug] = "--features=sanderling-agent/sparkplug"
PACKAGECONFIG[v4l2] = "--features=sanderling-agent/v4l2"

# The build strips its programs; here the symbols go into the package -dbg first.
CARGO_BUILD_FLAGS += "\
    --no-default-features \
    --config=profile.release.strip=false \
    --config=profile.release.package.sanderling-runtime.strip=false \
"

# cargo's own words for a crate that was not fetched name neither the recipe nor the cure.
python do_check_crates() {
    import re

    with open(d.getVar('CARGO_LOCK_PATH'), encoding='utf-8') as file:
        packages = file.read().split('[[package]]')
    fetched = set(re.findall(r'crate://crates\.io/(\S+/\S+)', d.getVar('SRC_URI')))
    wanted = set()
    for package in packages:
        found = re.search(r'^name = "(.+)"\nversion = "(.+)"\nsource = ', package, re.M)
        if found:
            wanted.add('/'.join(found.groups()))
    missing = sorted(wanted - fetched)
    if missing:
        bb.fatal('%s names %d crates that the recipe does not fetch (%s ...): write the list anew with scripts/crates '
                 'of the layer, or `bitbake -c update_crates %s`'
                 % (d.getVar('CARGO_LOCK_PATH'), len(missing), ', '.join(missing[:3]), d.getVar('PN')))
}
do_check_crates[doc] = "Sees that every crate of Cargo.lock is fetched"
addtask check_crates after do_patch before do_configure

do_install:append() {
    install -d ${D}${libexecdir}/sanderling
    mv ${D}${bindir}/sanderling-worker ${D}${libexecdir}/sanderling/

    for unit in sanderling-agent sanderling-agent-retry; do
        install -D -m 0644 ${S}/agent/dist/systemd/$unit.service -t ${D}${systemd_system_unitdir}
    done
    install -D -m 0644 ${S}/agent/dist/sysusers.d/sanderling.conf -t ${D}${nonarch_libdir}/sysusers.d
    install -D -m 0644 ${S}/agent/dist/tmpfiles.d/sanderling.conf -t ${D}${nonarch_libdir}/tmpfiles.d
    install -D -m 0644 ${S}/agent/dist/man/sanderling-agent.8 -t ${D}${mandir}/man8
    install -D -m 0644 ${S}/agent/dist/agent.toml -t ${D}${docdir}/${BPN}

    for kind in ${DEVICES}; do
        install -D -m 0644 ${S}/agent/dist/systemd/devices/$kind.conf -t ${D}${systemd_system_unitdir}/sanderling-agent.service.d
    done
    for kind in gpio iio; do
        install -D -m 0644 ${S}/agent/dist/udev/60-sanderling-$kind.rules -t ${D}${nonarch_base_libdir}/udev/rules.d
    done
}

SYSTEMD_SERVICE:${PN} = "sanderling-agent.service"

# Devices that the unit keeps closed, and a package each that opens them to the agent.
DEVICES = "gpio iio serial v4l2"
PACKAGE_BEFORE_PN += "${PN}-gpio ${PN}-iio ${PN}-serial ${PN}-v4l2"

# Groups that base-passwd does not have. systemd starts no service with a group that does not exist.
USERADD_PACKAGES += "${PN}-gpio ${PN}-iio"
GROUPADD_PARAM:${PN}-gpio = "--system gpio"
GROUPADD_PARAM:${PN}-iio = "--system iio"

FILES:${PN} += "\
    ${nonarch_libdir}/sysusers.d \
    ${nonarch_libdir}/tmpfiles.d \
    ${systemd_system_unitdir}/sanderling-agent-retry.service \
"
FILES:${PN}-gpio += "\
    ${nonarch_base_libdir}/udev/rules.d/60-sanderling-gpio.rules \
    ${systemd_system_unitdir}/sanderling-agent.service.d/gpio.conf \
"
FILES:${PN}-iio += "\
    ${nonarch_base_libdir}/udev/rules.d/60-sanderling-iio.rules \
    ${systemd_system_unitdir}/sanderling-agent.service.d/iio.conf \
"
FILES:${PN}-serial += "${systemd_system_unitdir}/sanderling-agent.service.d/serial.conf"
FILES:${PN}-v4l2 += "${systemd_system_unitdir}/sanderling-agent.service.d/v4l2.conf"

RDEPENDS:${PN}-gpio = "${PN}"
RDEPENDS:${PN}-iio = "${PN}"
RDEPENDS:${PN}-serial = "${PN}"
RDEPENDS:${PN}-v4l2 = "${PN}"

# No must: a device may bring its configuration in another way, and a kernel have its drivers built in.
RRECOMMENDS:${PN} += "sanderling-config"
RRECOMMENDS:${PN}-iio = "kernel-module-industrialio"
RRECOMMENDS:${PN}-serial = "kernel-module-cdc-acm kernel-module-ftdi-sio"
RRECOMMENDS:${PN}-v4l2 = "kernel-module-uvcvideo"
