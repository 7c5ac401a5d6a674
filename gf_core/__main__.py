"""`python -m gf_core` is the `grounded` command."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
