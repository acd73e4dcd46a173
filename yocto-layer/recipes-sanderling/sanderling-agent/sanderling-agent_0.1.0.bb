SUMMARY = "Gateway agent that runs signed WebAssembly modules and ONNX models"
DESCRIPTION = "Sanderling pulls modules and models over MQTT, checks them against The Update Framework, runs them in confined processes, feeds them frames from sensors, and sends what they find back, through power cuts, dead links and bad updates."
HOMEPAGE = "https://github.com/sanderling-iot/sanderling"
BUGTRACKER = "https://github.com/sanderling-iot/sanderling/issues"
SECTION = "net"
LICENSE = "MIT | Apache-2.0"
LIC_FILES_CHKSUM = "\
    file://LICENSE-MIT;md5=9ede1dd8888e5e8347dd14151624c623 \
    file://LICENSE-APACHE;md5=22a53954e4e0ec258dfce4391e905dac \
"

SRC_URI = "git://github.com/sanderling-iot/sanderling.git;protocol=https;branch=main"
# The list of crates is that of this commit: scripts/crates --pin moves both.
SRCREV = "81d79ed7c06d10b5c345c4b4ee5f9ccf26c58e56"

require ${BPN}-crates.inc

CVE_PRODUCT = "sanderling-iot:sanderling"

inherit cargo cargo-update-recipe-crates features_check systemd useradd

REQUIRED_DISTRO_FEATURES = "systemd"

# The kinds of sensors and sinks beyond those that are always there. `serial` is for lines of text.
PACKAGECONFIG ??= "gpio http iio modbus serial v4l2"
PACKAGECONFIG[gpio] = "--features=sanderling-agent/gpio"
PACKAGECONFIG[http] = "--features=sanderling-agent/http"
PACKAGECONFIG[iio] = "--features=sanderling-agent/iio,,,,kernel-module-industrialio"
PACKAGECONFIG[modbus] = "--features=sanderling-agent/modbus"
PACKAGECONFIG[serial] = "--features=sanderling-agent/serial,,,,kernel-module-cdc-acm kernel-module-ftdi-sio"
PACKAGECONFIG[v4l2] = "--features=sanderling-agent/v4l2,,,,kernel-module-uvcvideo"

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

    install -D -m 0644 ${S}/agent/dist/systemd/sanderling-agent.service -t ${D}${systemd_system_unitdir}
    install -D -m 0644 ${S}/agent/dist/sysusers.d/sanderling.conf -t ${D}${nonarch_libdir}/sysusers.d
    install -D -m 0644 ${S}/agent/dist/tmpfiles.d/sanderling.conf -t ${D}${nonarch_libdir}/tmpfiles.d
    install -D -m 0644 ${S}/agent/dist/agent.toml -t ${D}${docdir}/${BPN}
}

SYSTEMD_SERVICE:${PN} = "sanderling-agent.service"

# As in sysusers.d, which cannot add a user where the root is read-only.
USERADD_PACKAGES = "${PN}"
USERADD_PARAM:${PN} = "\
    --system --user-group --no-create-home --home-dir ${localstatedir}/lib/sanderling --shell ${base_sbindir}/nologin \
    sanderling \
"

FILES:${PN} += "${nonarch_libdir}/sysusers.d ${nonarch_libdir}/tmpfiles.d"

# Not a must: a device may bring its configuration in another way.
RRECOMMENDS:${PN} += "sanderling-config"
