"""`xlsr-live devices`: list the microphones."""

from __future__ import annotations

import click

from ..sources.devices import MicrophoneError, input_devices, no_devices

EPILOG = """\b
Examples:
  xlsr-live devices
  xlsr-live mic --microphone 3
  xlsr-live mic --microphone USB
"""


@click.command(epilog=EPILOG, short_help="List the microphones.")
def devices() -> None:
    """List the microphones; * marks the default."""
    list_devices()


def list_devices() -> None:
    """Print every input device. Raises `MicrophoneError` if there is none."""
    found = input_devices()
    if not found:
        raise MicrophoneError(f"no input device: {no_devices()}")
    for device in found:
        mark = "*" if device.default else " "
        detail = f"{device.host}, {device.channels} ch, {device.sample_rate} Hz"
        click.echo(f"{mark} {device.index:3}  {device.name}  ({detail})")
