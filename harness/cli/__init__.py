"""The command line: one file per command or small group, loaded when it is called."""
