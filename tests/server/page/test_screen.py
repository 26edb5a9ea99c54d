"""Where captions stand: the newest line, two large lines, the whole screen, and a screen that stays on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xlsr_live.server.run import RunningServer

from tests.support.browser import accessible, wait, wait_for_state

SPEAK = """async () => {
    const { Captions } = await import("/page/captions.js");
    const box = document.getElementById("captions");
    document.getElementById("hint").hidden = true;
    const captions = new Captions(box);
    window.say = (text) => {
        const words = text.split(" ").map((word) => ({ word, start: 1, end: 2, confidence: 1 }));
        captions.handle({ type: "final", utterance: 0, text, words, start: 1, end: 2 });
        const lines = box.querySelectorAll(".line");
        const stage = document.getElementById("stage").getBoundingClientRect();
        return stage.bottom - lines[lines.length - 1].getBoundingClientRect().bottom;
    };
    window.restyle = (mode) => captions.setStyle({ mode, sentence: true });
}"""
PLACE = """() => {
    const [box, stage] = ["captions", "stage"].map((id) => document.getElementById(id).getBoundingClientRect());
    return {
        x: (box.left + box.right - stage.left - stage.right) / 2,
        y: (box.top + box.bottom - stage.top - stage.bottom) / 2,
        size: parseFloat(getComputedStyle(document.getElementById("captions")).fontSize),
        lines: box.height / parseFloat(getComputedStyle(document.getElementById("captions")).lineHeight),
        shown: box.left >= stage.left && box.right <= stage.right,
    };
}"""


def test_the_newest_line_has_one_place(opened: Callable[..., Any], server: RunningServer):
    page = opened(server.port, viewport={"width": 1280, "height": 720})
    page.evaluate(SPEAK)
    places = [page.evaluate("say('a line of text')") for _ in range(25)]
    assert max(places) - min(places) < 1
    assert 0 < places[0] < 720 / 4
    assert page.evaluate("captions.scrollHeight > captions.clientHeight")


def test_a_turned_telephone_gets_other_lines(opened: Callable[..., Any], server: RunningServer):
    page = opened(server.port, viewport={"width": 740, "height": 360}, has_touch=True, is_mobile=True)
    page.evaluate("""async () => {
        const { reader } = await import("/page/reader.js");
        const text = "spears and arrows began to fall among the invaders ".repeat(3).trim();
        const words = text.split(" ").map((word) => ({ word, start: 1, end: 2, confidence: 1 }));
        reader().handle({ type: "final", utterance: 0, text, words, start: 1, end: 2 });
    }""")
    widest = "Math.max(...[...document.querySelectorAll('.line')].map((line) => line.offsetWidth))"
    assert page.evaluate(widest) > 360
    page.set_viewport_size({"width": 360, "height": 740})
    wait(page, f"{widest} < 360")


def test_two_lines_are_in_the_middle_and_grow_with_the_window(opened: Callable[..., Any], server: RunningServer):
    page = opened(server.port)
    page.evaluate("() => document.querySelector('[name=mode][value=captions]').click()")
    page.evaluate(SPEAK)
    page.evaluate("restyle('captions')")
    page.evaluate("say('spears and arrows began to fall among the invaders')")
    found = []
    for width, height in ((360, 740), (1280, 720), (1920, 1080)):
        page.set_viewport_size({"width": width, "height": height})
        found.append(page.evaluate(PLACE))
        accessible(page)
    for one in found:
        assert abs(one["x"]) < 1
        assert abs(one["y"]) < 1
        assert round(one["lines"], 2) == 2
        assert one["shown"]
    assert 24 < found[0]["size"] < found[1]["size"] < found[2]["size"]


def test_the_whole_screen_and_a_screen_that_stays_on(opened: Callable[..., Any], server: RunningServer):
    page = opened(server.port)
    page.evaluate("""() => {
        window.locks = 0;
        const request = async () => ({ release: async () => { locks -= 1; } });
        navigator.wakeLock.request = async () => { locks += 1; return request(); };
    }""")
    page.click("#full-screen")
    wait(page, "document.fullscreenElement !== null")
    page.wait_for_selector("#full-screen[aria-pressed=true]")
    page.click("#start")
    wait_for_state(page, "live")
    assert page.evaluate("locks") == 1
    opacity = "getComputedStyle(document.querySelector('footer')).opacity"
    wait(page, f"{opacity} === '0'")
    page.evaluate(f"""() => {{
        window.shown = false;  // the controls stay for three seconds only
        document.querySelector("footer").ontransitionend = () => (shown ||= {opacity} === "1");
    }}""")
    page.mouse.move(100, 100)
    page.mouse.move(110, 110)
    wait(page, "shown")
    page.click("#start")
    wait_for_state(page, "idle")
    wait(page, "locks === 0")
    page.click("#full-screen")
    wait(page, "document.fullscreenElement === null")
