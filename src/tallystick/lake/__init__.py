"""Where a continuous export writes: a folder or a bucket, and the manifests that say which of its files count."""
