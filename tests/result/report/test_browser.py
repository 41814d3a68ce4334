"""The report in a real headless Chromium: opens from file://, answers mouse and keyboard."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers_browser import chromium_driver
from PIL import Image

import fmcluster as fmc
from fmcluster.result.loop.levels import Level
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
    vars(named)["levels"] = (Level(2, 0.5), Level(4, 0.9, True))  # whatever the rows would say
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
    drawn(page)
    canvas = "const c=document.getElementById('map');"
    values = page.execute_script(
        canvas + "return new Set(c.getContext('2d').getImageData(0,0,c.width,c.height).data).size"
    )
    assert values > 8


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
    assert "id 4, confidence" in first and "given =1+1, suggested b, score 0.01" in first
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
    drawn(text_page)
    assert reset.is_enabled()
    reset.click()
    drawn(text_page)
    assert not reset.is_enabled()


POINT = """
const [i, done] = arguments, c = document.getElementById('map'), m = JSON.parse(
  document.getElementById('data').textContent).map;
const flat = new Uint16Array(Uint8Array.from(atob(m.points), (s) => s.charCodeAt(0)).buffer);
return [16 + flat[2 * i] / 65536 * (c.clientWidth - 32) - c.clientWidth / 2,
  c.clientHeight / 2 - 16 - flat[2 * i + 1] / 65536 * (c.clientHeight - 32)];
