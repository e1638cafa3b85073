"""The site: static pages that open from disk, built from boards (see `build.write_site`)."""
