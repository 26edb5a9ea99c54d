"""`xlsr-live devices`: list the microphones."""

from __future__ import annotations

import click

from ..sources.devices import MicrophoneError, input_devices, no_devices

EPILOG = """\b
Examples:
  xlsr-live devices
  xlsr-live mic --microphone 3
  xlsr-live mic --microphone USB
  xlsr-live mic --microphone alsa_input.usb-Rode_NT-00.mono
"""


@click.command(epilog=EPILOG, short_help="List the microphones.")
def devices() -> None:
    """List the microphones; * marks the default. PulseAudio's and PipeWire's sources have names in place of numbers."""
    list_devices()


def list_devices() -> None:
    """Print every input device. Raises `MicrophoneError` if there is none."""
    found = input_devices()
    if not found:
        raise MicrophoneError(f"no input device: {no_devices()}")
    for device in found:
        mark = "*" if device.default else " "
        detail = f"{device.host}, {device.channels} ch, {device.sample_rate} Hz"
        name = f"{device.source}  {device.name}" if device.source else f"{device.index:3}  {device.name}"
        click.echo(f"{mark} {name}  ({detail})")
