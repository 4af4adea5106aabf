"""The scene table: the page shows the model the scene that Python draws, and says of it what the library says."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from io import BytesIO

import engine
import numpy as np
import pytest
import torch
import traitlets
from browser import WATCHED, accessible, watch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer

import tokentm
from tokentm.demo.sprites import CATALOGUE, CLASSES
from tokentm.errors import InvalidOptionError
from tokentm.evaluation.removal import Removal
from tokentm_widgets import SceneTable, TokenPlayground, export, export_html, scene_drawing
from tokentm_widgets.live_model import live_model
from tokentm_widgets.scene_table import METHODS, arranged, on_object

FRONT = engine.SERVER.parent
TWO = [
    {"sprite": "🐱", "x": 34.0, "y": 44.0, "size": 52.0, "angle": -5.0},
    {"sprite": "🛻", "x": 80.0, "y": 74.0, "size": 60.0, "angle": 3.0},
]

# what goes to the worker and what comes back, written down
RECORDED = """() => {
  Object.assign(window, { asked: [], heard: [], workers: [] });
  const Real = Worker;
  window.Worker = class extends Real {
    constructor(...given) {
      super(...given);
      workers.push(this);
      this.addEventListener("message", ({ data }) => {
        if (data.answer?.logits) heard.push({ ...data, at: performance.now() });
      });
    }
    postMessage(message, ...more) {
      if (message.act === "explain") asked.push({ ...message, at: performance.now() });
      super.postMessage(message, ...more);
    }
  };
}"""


@pytest.fixture(scope="module")
def demo():
    return tokentm.load_demo()


@pytest.fixture(scope="module")
def text():
    return export.page(SceneTable())


@pytest.fixture
def page(chromium_page, text):
    wrong = watch(chromium_page)
    opened(chromium_page, text)
    yield chromium_page
    assert wrong == []


def opened(page, text, address=""):
    page.set_default_timeout(60000)
    page.set_viewport_size({"width": 1280, "height": 1200})
    page.add_init_script(f"({RECORDED})()")
    page.route("http://widget.test/**", lambda route: route.fulfill(content_type="text/html", body=text))
    page.goto(f"http://widget.test/{address}")
    settled(page)
    page.evaluate(WATCHED)


def settled(page):
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")  # it has painted
    page.wait_for_selector(".tokentm[data-settled=true]", timeout=60000)


def put(page, **values):
    for name, value in values.items():
        page.evaluate("([name, value]) => model.set(name, value)", [name, value])
    settled(page)


def answered(page):
    """The last question with an answer: the image, and what the engine said of it."""
    sent = page.evaluate(
        """() => {
             const answer = heard.at(-1);
             const { given } = asked.find((one) => one.id === answer.id);
             const maps = Object.entries(answer.answer.maps).map(([name, map]) => [name, [...map.scores]]);
             return { image: [...given.image], logits: [...answer.answer.logits], maps: Object.fromEntries(maps),
                      target: answer.answer.target, kept: given.kept };
           }"""
    )
    maps = {name: torch.tensor(values) for name, values in sent["maps"].items()}
    return {**sent, "image": torch.tensor(sent["image"]).view(3, 112, 112), "maps": maps}


def middle(page, x, y):
    """A point of the scene on the screen."""
    box = page.locator(".stage").bounding_box()
    return box["x"] + x / 112 * box["width"], box["y"] + y / 112 * box["height"]


def drag(page, start, end, steps=12):
    page.mouse.move(*middle(page, *start))
    page.mouse.down()
    page.mouse.move(*middle(page, *end), steps=steps)
    page.mouse.up()
    settled(page)


def said(page):
    return page.inner_text("#first .verdict:visible").replace("\u00a0", " ")


def node(script, **given):
    """What a module of JavaScript gives as `answer`, of JSON."""
    if not engine.found():
        pytest.skip("no Node.js on this machine")
    code = f"""
      import {{ readFileSync }} from "node:fs";
      const given = JSON.parse(readFileSync(0, "utf8"));
      const bytesOf = (text) => new Uint8Array(Buffer.from(text, "base64"));
      {script}
      process.stdout.write(JSON.stringify(answer));
    """
    done = subprocess.run(
        [engine.found(), "--input-type=module", "-e", code],
        cwd=FRONT,
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# ---- in Python ----


def test_objects_are_completed_and_named_by_class():
    table = SceneTable(objects=({"sprite": "cat"}, {"sprite": "⚽", "x": 90, "size": np.int64(30)}))
    assert table.objects == [
        {"sprite": "🐱", "x": 56.0, "y": 56.0, "size": 44.0, "angle": 0.0},
        {"sprite": "⚽", "x": 90.0, "y": 56.0, "size": 30.0, "angle": 0.0},
    ]
    assert type(table.objects[1]["size"]) is float  # as it is sent, numbers of numpy cannot be
    assert set(table.masks) == {"cat", "ball"}
    assert table.masks["ball"][56, 90]
    assert not table.masks["cat"][56, 90]


def test_nothing_given_puts_a_cat_beside_a_car(demo):
    table = SceneTable()
    assert (table.objects, table.background, table.target, table.gone) == (TWO, "stripes", None, [])
    answer = demo.model(demo.transform(table.scene)[None]).detach()[0]
    assert demo.classes[int(answer.argmax())] == "cat"
    assert repr(table) == "SceneTable(cat, car on stripes)"


@pytest.mark.parametrize("classes", [None, "cat", ["dog", "tree", "cup"]])
def test_a_seed_gives_the_same_scene_each_time_with_everything_in_sight(classes):
    one, other = arranged(7, classes), arranged(7, classes)
    assert one == other
    assert one != arranged(8, classes)
    table = SceneTable(7, classes)
    assert table.objects == one["objects"]
    names = [classes] if isinstance(classes, str) else classes
    if names:
        assert list(table.masks) == names
    for i, placed in enumerate(table.objects):
        alone = scene_drawing.composed(scene_drawing.background("plain"), [placed]).owner == 0
        assert (table._drawn().owner == i).sum() >= alone.sum() / 2
        assert placed["sprite"] in "".join(seen for seen, _ in CATALOGUE.values())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("objects", "cat", "expected objects as a list of {sprite, x, y, size, angle}; got 'cat'"),
        ("objects", {"sprite": "cat"}, "expected objects as a list"),
        ("objects", [{"sprite": "cat"}] * 7, "expected at most 6 objects; got 7"),
        ("objects", [{"x": 3}], "expected an object as {sprite, x, y, size, angle}; got {'x': 3}"),
        ("objects", [{"sprite": "cat", "colour": 3}], "expected an object as"),
        ("objects", [{"sprite": "lion"}], "or the name of a class among cat, dog, bird"),
        ("objects", [{"sprite": "cat", "size": 8}], "expected size of 🐱 from 16 to 100; got 8"),
        ("objects", [{"sprite": "cat", "x": float("nan")}], "expected x of 🐱 as a number; got nan"),
        ("objects", [{"sprite": "cat", "y": "3"}], "expected y of 🐱 as a number; got '3'"),
        ("gone", [1, 1], "expected different patches from 0 to 195; got [1, 1]"),
        ("gone", [196], "expected different patches"),
        ("gone", 5, "expected different patches"),
        ("picture", b"abc", "expected a picture of 112 x 112 x 3 bytes; got 3 bytes"),
        ("picture", "nowhere.png", "nowhere.png"),
        ("background", "sky", "stripes"),
        ("target", "lion", "cat"),
        ("method", "saliency", "tokentm"),
        ("mode", "erase", "take"),
    ],
)
def test_refusals_say_what_is_taken(name, value, message):
    with pytest.raises(traitlets.TraitError, match=re.escape(message)):
        SceneTable(**{name: value})


def test_refusals_of_classes_and_keywords():
    with pytest.raises(InvalidOptionError, match="expected class names among cat"):
        SceneTable(classes=["lion"])
    with pytest.raises(InvalidOptionError, match="expected a seed of 0 or more; got -1"):
        SceneTable(-1)
    with pytest.raises(InvalidOptionError, match="Did you mean background="):
        SceneTable(backgroud="plain")


def test_drawings_cover_each_other_and_masks_say_which_is_seen():
    objects = [{"sprite": "⚽", "size": 80}, {"sprite": "🐱", "size": 40}]
    table = SceneTable(objects=objects)
    behind, front = table.masks["ball"], table.masks["cat"]
    assert not (behind & front).any()
    assert front[56, 56]
    assert behind[56, 20]
    table.objects = objects[::-1]
    assert "cat" in table.masks
    assert not table.masks["cat"].any()
    assert on_object(torch.ones(196), behind) == pytest.approx(behind.mean(), abs=1e-6)


def test_a_picture_of_ones_own_is_prepared_as_the_model_takes_it():
    table, picture = SceneTable(objects=[]), Image.new("RGB", (300, 200), (10, 200, 30))
    table.picture = picture
    assert len(table.picture) == 112 * 112 * 3
    assert table.scene.getpixel((50, 50)) == (10, 200, 30)
    assert "a picture of the reader's" in table.figure().alt
    table.picture = memoryview(table.picture)
    assert isinstance(table.picture, bytes)


def test_what_a_browser_sends_is_taken_and_numbers_become_numbers_of_python():
    table = SceneTable()
    sent = {"sprite": "🐈", "x": 36, "y": 52.25, "size": 56, "angle": -10}
    table.set_state({"objects": [sent], "gone": [3, 1], "mode": "take", "picture": memoryview(bytes(3 * 112**2))})
    assert table.objects == [sent]
    assert (table.gone, table.mode, table.picture) == ([3, 1], "take", bytes(3 * 112**2))
    assert table.scene.getpixel((0, 0)) == (0, 0, 0)


def test_the_figure_shows_scene_and_maps_by_the_library(demo):
    table = SceneTable(objects=TWO, target="car")
    figure = table.figure()
    trace = tokentm.record(demo.model, demo.transform(table.scene)[None], CLASSES.index("car"))
    shares = [on_object(tokentm.methods.get(name)(trace).scores[0], table.masks["car"]) for name in METHODS]
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == [
        "image",
        f"Attention only: {100 * shares[0]:.0f} %",
        f"Attention × gradient: {100 * shares[1]:.0f} %",
        f"TokenTM: {100 * shares[2]:.0f} %",
    ]
    best = trace.logits.softmax(-1)[0].max()
    answer = f"It says cat {100 * best:.0f} %, car {100 * trace.probabilities[0, 4]:.0f} %."
    assert figure.get_suptitle() == f"{answer} So much of each map lies on the car:"
    table.gone = [119, 120, 121, 133, 134, 135, 136, 147, 148, 149]
    gone = torch.zeros(1, 196, dtype=torch.bool)
    gone[0, table.gone] = True
    now = Removal(trace)(gone).softmax(-1)[0, 4]
    before = 100 * trace.probabilities[0, 4]
    sentence = f"Without 10 of 196 patches, car goes from {before:.0f} % to {100 * now:.0f} %."
    assert table.figure().get_suptitle().startswith(sentence)


def test_javascript_draws_the_same_pixels():
    """Every kind of background, turned, scaled, cut off by the edge; to the last bit."""
    rng = np.random.default_rng(0)
    sprites = [*scene_drawing.CLASS_OF]
    scenes = []
    for name in scene_drawing.BACKGROUNDS:
        placed = [
            {
                "sprite": str(rng.choice(sprites)),
                "x": float(rng.uniform(0, 112)),
                "y": float(rng.uniform(0, 112)),
                "size": float(rng.uniform(16, 100)),
                "angle": float(rng.uniform(-180, 180)),
            }
            for _ in range(4)
        ]
        scenes.append((scene_drawing.background(name), [{**TWO[0], "angle": 0.0}, *placed]))
    found = node(
        """
        import { composed, layerOf, surrounded } from "../../tokentm_widgets/front/scene_drawing.js";
        const answer = given.scenes.map(({ background, objects }) => {
          const layers = objects.map((one) => layerOf(surrounded(bytesOf(given.drawings[one.sprite])), one));
          const { pixels, owner } = composed(bytesOf(background), layers);
          return { pixels: Buffer.from(pixels).toString("base64"), owner: [...owner] };
        });""",
        drawings={one: base64.b64encode(scene_drawing.premultiplied(one).tobytes()).decode() for one in sprites},
        scenes=[{"background": base64.b64encode(below.tobytes()).decode(), "objects": all_} for below, all_ in scenes],
    )
    for (below, objects), one in zip(scenes, found, strict=True):
        drawn = scene_drawing.composed(below, objects)
        pixels = np.frombuffer(base64.b64decode(one["pixels"]), np.uint8).reshape(112, 112, 3)
        np.testing.assert_array_equal(pixels, drawn.pixels)
        np.testing.assert_array_equal(np.array(one["owner"]).reshape(112, 112), drawn.owner)


def test_maps_without_some_patches_are_those_of_a_model_that_has_only_the_others(demo):
    """49 patches that stay are a picture of 7 x 7 patches, for a model with their positions."""
    kept = sorted(np.random.default_rng(1).permutation(196)[:49].tolist())
    image = demo.transform(SceneTable().scene)
    patches = image.unfold(1, 8, 8).unfold(2, 8, 8).reshape(3, 196, 8, 8)[:, kept]
    small = patches.view(3, 7, 7, 8, 8).permute(0, 1, 3, 2, 4).reshape(3, 56, 56)
    full: VisionTransformer = demo.model
    state = full.state_dict()
    state["pos_embed"] = state["pos_embed"][:, [0, *(1 + patch for patch in kept)]]
    options = {"img_size": 56, "patch_size": 8, "num_classes": 16, "embed_dim": full.embed_dim}
    model = VisionTransformer(**options, depth=len(full.blocks), num_heads=full.blocks[0].attn.num_heads, mlp_ratio=3)
    model.load_state_dict(state)
    live = live_model(full)
    found = node(
        """
        import { engineOf } from "../../tokentm_widgets/front/engine/answering.js";
        const engine = engineOf();
        const ask = (act, asked) => engine(act, asked, () => {});
        ask("open", { spec: given.spec, weights: new Uint16Array(bytesOf(given.weights).buffer) });
        const image = new Float32Array(bytesOf(given.image).buffer);
        const plain = ({ logits, maps }) => ({ logits: [...logits],
          maps: Object.fromEntries(Object.entries(maps).map(([name, map]) => [name, [...map.scores]])) });
        const asked = { image, target: 0, methods: given.methods };
        const whole = plain(ask("explain", asked));
        const answer = { some: plain(ask("explain", { ...asked, kept: given.kept })), whole,
          all: plain(ask("explain", { ...asked, kept: [...Array(196).keys()] })), refused: "" };
        try { ask("explain", { ...asked, methods: ["input_x_gradient"], kept: given.kept }); }
        catch (error) { answer.refused = error.message; }""",
        spec=live.spec,
        weights=base64.b64encode(live.weights).decode(),
        image=base64.b64encode(image.numpy().tobytes()).decode(),
        kept=kept,
        methods=list(METHODS),
    )
    gone = [patch for patch in range(196) if patch not in kept]
    for name in METHODS:
        wanted = tokentm.explain(model.eval(), small[None], 0, method=name)
        scores = torch.tensor(found["some"]["maps"][name])
        assert scores[gone].abs().max() == 0
        torch.testing.assert_close(scores[kept], wanted.scores[0], rtol=1e-4, atol=1e-5 * float(wanted.scores.max()))
    torch.testing.assert_close(torch.tensor(found["some"]["logits"]), wanted.logits[0], rtol=0, atol=1e-4)
    assert found["all"] == found["whole"]
    assert "expected all patches to be there" in found["refused"]


# ---- in a browser ----


def test_the_page_says_what_the_library_says_of_the_same_pixels(page, demo):
    for objects, background in (
        (TWO, "stripes"),
        ([{"sprite": "🌳", "x": 40.5, "y": 60.25, "size": 70.0, "angle": 31.0}], "discs"),
    ):
        put(page, objects=objects, background=background)
        image = demo.transform(SceneTable(objects=objects, background=background).scene)
        found = answered(page)
        assert (found["image"] - image).abs().max() < 1e-6
        for name in METHODS:
            wanted = tokentm.explain(demo.model, image[None], found["target"], method=name)
            size = float(wanted.scores.max())
            assert (found["maps"][name] - wanted.scores[0]).abs().max() <= 1e-5 * size, name
        assert (torch.tensor(found["logits"]) - wanted.logits[0]).abs().max() <= 1e-5 * wanted.logits.abs().max()
    name = demo.classes[found["target"]]
    assert page.inner_text("#first h2") == f"Why did it say {name}?"


def test_a_cat_dragged_behind_the_car_changes_the_answer_and_the_last_place_is_the_one_answered(page, demo):
    assert page.inner_text("#first h2") == "Why did it say cat?"
    drag(page, (34, 44), (86, 80))
    objects = page.evaluate("model.get('objects')")
    assert [objects[0]["x"], objects[0]["y"]] == pytest.approx([86, 80], abs=0.5)
    assert objects[1] == TWO[1]
    image = demo.transform(SceneTable(objects=objects).scene)
    assert (answered(page)["image"] - image).abs().max() < 1e-6  # a pixel of 255 is 0.008 to the model
    assert page.inner_text("#first h2") == "Why did it say car?"
    assert re.search(r"\d+ % of the TokenTM map lies on the car, which covers \d+ % of the picture", said(page))


def test_the_verdict_is_the_librarys(page, demo):
    page.click("#first [name=class] >> text=car")
    settled(page)
    table = SceneTable(target="car")
    wanted = tokentm.explain(demo.model, demo.transform(table.scene)[None], 4)
    on, area = on_object(wanted.scores[0], table.masks["car"]), table.masks["car"].mean()
    assert f"{100 * on:.0f} % of the TokenTM map lies on the car, which covers {100 * area:.0f} %" in said(page)
    assert f"{on / area:.1f} times chance" in said(page)
    assert page.inner_text("#first .why h3") == "Why car?"
    page.click("#first [name=back]")
    settled(page)
    assert page.evaluate("model.get('target')") is None
    assert page.inner_text("#first .why h3") == "Why cat?"


def test_the_corner_scales_and_turns(page):
    page.mouse.click(*middle(page, 34, 44))
    corner = page.locator("#first .corner").bounding_box()
    page.mouse.move(corner["x"] + 12, corner["y"] + 12)
    page.mouse.down()
    page.mouse.move(*middle(page, 34, 90), steps=4)
    page.mouse.up()
    settled(page)
    cat = page.evaluate("model.get('objects')[0]")
    assert cat["size"] == pytest.approx(46 * 2**0.5, abs=4)
    assert cat["angle"] == pytest.approx(45 - 5, abs=8)


def test_everything_is_done_by_keyboard(page):
    page.locator("#first .drawing").first.focus()
    for key in ("ArrowRight", "Shift+ArrowDown", "+", ".", "n"):
        page.keyboard.press(key)
    settled(page)
    cat = page.evaluate("model.get('objects')[0]")
    assert cat == {"sprite": "🐈", "x": 36, "y": 52, "size": 56, "angle": 10}
    label = page.locator("#first .drawing").first.get_attribute("aria-label")
    assert label == "cat, 32 % from the left, 46 % from the top, size 56"
    page.keyboard.press("f")
    settled(page)
    assert page.evaluate("model.get('objects')[1].sprite") == "🐈"
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("cat")
    page.keyboard.press("Delete")
    page.keyboard.press("Delete")
    settled(page)
    assert page.evaluate("model.get('objects')") == []
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Add: cat"
    assert "on the table. The map shows what would speak for it." in said(page)
    page.keyboard.press("Enter")
    settled(page)
    assert len(page.evaluate("model.get('objects')")) == 1


def test_the_shelf_fills_the_table_by_click_and_drag_up_to_six(page):
    page.click("#first .shelf button >> nth=1")
    settled(page)
    box = page.locator("#first .shelf button >> nth=4").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(*middle(page, 20, 100), steps=8)
    page.mouse.up()
    settled(page)
    objects = page.evaluate("model.get('objects')")
    assert len(objects) == 4
    assert [objects[3]["x"], objects[3]["y"]] == pytest.approx([20, 100], abs=1)
    assert objects[3]["sprite"] in CATALOGUE["car"][0]
    for _ in range(4):
        page.click("#first .shelf button >> nth=0")
    assert len(page.evaluate("model.get('objects')")) == 6
    assert page.inner_text("#first .hint") == "Six things are enough for one table"


def test_patches_are_painted_away_and_put_back(page, demo):
    before = answered(page)
    page.click("#first [name=mode][data-value=take]")
    page.mouse.move(*middle(page, 28, 36))
    page.mouse.down()
    page.mouse.move(*middle(page, 44, 36), steps=3)
    page.mouse.up()
    settled(page)
    gone = page.evaluate("model.get('gone')")
    assert gone == [4 * 14 + 3, 4 * 14 + 4, 4 * 14 + 5]
    trace = tokentm.record(demo.model, before["image"][None], before["target"])
    away = torch.zeros(1, 196, dtype=torch.bool)
    away[0, gone] = True
    now = Removal(trace)(away).softmax(-1)[0, before["target"]]
    shares = before["maps"]["tokentm"] / before["maps"]["tokentm"].sum()
    wanted = (
        f"3 of 196 patches gone. The map had given them {percent(float(shares[gone].sum()))} of the reason; the "
        f"probability of cat went from {percent(float(trace.probabilities[0, 0]))} to {percent(float(now))}."
    )
    assert said(page) == wanted
    found = answered(page)
    assert found["maps"]["tokentm"][gone].abs().max() == 0
    assert page.locator("#first .pairs span").count() == 3
    assert page.evaluate("heard.length - 1") == 3  # each patch by itself
    page.mouse.click(*middle(page, 28, 36))
    settled(page)
    assert page.evaluate("model.get('gone')") == gone[1:]
    assert page.locator("#first .pairs span").count() == 2
    page.click("#first [name=mode][data-value=move]")
    settled(page)
    assert page.evaluate("model.get('gone')") == []
    assert answered(page)["logits"] == before["logits"]


def percent(share):
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.1f} %"


def test_ten_patches_at_once_and_single_ones_by_keyboard(page):
    tokentm_map = answered(page)["maps"]["tokentm"]
    page.click("#first [name=mode][data-value=take]")
    page.click("#first [name=take][data-value=most]")
    settled(page)
    assert page.evaluate("model.get('gone')") == tokentm_map.argsort(descending=True)[:10].tolist()
    page.click("#first [name=take][data-value=back]")
    settled(page)
    page.locator("#first .cursor").focus()
    for key in ("ArrowUp", "ArrowLeft", "Space"):
        page.keyboard.press(key)
    settled(page)
    assert page.evaluate("model.get('gone')") == [6 * 14 + 6]
    assert "Row 7, column 7" in page.get_attribute("#first .cursor", "aria-label")
    page.keyboard.press("Space")
    settled(page)
    assert page.evaluate("model.get('gone')") == []


def test_a_picture_of_the_readers_own_is_guessed_at(page, demo):
    picture = Image.effect_mandelbrot((300, 200), (-2, -1, 1, 1), 50).convert("RGB")
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    page.set_input_files(
        "#first [name=picture]", {"name": "own.png", "mimeType": "image/png", "buffer": buffer.getvalue()}
    )
    page.wait_for_function("model.get('picture') != null")
    settled(page)
    seen = tokentm.prepare(demo.model, [picture])
    assert (answered(page)["image"] - seen.images[0]).abs().max() < 1e-6
    assert "No mask is known for your picture." in said(page)
    assert page.locator("#first .maps .value:visible").count() == 0
    assert page.inner_text("#first .hint") == "It knows drawings of 16 things. Here it guesses."
    page.click("#first .swatch >> nth=3")
    settled(page)
    assert page.evaluate("model.get('picture')") is None


def test_a_file_that_is_no_picture_is_refused_and_everything_stays(page):
    before = said(page)
    page.set_input_files("#first [name=picture]", {"name": "x.txt", "mimeType": "text/plain", "buffer": b"no picture"})
    page.wait_for_selector("#first .alarm:not([hidden])")
    sentence = "Expected a picture that this browser can read (PNG, JPEG, WebP …); x.txt could not be read."
    assert page.inner_text("#first .alarm").startswith(sentence)
    assert page.evaluate("model.get('objects').length") == 2
    assert said(page).startswith(before.split("\n")[0])


def test_a_lost_worker_leaves_the_screen_as_it_is_and_the_next_move_starts_another(page):
    verdict = page.inner_text("#first .verdict")
    page.evaluate(
        """() => {
             const [worker] = workers;
             const lost = new ErrorEvent("error", { message: "gone" });
             worker.postMessage = () => setTimeout(() => worker.dispatchEvent(lost));
           }"""
    )
    page.evaluate("model.set('background', 'discs')")
    page.wait_for_selector("#first .alarm:not([hidden])")
    alarm = page.inner_text("#first .alarm")
    assert "The part of this page that computes was lost (gone)" in alarm
    assert page.inner_text("#first .verdict") == verdict
    assert page.evaluate("workers.length") == 1
    put(page, background="tiles")
    assert page.evaluate("workers.length") == 2
    assert page.locator("#first .alarm").is_hidden()


@pytest.fixture
def strict_page(chromium):
    """A page that is held to its own policy, as a reader's is."""
    page = chromium.new_page(viewport={"width": 1280, "height": 1000})
    yield page
    page.close()


