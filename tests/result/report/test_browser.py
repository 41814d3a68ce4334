"""The report in a real headless Chromium: opens from file://, answers mouse and keyboard."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers_browser import chromium_driver
from PIL import Image

import fmcluster as fmc
from fmcluster.result.naming import name_by_terms

pytestmark = pytest.mark.browser
HOSTILE = '</script><script>document.title="owned"</script><img src=x onerror="document.title=1">'
TOPICS = ("apple pie recipe", "football match score", "stock market price", "train bus ticket")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium_driver(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


def spread(k, n=240):
    draw = np.random.default_rng(0)
    y = np.arange(n) % k
    X = np.eye(16)[y] + 0.1 * draw.normal(size=(n, 16))
    return X.astype(np.float32), y


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    X, y = spread(4)
    result = fmc.cluster(X, n_clusters=4, head="kmeans")
    texts = [f"{TOPICS[label]} {HOSTILE if i % 7 == 0 else i}" for i, label in enumerate(y)]
    named = name_by_terms(result, [TOPICS[label] for label in y])
    issues = pd.DataFrame(
        {
            "id": [4, 9],
            "given": ["=1+1", "b"],
            "suggested": ["b", 'a "quoted"'],
            "score": [0.01, 0.2],
        }
    )
    title = f"Texts {HOSTILE}"
    pages = {"to_label": [1, 2, 3], "issues": issues}
    named.report(folder / "text.html", items=texts, labels=y, title=title, **pages)
    colours = np.array([[200, 40, 40], [40, 180, 60], [50, 80, 220], [220, 180, 40]])
    images = [Image.new("RGB", (32, 32), tuple(int(c) for c in colours[label])) for label in y]
    result.report(folder / "image.html", items=images, title="Images")
    return folder


@pytest.fixture
def text_page(browser, pages):
    return opened(browser, pages / "text.html")


def opened(browser, path: Path, mode="light"):
    features = {"prefers-color-scheme": mode, "prefers-reduced-motion": "reduce"}
    media = {"features": [{"name": name, "value": value} for name, value in features.items()]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(path.as_uri())
    return browser


def find(browser, selector):
    return browser.find_element("css selector", selector)


def cards(browser):
    return [node.text for node in browser.find_elements("css selector", ".cluster h3")]


def keys(browser, selector, *pressed):
    find(browser, selector).send_keys(*pressed)


@pytest.mark.parametrize("name", ["text", "image"])
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_it_opens_without_an_error_in_light_and_dark(browser, pages, tmp_path, name, mode):
    page = opened(browser, pages / f"{name}.html", mode)
    assert page.get_log("browser") == []
    assert len(cards(page)) == 4
    page.save_screenshot(str(tmp_path / f"{name}-{mode}.png"))
    shot = np.asarray(Image.open(tmp_path / f"{name}-{mode}.png").convert("RGB"), float)
    assert (shot.mean() > 200) if mode == "light" else (shot.mean() < 80)
    canvas = "const c=document.getElementById('map');"
    drawn = page.execute_script(
        canvas + "return new Set(c.getContext('2d').getImageData(0,0,c.width,c.height).data).size"
    )
    assert drawn > 8


def test_nothing_is_requested_but_the_file(text_page):
    import json

    asked = []
    for entry in text_page.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.append(message["params"]["request"]["url"])
    assert all(url.startswith(("file://", "data:")) for url in asked)


def test_hostile_text_is_shown_and_never_run(text_page):
    assert text_page.title == f"Texts {HOSTILE}"
    assert find(text_page, "h1").text == f"Texts {HOSTILE}"
    shown = text_page.execute_script("return document.getElementById('gallery').textContent")
    assert "</script>" in shown
    assert text_page.execute_script("return document.querySelectorAll('img[src=x]').length") == 0


def exported(page, button):
    """Return the table that a button offers as a file: its address is caught before it is gone."""
    page.execute_script(
        "window.saved=[];URL.createObjectURL=(b)=>{window.saved.push(b);return 'blob:none'};"
        "HTMLAnchorElement.prototype.click=function(){window.saved.push(this.download)};"
    )
    find(page, button).click()
    text = page.execute_async_script("window.saved[0].text().then(arguments[0])")
    name = page.execute_script("return window.saved[1]")
    return name, pd.read_csv(io.StringIO(text))


def test_samples_to_label_are_listed_and_exported(text_page):
    listed = text_page.find_elements("css selector", "#to-label li")
    assert [f"id {i}," in node.text for i, node in zip((1, 2, 3), listed, strict=True)] == [
        True
    ] * 3
    name, table = exported(text_page, "#export-label")
    assert name == "to_label.csv"
    assert table.columns.tolist() == ["id", "cluster", "confidence", "text"]
    assert table["id"].tolist() == [1, 2, 3]
    assert table["text"][0].startswith(TOPICS[1])


def test_suspicious_labels_are_listed_and_exported_without_formulas(text_page):
    first = find(text_page, "#issues li").text
    assert "id 4, given =1+1, suggested b, score 0.01" in first
    name, table = exported(text_page, "#export-issues")
    assert name == "label_issues.csv"
    assert table.columns.tolist() == ["id", "given", "suggested", "score", "text"]
    assert table["given"].tolist() == ["'=1+1", "b"]
    assert table["suggested"].tolist() == ["b", 'a "quoted"']
    assert table["score"].tolist() == [0.01, 0.2]


def test_search_filters_by_name_and_example(text_page):
    keys(text_page, "#search", "football")
    assert len(cards(text_page)) == 1
    assert "football" in cards(text_page)[0]
    assert find(text_page, "#count").text == "1 of 4 clusters"
    keys(text_page, "#search", " nothing like it")
    assert cards(text_page) == []


def test_sorting_changes_the_order(text_page):
    from selenium.webdriver.support.ui import Select

    order = Select(find(text_page, "#sort"))
    order.select_by_value("name")
    assert cards(text_page) == sorted(cards(text_page))
    order.select_by_value("label")
    numbers = [
        int(node.get_attribute("id").split("-")[1])
        for node in text_page.find_elements("css selector", ".cluster")
    ]
    assert numbers == [0, 1, 2, 3]


def test_the_map_is_walked_by_keyboard(text_page):
    from selenium.webdriver.common.keys import Keys

    tip = find(text_page, "#tip")
    assert not tip.is_displayed()
    keys(text_page, "#map", Keys.ARROW_RIGHT)
    first = tip.text
    assert "confidence" in first
    keys(text_page, "#map", Keys.ARROW_RIGHT)
    assert tip.text != first
    name = tip.text.splitlines()[0].strip()
    keys(text_page, "#map", Keys.ENTER)
    focused = text_page.switch_to.active_element
    assert focused.get_attribute("class") == "cluster"
    assert focused.find_element("css selector", "h3").text == name
    keys(text_page, "#map", Keys.ARROW_LEFT, Keys.ESCAPE)
    assert not tip.is_displayed()


def test_the_map_zooms_and_comes_back(text_page):
    reset = find(text_page, "#map-reset")
    assert not reset.is_enabled()
    keys(text_page, "#map", "+")
    assert reset.is_enabled()
    reset.click()
    assert not reset.is_enabled()


def test_hovering_shows_the_row(text_page):
    from selenium.webdriver import ActionChains

    canvas = find(text_page, "#map")
    text_page.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    tip = find(text_page, "#tip")
    x, y = text_page.execute_script(
        "const c = document.getElementById('map'), m = JSON.parse("
        "document.getElementById('data').textContent).map;"
        "return [16 + m.x[0] / 1000 * (c.clientWidth - 32) - c.clientWidth / 2,"
        "c.clientHeight / 2 - 16 - m.y[0] / 1000 * (c.clientHeight - 32)];"
    )
    ActionChains(text_page, duration=0).move_to_element_with_offset(
        canvas, round(x), round(y)
    ).perform()
    assert any(topic in tip.text for topic in TOPICS)


def test_a_card_picks_its_cluster_out_on_the_map(text_page):
    card = find(text_page, ".cluster")
    name = card.find_element("css selector", "h3").text
    card.find_element("css selector", "button").click()
    assert f"{name} picked out" in find(text_page, "#map-note").text


def test_the_nearest_cluster_is_one_click_away(text_page):
    link = find(text_page, ".cluster .about a")
    name = link.text
    link.click()
    focused = text_page.switch_to.active_element
    assert focused.find_element("css selector", "h3").text == name


def test_tab_reaches_the_controls_and_nothing_overflows_on_a_phone(text_page):
    from selenium.webdriver.common.keys import Keys

    find(text_page, "body").send_keys(Keys.TAB)
    assert text_page.switch_to.active_element.text == "Skip to the clusters"
    text_page.set_window_size(420, 800)
    try:
        wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert text_page.execute_script(wide) <= 0
    finally:
        text_page.set_window_size(1280, 900)


def test_images_are_on_the_map_and_in_the_gallery(browser, pages):
    page = opened(browser, pages / "image.html")
    assert find(page, "#map-colour").get_attribute("value") == "pictures"
    broken = page.execute_script(
        "return [...document.images].filter(i => i.complete && !i.naturalWidth).length"
    )
    assert broken == 0
    assert len(page.find_elements("css selector", ".examples.image img")) >= 16
