# nooelint: oelint.spaces.lineend
require ${@bb.utils.contains('DISTRO_FEATURES', 'sanderling', 'recipes-kernel/linux/sanderling-kernel.inc', '', d)}
