"""The command line. Each file has a group of commands, with their parsers."""
