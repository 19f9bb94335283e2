"""Continuous exports: what was recorded, in files that are written once, and the manifests that make them count."""