def test_without_webassembly_it_says_that_it_is_slower(strict_page, text):
    assert "'wasm-unsafe-eval'; worker-src blob:" in text
    opened(strict_page, text.replace(" 'wasm-unsafe-eval'", "", 1))
    assert "without WebAssembly" in strict_page.inner_text("#first .hint")
    assert strict_page.inner_text("#first h2") == "Why did it say cat?"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page, scheme):
    page.emulate_media(color_scheme=scheme)
    assert accessible(page, "#first") == []
    page.click("#first [name=mode][data-value=take]")
    page.click("#first [name=take][data-value=random]")
    settled(page)
    assert accessible(page, "#first") == []


def test_on_a_phone_nothing_overflows_and_fingers_find_everything(page):
    page.set_viewport_size({"width": 390, "height": 844})
    for mode in ("move", "take"):
        put(page, mode=mode)
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        small = page.locator("#first .tools button:visible, #first .maps button").evaluate_all(
            """(all) => all
                 .map((one) => [one.getAttribute("aria-label") ?? one.textContent, one.getBoundingClientRect()])
                 .filter(([, { width, height }]) => width < 44 || height < 44).map(([name]) => name)"""
        )
        assert small == []
    put(page, mode="move")
    assert said(page).startswith("It says cat 73 %, car 25 %. 58 % of the TokenTM map")


