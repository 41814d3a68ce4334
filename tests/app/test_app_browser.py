"""The page in a real headless Chromium: seen, answered, edited, saved; keyboard, dark, narrow."""

import contextlib
import csv
import dataclasses
import io
import time

import numpy as np
import pytest
from helpers_app import HOSTILE, serving
from helpers_browser import chromium_driver

import fmcluster as fmc
from fmcluster.app.session import Session
from fmcluster.result.loop.levels import Level

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium_driver(tmp_path_factory.mktemp("profile")) as driver:
        yield Page(driver)


class Page:
    """What a person does on the page."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, client, mode="light"):
        media = {"features": [{"name": "prefers-color-scheme", "value": mode}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        with contextlib.suppress(Exception):  # unsaved work of the test before
            self.js("window.onbeforeunload = null")
        self.driver.get("about:blank")
        with contextlib.suppress(Exception):
            self.driver.switch_to.alert.accept()
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        self.driver.get(client.url)
        self.until(
            "document.getElementById('map').dataset.drawn && "
            "document.getElementById('map-wait').hidden"
        )
        return self

    def js(self, code, *args):
        return self.driver.execute_script(code, *args)

    def until(self, code, seconds=20):
        end = time.monotonic() + seconds
        while not self.js(f"return {code}"):
            assert time.monotonic() < end, f"never: {code}; notice: {self.text('#notice')!r}"
            time.sleep(0.03)

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def text(self, selector):
        return self.js("return document.querySelector(arguments[0]).textContent", selector)

    def click(self, selector):
        self.find(selector).click()

    def keys(self, selector, *pressed):
        self.find(selector).send_keys(*pressed)

    def names(self):
        self.until("document.querySelectorAll('#clusters .cluster').length > 0")
        code = "[...document.querySelectorAll('#clusters .head label')].map((n) => n.textContent)"
        return self.js(f"return {code}")

    def choose(self, *labels):
        for label in labels:
            self.click(f"#choose-{label}")

    def saved(self, count):
        self.until(f"document.getElementById('fact-clusters').textContent === '{count}'")


@pytest.fixture
def page(browser, run):
    with serving(run.session()) as client:
        browser.run, browser.client = run, client
        yield browser.open(client)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_it_opens_without_an_error_and_asks_nobody_else(browser, run, mode):
    import json

    from PIL import Image

    with serving(run.session()) as client:
        page = browser.open(client, mode)
        assert len(page.names()) == 4
        assert page.driver.get_log("browser") == []
        asked = [
            json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance")
        ]
        urls = [
            each["params"]["request"]["url"]
            for each in asked
            if each["method"] == "Network.requestWillBeSent"
        ]
        own = f"http://127.0.0.1:{client.port}/"
        assert len(urls) > 8 and all(url.startswith((own, "data:", "about:")) for url in urls)
        shot = Image.open(io.BytesIO(page.driver.get_screenshot_as_png())).convert("RGB")
        brightness = np.asarray(shot, float).mean()
        assert brightness > 200 if mode == "light" else brightness < 80
        drawn = page.js(
            "const c=document.getElementById('map');return new Set(new Uint32Array("
            "c.getContext('2d').getImageData(0,0,c.width,c.height).data.buffer)).size"
        )
        assert drawn > 8


def test_an_address_without_the_token_shows_nothing(browser, run):
    with serving(run.session()) as client:
        browser.driver.get(f"http://127.0.0.1:{client.port}/")
        assert "token" in browser.text("body") and not browser.all("#map")


def test_another_page_in_the_same_browser_cannot_act(page, run, tmp_path):
    """A page of another origin posts and looks; the server does and tells nothing."""
    client = page.client
    page.driver.get("about:blank")
    tried = page.driver.execute_async_script(
        """
        const [port, token, done] = arguments, at = "http://127.0.0.1:" + port + "/api/";
        const body = JSON.stringify({op: "merge", clusters: [0, 1], version: 0});
        const json = {"Content-Type": "application/json", "X-Fmcluster-Token": token};
        const tries = [fetch(at + "act", {method: "POST", body, headers: json}),
          fetch(at + "act", {method: "POST", body, mode: "no-cors"}),
          fetch(at + "state?token=" + token)];
        Promise.allSettled(tries).then((all) => done(all.map((each) => each.status === "fulfilled"
          && each.value.type !== "opaque" ? each.value.status : "refused")));
        """,
        client.port,
        client.token,
    )
    assert tried == ["refused"] * 3
    assert client.get("state")[1]["version"] == 0
    assert not (run.folder / "answers.log").exists()


def test_hostile_texts_are_shown_and_never_run(page):
    page.click("#tab-rows")
    page.keys("#search", "onerror\n")
    page.until("document.querySelectorAll('#rows .row').length === 1")
    assert HOSTILE in page.text("#rows")
    assert page.js("return document.querySelectorAll('img[src=x]').length") == 0
    page.click("#tab-clusters")
    page.choose(0)
    page.click("#rename")
    page.js("document.getElementById('name-input').value = arguments[0]", HOSTILE)
    page.click("#name-form button[type=submit]")
    page.until("document.getElementById('clusters').textContent.includes('onerror')")
    assert page.js("return document.querySelectorAll('img[src=x]').length") == 0
    assert "run" in page.driver.title


def test_merge_split_rename_dissolve_undo_and_save(page, run):
    page.choose(0, 1)
    page.keys("body", "m")
    page.saved(3)
    page.choose(0)
    page.click("#split")
    page.saved(4)
    page.choose(2)
    page.keys("body", "r")
    page.js("document.getElementById('name-input').value = ''")
    page.keys("#name-input", "third\n")
    page.until("document.getElementById('clusters').textContent.includes('third')")
    page.choose(3)
    page.click("#dissolve")
    page.saved(3)
    page.click("#undo")
    page.saved(4)
    assert "third" in page.names()
    page.click("#save")
    page.until("document.getElementById('save').disabled")
    saved = fmc.ClusterResult.load(run.folder)
    assert [edit["op"] for edit in saved.edits] == ["merge", "split", "rename"]
    assert saved.n_clusters == 4 and "third" in saved.names


def test_questions_are_answered_by_keys(page, run):
    page.click("#tab-label")
    page.until("document.querySelector('#question .question')")
    first = page.text("#question")
    page.keys("#tab-label", "f")  # a letter begins to type
    page.until("document.activeElement.id === 'label-input'")
    page.keys("#label-input", "ruit")
    assert "new class: fruit" in page.text("#class-list")
    page.keys("#label-input", "\n")
    page.until("document.getElementById('fact-answers').textContent.startsWith('1')")
    page.until(f"document.getElementById('question').textContent !== {first!r}")
    page.js("document.activeElement.blur()")
    page.keys("body", "1")  # its own cluster's name
    page.until("document.getElementById('fact-answers').textContent.startsWith('2')")
    page.until("document.querySelector('#changes .change')?.textContent.includes('taken in:')")
    assert len((run.folder / "answers.log").read_text().splitlines()) >= 3
    page.click("#undo")
    page.until("document.getElementById('fact-answers').textContent.startsWith('1')")
    page.click("input[value=pair]")
    page.until("document.querySelectorAll('#question .question').length === 2")
    page.js("document.activeElement.blur()")
    page.keys("body", "n")
    page.until("document.getElementById('fact-answers').textContent.startsWith('2')")
    assert '"same":false' in (run.folder / "answers.log").read_text()


def drag_around(page):
    """Draw a lasso around the whole map."""
    from selenium.webdriver import ActionChains

    canvas = page.find("#map")
    w, h = canvas.size["width"] / 2 - 3, canvas.size["height"] / 2 - 3
    page.click("#lasso")
    move = ActionChains(page.driver, duration=10)
    move.move_to_element_with_offset(canvas, round(-w), round(-h)).click_and_hold()
    for dx, dy in ((w, 0), (0, 2 * h), (-w, 0)):
        move.move_by_offset(round(dx), round(dy))
    move.release().perform()


def test_a_lasso_chooses_rows_to_move_label_and_export(page, run):
    drag_around(page)
    page.until("document.querySelectorAll('#rows .row').length > 0")
    count = int(page.text("#rows-note").split()[0])
    assert 0 < count < 160, "the left half"
    page.js(
        "window.saved=[];URL.createObjectURL=(b)=>{window.saved.push(b);return 'blob:none'};"
        "HTMLAnchorElement.prototype.click=function(){window.saved.push(this.download)};"
    )
    page.click("#export")
    page.until("window.saved.length === 2")
    text = page.driver.execute_async_script("window.saved[0].text().then(arguments[0])")
    table = list(csv.DictReader(io.StringIO(text)))
    assert len(table) == count and set(table[0]) == {"id", "cluster", "name", "confidence", "text"}
    page.click("#tab-rows")
    page.js("document.getElementById('search').value = ''")
    page.keys("#search", "t007\n")
    page.until("document.querySelectorAll('#rows .row').length === 1")
    page.js("document.getElementById('move-to').value = '2'")
    page.click("#move-form button")
    page.until("document.getElementById('undo').textContent === 'Undo move'")
    page.keys("#rows-label", "moved\n")
    page.until("document.getElementById('fact-answers').textContent.startsWith('1')")
    log = (run.folder / "answers.log").read_text()
    assert '"op":"move"' in log and '"label":"moved"' in log and log.count("t007") == 2


def test_the_map_is_zoomed_walked_and_asked_by_keyboard(page):
    from selenium.webdriver.common.keys import Keys

    page.keys("#map", Keys.ARROW_RIGHT)
    page.until("document.getElementById('tip').textContent.includes('id t')")
    page.keys("#map", "+")
    page.until("!document.getElementById('map-reset').disabled")
    page.keys("#map", Keys.ENTER)
    page.until("document.getElementById('rows-note').textContent.includes('nearest first')")
    assert len(page.all("#rows .row")) > 5
    page.keys("body", Keys.ESCAPE)
    page.until("document.getElementById('map-reset').disabled")


def test_colors_and_levels_change_the_map(page):
    picture = "document.getElementById('map').toDataURL()"
    before = page.js(f"return {picture}")
    for value in ("confidence", "outlier", "class"):
        page.js(
            "const s=document.getElementById('map-color');s.value=arguments[0];"
            "s.dispatchEvent(new Event('change'))",
            value,
        )
        page.until(f"{picture} !== {before!r}")
        before = page.js(f"return {picture}")


def test_a_sample_is_drawn_and_certifies(page):
    page.click("#tab-certify")
    page.js("document.getElementById('draw-rows').value='12'")
    page.click("#draw-form button")
    for left in range(12, 0, -1):
        page.until(
            f"document.getElementById('check-question').textContent.includes('{left} of 12')"
        )
        page.js("document.activeElement.blur()")
        page.keys("body", "1")
    page.until("document.querySelector('#certificate .promise')")
    assert "12 labels" in page.text("#certificate")


def test_everything_has_a_name_and_nothing_overflows_on_a_phone(page):
    nameless = page.js(
        """return [...document.querySelectorAll('button,input,select,canvas,ul,section')].filter(
        (n) => !(n.getAttribute('aria-label') || n.textContent.trim() || n.labels?.length))
        .map((n) => n.outerHTML)"""
    )
    assert nameless == []
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    page.driver.set_window_size(400, 800)
    try:
        for tab in ("rows", "label", "certify", "clusters"):
            page.js(f"document.getElementById('tab-{tab}').click()")
            assert page.js(wide) <= 0, tab
    finally:
        page.driver.set_window_size(1280, 900)


@pytest.fixture
def leveled(browser, run):
    """The page of a run with two levels, whatever the rows would say."""
    result = dataclasses.replace(run.result)
    vars(result)["levels"] = (Level(2, 0.5), Level(4, 0.9, True))
    with serving(Session(result, run.folder, source=run.texts)) as client:
        browser.run, browser.client = run, client
        yield browser.open(client)


def test_the_level_slider_changes_names_and_is_kept_by_a_button(leveled):
    page = leveled
    page.until("document.getElementById('level').numbers?.length > 1")
    numbers = page.js("return document.getElementById('level').numbers")
    other = next(k for k in numbers if k != 4)
    page.js(
        "const s=document.getElementById('level');s.value=arguments[0];"
        "s.dispatchEvent(new Event('input'))",
        numbers.index(other),
    )
    page.until("!document.getElementById('level-use').hidden")
    assert page.text("#level-number") == f"{other} clusters"
    assert page.client.get("state")[1]["version"] == 0, "looked at only"
    page.click("#level-use")
    page.saved(other)
    page.click("#undo")
    page.saved(4)


def dropped(page, name, text):
    """Drop a file on the page, as the mouse does."""
    page.js(
        "const data = new DataTransfer(); data.items.add(new File([arguments[1]], arguments[0]));"
        "for (const kind of ['dragenter', 'dragover', 'drop']) document.dispatchEvent("
        "new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));",
        name,
        text,
    )


def test_rows_that_are_dropped_are_taken_in_and_the_novel_ones_shown_first(browser, texts_run):
    run = texts_run
    with serving(Session(run.result, run.folder, source=run.texts)) as client:
        page = browser.open(client)
        dropped(page, "new.exe", "x")
        page.until("document.getElementById('notice').textContent.includes('is no file that this')")
        odd = [f"quantum chromodynamics lattice gauge plasma {i}" for i in range(8)]
        rows = [f"apple pie recipe {HOSTILE.replace(chr(34), '')}", "football match score", *odd]
        lines = "id,note,text\n" + "".join(f'n{i},x,"{row}"\n' for i, row in enumerate(rows))
        dropped(page, "new.csv", lines)
        page.until("!document.getElementById('add-form').hidden")
        assert page.text("#add-what").startswith("new.csv,")
        names = "[...document.querySelectorAll('#add-columns option')].map((o) => o.value)"
        assert page.js(f"return {names}") == ["id", "note", "text"]
        page.keys("#add-column", "nothing")
        page.click("#add-take")
        page.until("document.getElementById('notice').textContent.includes('nothing')")
        page.js("document.getElementById('add-column').value = 'text'")
        page.keys("#add-ids", "id")
        page.click("#add-take")
        page.until("document.getElementById('rows-note').textContent.startsWith('10 new rows')")
        shown = [node.text for node in page.all("#rows .row")]
        novel = int(page.text("#rows-note").split("10 new rows, ")[1].split()[0])
        assert novel > 0 and len(shown) == 10
        assert all("no cluster" in row for row in shown[:novel])
        assert page.js("return document.querySelectorAll('img[src=x]').length") == 0
        assert page.text("#fact-rows") == "170"
        assert page.text("#map-note").startswith("170 rows")
        log = (run.folder / "answers.log").read_text()
        assert log.count('"op":"update"') == 1
        page.click("#save")
        page.until("document.getElementById('save').disabled")
        saved = fmc.ClusterResult.load(run.folder)
        assert saved.ids[160:].tolist() == [f"n{i}" for i in range(10)]
        assert saved.novel.size == novel
        page.click("#undo")
        page.until("document.getElementById('fact-rows').textContent === '160'")
        page.until("document.getElementById('map-note').textContent.startsWith('160 rows')")


def test_a_run_of_embeddings_says_why_it_takes_no_rows(page, run):
    dropped(page, "new.csv", "id,text\n1,a\n")
    page.until("document.getElementById('notice').textContent.includes('made from embeddings')")
    assert page.js("return document.getElementById('add-form').hidden")
    page.click("#tab-rows")
    page.click("#add")
    page.until("document.getElementById('notice').textContent.includes('has no encoder')")
    assert not (run.folder / "incoming").exists()


def test_the_map_is_the_reports_own_file(page):
    from fmcluster.result.report.page import static

    for name in ("map.js", "dom.js", "theme.css"):
        answer, content = page.client("GET", f"/static/{name}", token=False)
        assert answer.status == 200 and content.decode() == static(name)


def test_what_a_cluster_is_taken_for_is_chosen_with_it(browser, run):
    split = run.result.split(0)
    with serving(Session(split, run.folder, source=run.texts)) as client:
        page = browser.open(client)
        page.names()
        found = page.all("#clusters .about button")
        if not found:
            pytest.skip("the parts of this cluster are not taken for one another")
        found[0].click()
        assert page.text("#chosen-note") == "2 chosen"
        page.keys("body", "m")
        page.saved(4)
