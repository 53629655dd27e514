"""`python -m hapgop` is `hapgop`."""

from hapgop.cli import main

if __name__ == "__main__":
    main()