def test_a_page_of_its_own_opens_from_a_file_and_loads_nothing(tmp_path, strict_page):
    path = export_html(SceneTable(background="tiles", objects=TWO), tmp_path / "table.html")
    assert path.stat().st_size <= 5_000_000
    wrong, requests = watch(strict_page), []
    strict_page.on("request", lambda request: requests.append(request.url))
    strict_page.goto(f"{path.as_uri()}#target=car&method=rollout")
    settled(strict_page)
    assert [one for one in requests if not one.startswith("blob:")] == [path.as_uri()]
    assert wrong == []
    assert strict_page.inner_text(".why h3") == "Why car?"
    assert "WebAssembly" not in strict_page.inner_text(".hint")
    assert strict_page.get_attribute("[name=map][data-value=rollout]", "aria-pressed") == "true"


def test_only_pages_that_compute_may_start_workers(text):
    assert "worker-src" in text
    assert "worker-src" not in export.page(TokenPlayground())


def test_two_views_answer_and_a_closed_one_lets_its_worker_go(page):
    page.evaluate("void (window.close_second = show('second'))")
    page.wait_for_selector("#second .tokentm[data-settled=true]")
    put(page, background="plain")
    page.wait_for_selector("#second .tokentm[data-settled=true]")
    assert page.inner_text("#second h2") == page.inner_text("#first h2")
    page.evaluate("workers.at(-1).terminate = () => { window.ended = true }; close_second()")
    assert page.evaluate("window.ended")


