"""One self-contained page about models that were proved or compared."""
