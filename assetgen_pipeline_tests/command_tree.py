"""Every command that there is."""

import click


def leaves(command, words=()):
    """Every command below one, with the words that call it."""
    if not isinstance(command, click.Group):
        yield list(words), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        yield from leaves(command.get_command(context, name), (*words, name))
