"""One script per question. Each prints what it measured; `--json` prints one object, README's table is made of it."""
