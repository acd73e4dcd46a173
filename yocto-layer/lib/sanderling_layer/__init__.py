# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the recipes of meta-sanderling compute, apart from BitBake, so that it can be tested without it."""

BBIMPORTS = ["placeholders"]
