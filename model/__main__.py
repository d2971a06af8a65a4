"""`python -m model [NAME ...]`: see `--help`."""

from model.command import main

if __name__ == "__main__":
    main()
