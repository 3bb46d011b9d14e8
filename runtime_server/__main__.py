"""``python -m runtime_server``."""

from runtime_server.cli.main import main

if __name__ == "__main__":
    main(prog_name="python -m runtime_server")
