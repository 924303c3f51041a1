"""The commands that people type. Thin: arguments in, exit code out."""
