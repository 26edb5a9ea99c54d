"""The pictures of the documents: `python -m tests.figures.screenshots`, a minute, into docs/images.

A Chromium shows the page in its states; its microphone plays the packaged clips. `demo.svg` is a terminal's display.
All text is the packaged model's own, as fast as it is spoken, and its translation Apertium's (`apertium-eng-spa`).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyte
import soundfile
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text
from xlsr_live.client.bench.corpus import read_corpus, read_samples
from xlsr_live.client.commands.demo import PAUSE_SECONDS
from xlsr_live.client.output.display import LiveDisplay
from xlsr_live.server.run import RunningServer, running_server
from xlsr_live.server.settings import ServerSettings
from xlsr_live.streaming import Final, Partial, Recognizer

from tests.support.browser import chromium, start_translated, wait, wait_for_state
from tests.support.paths import ROOT

IMAGES = ROOT / "docs" / "images"
COLOURS = 128  # of a picture: keeps the files small
FINALS, PARTIALS = 3, 3  # the moment of `demo.svg`: after so many finals, and then so many partials
LIVE = f"""
    document.querySelectorAll(".utterance.final").length === {FINALS}
    && document.querySelectorAll(".utterance:not(.final) .word:not(.volatile)").length > 0
    && document.querySelectorAll(".utterance:not(.final) .word.volatile").length > 0
"""
LANDSCAPE = "linear-gradient(115deg, #7aa7cc, #d9c399 60%, #6f9263)"


def clips() -> NDArray[np.float32]:
    """The packaged clips, one after the other."""
    pause = np.zeros(round(16_000 * PAUSE_SECONDS), np.float32)
    return np.concatenate([part for clip in read_corpus(None) for part in (read_samples(clip), pause)])


def save(page: Any, name: str, below: Any = None) -> None:
    """A picture of a page, with another page `below` it."""
    shots = [Image.open(BytesIO(shown.screenshot())).convert("RGB") for shown in (page, below) if shown]
    picture = Image.new("RGB", (shots[0].width, sum(shot.height for shot in shots)))
    for at, shot in enumerate(shots):
        picture.paste(shot, (0, sum(above.height for above in shots[:at])))
    small = picture.quantize(COLOURS, dither=Image.Dither.NONE)
    small.save(IMAGES / name, optimize=True)
    print(f"{name}: {(IMAGES / name).stat().st_size} bytes")


@contextmanager
def opened(browser: Any, url: str, width: int, height: int, **options: Any) -> Iterator[Any]:
    context = browser.new_context(
        viewport={"width": width, "height": height}, permissions=["microphone"], reduced_motion="reduce", **options
    )
    page = context.new_page()
    page.goto(url)
    yield page
    context.close()


def draw_page(browser: Any, server: RunningServer) -> None:
    """Ready, live, shared, finished; and the pages of readers."""
    address = f"http://127.0.0.1:{server.port}"
    with opened(browser, f"{address}/", 1000, 470) as page:
        wait(page, "document.querySelector('.model').textContent !== ''")
        save(page, "page-ready.png")
        page.click("#share")
        page.check("#share-on")
        page.fill("#title", "Spears and arrows")
        page.keyboard.press("Escape")
        page.click("#start")
        page.wait_for_selector("#links:not([hidden])", state="attached")
        key = page.get_attribute("#view-link", "href").partition("#")[2]
        with (
            opened(browser, f"{address}/view#{key}", 390, 600, color_scheme="dark") as view,
            opened(browser, f"{address}/overlay#{key}", 960, 200) as overlay,
        ):
            overlay.evaluate(f"document.documentElement.style.background = {LANDSCAPE!r}")
            wait(page, LIVE)
            save(page, "page-live.png")
            save(view, "page-view.png")
            save(overlay, "page-overlay.png")
        page.set_viewport_size({"width": 1000, "height": 740})
        page.click("#share")
        page.fill("#address", "192.168.1.20")
        page.locator("#address").blur()
        save(page, "page-share.png")
        page.keyboard.press("Escape")
        page.set_viewport_size({"width": 1000, "height": 470})
        page.click("#start")
        wait_for_state(page, "idle")
        page.locator("#start").blur()
        save(page, "page-finished.png")


def draw_translated(browser: Any, server: RunningServer) -> None:
    """The page with a second line in Spanish, and below it the overlay."""
    address = f"http://127.0.0.1:{server.port}"
    with opened(browser, f"{address}/", 1000, 560, locale="es-ES") as page:
        key = start_translated(page, "es")
        wait_for_state(page, "live")
        with opened(browser, f"{address}/overlay?translation=es&hold=0#{key}", 1000, 290) as overlay:
            overlay.evaluate(f"document.documentElement.style.background = {LANDSCAPE!r}")
            for shown in (page, overlay):
                wait(shown, f"document.querySelectorAll('.translation').length === {FINALS}")
            save(page, "page-translated.png", overlay)


def draw_token(browser: Any, server: RunningServer) -> None:
    """A server with a token asks for it."""
    with opened(browser, f"http://127.0.0.1:{server.port}/", 1000, 470) as page:
        page.click("#start")
        page.wait_for_selector("#token-form:not([hidden])")
        save(page, "page-token.png")


def draw_terminal(recognizer: Recognizer, audio: NDArray[np.float32]) -> None:
    """The display of `xlsr-live demo` while somebody is speaking."""
    os.environ["TERM"] = "linux"  # volatile text is underlined there, which pyte knows, and not dim
    written = StringIO()
    display = LiveDisplay(written)
    finals = partials = 0
    for event in recognizer.stream(audio, pace=1.0):  # the display draws at most so often a second
        display.show(event)
        finals += isinstance(event, Final)
        partials += isinstance(event, Partial) and finals == FINALS
        if partials == PARTIALS:
            break
    screen = pyte.Screen(80, 24)
    pyte.Stream(screen).feed(written.getvalue().replace("\n", "\r\n"))
    console = Console(file=StringIO(), record=True, width=80, highlight=False)
    console.print("$ xlsr-live demo\n")
    for row in range(screen.cursor.y + 1):
        cells = [screen.buffer[row][column] for column in range(screen.columns)]
        line = Text.assemble(*((cell.data, "dim" if cell.underscore else "bold" * cell.bold) for cell in cells))
        line.rstrip()
        if line:
            console.print(line)
    svg = console.export_svg(title="xlsr-live demo", theme=MONOKAI)
    (IMAGES / "demo.svg").write_text(svg, encoding="utf-8")


def main() -> None:
    audio = clips()
    with tempfile.TemporaryDirectory() as folder, Recognizer.load(device="cpu") as recognizer:
        draw_terminal(recognizer, audio)
        microphone = Path(folder) / "clips.wav"
        soundfile.write(microphone, audio, 16_000, subtype="PCM_16")
        with chromium(microphone) as browser:
            with running_server(recognizer, ServerSettings()) as server:
                draw_page(browser, server)
            with running_server(recognizer, ServerSettings(token="secret")) as server:
                draw_token(browser, server)
            with (
                Recognizer.load(device="cpu", translators=["apertium"]) as translating,
                running_server(translating) as server,
            ):
                draw_translated(browser, server)


if __name__ == "__main__":
    main()
