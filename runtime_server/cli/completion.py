"""``completion``: the shell completes commands, options and runtimes' names."""

from __future__ import annotations

import click

from runtime_server.cli.values import examples

PROGRAM = "runtime-server"
VARIABLE = "_RUNTIME_SERVER_COMPLETE"
"""By which the shell asks; click makes it of the program's name."""


@click.command(
    epilog=examples(
        "source <(runtime-server completion bash)",
        "runtime-server completion bash > /etc/bash_completion.d/runtime-server",
        'runtime-server completion zsh > "${fpath[1]}/_runtime-server"',
        "runtime-server completion fish > ~/.config/fish/completions/runtime-server.fish",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that lets a shell complete.

    It completes commands, options and the names of runtimes.
    """
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None
    root = context.find_root().command
    # Not source(), which asks the shell for its version: the script may be made for another machine.
    script = made(root, {}, PROGRAM, VARIABLE)
    click.echo(script.source_template % script.source_vars())
