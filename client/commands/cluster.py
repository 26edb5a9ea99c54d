"""`xlsr-live cluster`: the server on a Ray cluster."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click

from ...server.configuration import configure
from ...server.settings import ServerSettings
from ..console import needs
from ..options.defaults import known_names
from .serve import load_model

EPILOG = """\b
Examples: one machine needs no cluster of yours:
  xlsr-live serve --replicas 2

\b
On every machine, with xlsr-live[cluster] installed:
  eval "$(xlsr-live cluster environment --config server.yaml)"
  ray start --head --dashboard-host 127.0.0.1      (the first machine)
  ray start --address FIRST:6379                   (all others)
Then on the first one:
  xlsr-live cluster deploy server.yaml
  xlsr-live cluster status

\b
server.yaml has the settings of `xlsr-live serve --help`, for example:
  host: 0.0.0.0
  tokens_file: /etc/xlsr-live/tokens.toml
  replicas: 2
  max_replicas: 8
  replica_gpus: 0.5
Deploy again after a change: replicas are replaced one after the other, and open sessions move.
"""

address_option = click.option(
    "--address", default="auto", show_default=True, metavar="HOST:PORT", help="The Ray cluster; auto: this machine's."
)


@click.group(epilog=EPILOG, short_help="The server on several machines, with Ray Serve.")
def cluster() -> None:
    """Run many servers behind one address (docs/cluster.md).

    Every replica is a whole server with its own model. When one dies or stops, its sessions go on in another: clients
    send the last seconds again. More replicas start as sessions come; one that is no longer needed hands over its
    sessions first.
    """


@cluster.command()
@click.argument("config", type=click.Path(path_type=Path))
@address_option
def deploy(config: Path, address: str) -> None:
    """Start or change the replicas that the settings in CONFIG (YAML or TOML) describe.

    Returns when all replicas serve. `replicas` is their number, or with `max_replicas` the least; `replica_cpus` and
    `replica_gpus` are what Ray reserves for each. Each machine loads the model from `model`, a folder that is there or
    a name on Hugging Face.
    """
    settings = _settings(config)
    with needs("cluster", "a cluster"):
        from ...server.cluster.remote import deploy_to

        click.echo(deploy_to(address, settings, load_model))


@cluster.command()
@address_option
def status(address: str) -> None:
    """Show the replicas and their state. The exit status is 2 if the server is not there."""
    with needs("cluster", "a cluster"):
        from ...server.cluster.remote import status_of

        click.echo(status_of(address))


@cluster.command()
@address_option
def remove(address: str) -> None:
    """Let all sessions finish their utterances, then stop all replicas."""
    with needs("cluster", "a cluster"):
        from ...server.cluster.remote import remove_from

        remove_from(address)


@cluster.command()
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="The settings to be deployed.")
def environment(config: Path | None) -> None:
    """Print the variables that `ray start` needs on every machine, for the shell.

    Ray Serve reads them only when its processes start. docs/cluster.md says what each prevents.
    """
    with needs("cluster", "a cluster"):
        from ...server.cluster.environment import haproxy_binary, require_ray, serve_environment

        require_ray()
        for name, value in serve_environment(_settings(config), haproxy=haproxy_binary() is not None).items():
            click.echo(f"export {name}={shlex.quote(value)}")


def _settings(config: Path | None) -> ServerSettings:
    others = known_names(click.get_current_context().find_root().command)
    return configure(config, os.environ, others=others).settings
