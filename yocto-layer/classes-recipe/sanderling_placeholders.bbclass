# For images: says when the configuration that is installed is not a fleet's own. The recipe sanderling-config says it
# too, but a task that comes from the shared state says nothing; an image's file system never does.
#
# SANDERLING_PLACEHOLDERS: warn, error (no image is made) or ignore.

SANDERLING_PLACEHOLDERS ??= "warn"

ROOTFS_POSTPROCESS_COMMAND += "sanderling_placeholders"

sanderling_placeholders[doc] = "Says which files of the configuration are not a fleet's own"
python sanderling_placeholders() {
    import sanderling_layer.placeholders
    sanderling_layer.placeholders.report(d, d.expand("${IMAGE_ROOTFS}${sysconfdir}/sanderling"))
}
