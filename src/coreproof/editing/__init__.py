"""Edits of the stored file: verbs written once, an editor a format, scripts that can be replayed."""
