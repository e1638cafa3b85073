"""Where data come from: one file per dataset or folder layout, a registry, fingerprints."""
