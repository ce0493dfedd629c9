"""`python -m tunesmith`, the command `tunesmith` for launchers that start a module, such as torchrun."""

from tunesmith.cli.main import main

if __name__ == "__main__":
    main()
