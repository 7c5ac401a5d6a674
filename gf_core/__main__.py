"""`python -m gf_core` is the `grounded` command."""

from .cli import program

if __name__ == "__main__":
    program()
