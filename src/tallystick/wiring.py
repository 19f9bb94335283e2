"""Settings → parts, by URL scheme. The only module that names a backend."""