def test_sentences_are_read_out_when_things_rest(page):
    page.wait_for_function(
        "document.querySelector('#first .spoken[aria-live]').textContent.includes('lies on the cat')"
    )
    page.evaluate(
        "window.told = 0; new MutationObserver(() => told++).observe("
        "document.querySelector('#first .spoken[aria-live]'), { childList: true, characterData: true, subtree: true })"
    )
    page.evaluate("model.set('target', 'car')")
    settled(page)
    assert page.evaluate("told") == 0  # not yet: things have only just come to rest
    page.wait_for_function(
        "document.querySelector('#first .spoken[aria-live]').textContent.includes('lies on the car')"
    )
    assert page.evaluate("told") <= 2


def test_two_fingers_scale_and_turn_and_one_paints(chromium, text):
    page = chromium.new_page(viewport={"width": 390, "height": 844}, has_touch=True, bypass_csp=True)
    page.add_init_script(f"({RECORDED})()")
    page.route("http://widget.test/**", lambda route: route.fulfill(content_type="text/html", body=text))
    page.goto("http://widget.test/")
    settled(page)
    page.evaluate(WATCHED)
    page.locator(".stage").scroll_into_view_if_needed()
    touch = page.context.new_cdp_session(page)

    def fingers(kind, *points):
        placed = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(middle(page, *point) for point in points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": placed})

    fingers("touchStart", (34, 34))
    fingers("touchStart", (34, 34), (34, 54))
    fingers("touchMove", (44, 44), (24, 44))
    fingers("touchMove", (49, 44), (19, 44))
    fingers("touchEnd")
    settled(page)
    cat = page.evaluate("model.get('objects')[0]")
    assert cat["size"] == pytest.approx(52 * 1.5, abs=1)
    assert cat["angle"] == pytest.approx(85, abs=1)
    page.click("#first [name=mode][data-value=take]")
    page.locator(".stage").scroll_into_view_if_needed()
    fingers("touchStart", (4, 60))
    fingers("touchMove", (4, 84))
    fingers("touchEnd")
    settled(page)
    assert page.evaluate("model.get('gone')") == [98, 112, 126, 140]
    page.close()