"""


def drawn(page):
    """Wait until the map is painted: it is with the next frame."""
    page.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def test_hovering_shows_the_row(text_page):
    from selenium.webdriver import ActionChains

    canvas = find(text_page, "#map")
    text_page.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    drawn(text_page)
    x, y = text_page.execute_script(POINT, 0)
    mouse = ActionChains(text_page, duration=0)
    mouse.move_to_element_with_offset(canvas, round(x), round(y)).perform()
    assert any(topic in find(text_page, "#tip").text for topic in TOPICS)


def lasso(page):
    """Draw around the left half of the map."""
    from selenium.webdriver import ActionChains

    canvas = find(page, "#map")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    drawn(page)
    find(page, "#lasso").click()
    w, h = canvas.size["width"] / 2 - 3, canvas.size["height"] / 2 - 3
    move = ActionChains(page, duration=10)
    move.move_to_element_with_offset(canvas, round(-w), round(-h)).click_and_hold()
    for dx, dy in ((w, 0), (0, 2 * h), (-w, 0)):
        move.move_by_offset(round(dx), round(dy))
    move.release().perform()
    drawn(page)


def test_a_lasso_lists_its_rows_and_exports_them(text_page):
    lasso(text_page)
    title = find(text_page, "#rows-title").text
    count = int(title.split()[0])
    assert title == f"{count} rows inside the lasso" and 0 < count < 240
    assert f"{count} rows chosen" in find(text_page, "#map-note").text
    name, table = exported(text_page, "#rows-export")
    assert name == "rows.csv" and len(table) == count
    assert table.columns.tolist() == ["id", "cluster", "name", "confidence", "text"]
    data = text_page.execute_script(
        "return JSON.parse(document.getElementById('data').textContent).clusters"
    )
    names = {cluster["label"]: cluster["name"] for cluster in data}
    assert table["name"].tolist() == [names[c] for c in table["cluster"]]
    assert table["text"].str.startswith(TOPICS).all()
    find(text_page, "#rows-close").click()
    assert not find(text_page, "#rows-panel").is_displayed()
    drawn(text_page)
    assert not find(text_page, "#map-reset").is_enabled()


def searched(page, words):
    """Type into the search for rows and wait for what it lists."""
    keys(page, "#find", words)
    page.execute_async_script("setTimeout(arguments[0], 200)")
    return [node.text for node in page.find_elements("css selector", "#rows li")]


def test_words_and_ids_find_rows(text_page):
    rows = searched(text_page, "football 13")
    said = [i for i in range(240) if i % 4 == 1 and i % 7 and "13" in str(i)]
    assert len(rows) == len(said) > 1
    assert all(f"football match score {i}" in row for i, row in zip(said, rows, strict=True))
    assert find(text_page, "#rows-title").text == f"{len(said)} rows with “football 13”"
    find(text_page, "#find").clear()
    rows = searched(text_page, "23")
    assert "id 23," in rows[0], "the very id first"
    assert all("id 23" in row or "23" in row for row in rows)
    find(text_page, "#find").clear()
    searched(text_page, "football")
    link = find(text_page, "#rows-names a")
    assert "football" in link.text
    link.click()
    assert "football" in text_page.switch_to.active_element.text


def test_the_level_changes_names_colors_and_the_export(text_page):
    numbers = text_page.execute_script(
        "return JSON.parse(document.getElementById('data').textContent).levels.map((l) => l.k)"
    )
    assert 4 in numbers and len(numbers) > 1
    other = next(k for k in numbers if k != 4)
    picture = "return document.getElementById('map').toDataURL()"
    drawn(text_page)
    before = text_page.execute_script(picture)
    text_page.execute_script(
        "const s=document.getElementById('level');s.value=arguments[0];"
        "s.dispatchEvent(new Event('input'))",
        numbers.index(other),
    )
    drawn(text_page)
    assert find(text_page, "#level-number").text.startswith(f"{other} clusters, mean confidence")
    assert text_page.execute_script(picture) != before
    searched(text_page, "football")
    _, table = exported(text_page, "#rows-export")
    assert table[f"cluster_of_{other}"].between(0, other - 1).all()
    assert table["cluster"].nunique() >= 1


def test_colors_by_outlier_score(text_page):
    from selenium.webdriver.support.ui import Select

    Select(find(text_page, "#map-color")).select_by_value("outlier")
    drawn(text_page)
    assert find(text_page, "#map-legend").text.startswith("like the others")


def test_what_to_trust_is_said_in_words(text_page):
    said = find(text_page, ".trust").text
    assert "can be used as they are at 95 %" in said
    assert "an estimate" in said and "between" in said and "certify" in said
    assert "Held against the true labels" in said


def test_outliers_and_near_duplicates_have_their_lists(text_page):
    assert len(text_page.find_elements("css selector", "#outliers li")) >= 1
    name, table = exported(text_page, "#export-outliers")
    assert name == "outliers.csv" and table["outlier_score"].is_monotonic_decreasing
    find(text_page, "#outliers-show").click()
    assert f"{len(table)} rows unlike" in find(text_page, "#rows-title").text.replace(
        "row ", "rows "
    )


def test_a_card_picks_its_cluster_out_on_the_map(text_page):
    card = find(text_page, ".cluster")
    name = card.find_element("css selector", "h3").text
    card.find_element("css selector", "button").click()
    drawn(text_page)
    assert f"{name} picked out" in find(text_page, "#map-note").text


def test_a_cluster_that_it_is_taken_for_is_one_click_away(text_page):
    links = text_page.find_elements("css selector", ".cluster .confused a")
    if not links:  # these topics are far apart: the sentence above has no pair either
        assert "may be one" not in find(text_page, ".trust").text
        return
    name = links[0].text
    links[0].click()
    focused = text_page.switch_to.active_element
    assert focused.find_element("css selector", "h3").text == name


def test_tab_reaches_the_controls_and_nothing_overflows_on_a_phone(text_page):
    from selenium.webdriver.common.keys import Keys

    find(text_page, "body").send_keys(Keys.TAB)
    assert text_page.switch_to.active_element.text == "Skip to the clusters"
    text_page.set_window_size(400, 800)
    try:
        wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert text_page.execute_script(wide) <= 0
        drawn(text_page)
        searched(text_page, "football")
        assert text_page.execute_script(wide) <= 0, "with rows listed"
    finally:
        text_page.set_window_size(1280, 900)


def test_images_are_on_the_map_and_in_the_gallery(browser, pages):
    page = opened(browser, pages / "image.html")
    assert find(page, "#map-color").get_attribute("value") == "pictures"
    broken = page.execute_script(
        "return [...document.images].filter(i => i.complete && !i.naturalWidth).length"
    )
    assert broken == 0
    assert len(page.find_elements("css selector", ".examples.image img")) >= 16
