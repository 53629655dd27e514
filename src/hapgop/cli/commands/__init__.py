"""One file for each command; `hapgop.cli.app.COMMANDS` is the list."""
