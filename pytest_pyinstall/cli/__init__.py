"""The command line: a group of commands per file, each parser beside its body."""
