"""How the front end is put together, and what Python sends to it."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Annotated, TypedDict

import pytest
import torch
import traitlets
from front import schema_types

from tokentm_widgets import base, front_end, schema
from tokentm_widgets.explorer import ExplorerShown
from tokentm_widgets.front_end import FOLDER, FrontEndError, linked, parsed
from tokentm_widgets.token_playground import PointsData, TokenPlaygroundData

ENTRIES = sorted(path.stem for path in FOLDER.glob("*.js") if "\nexport default " in path.read_text(encoding="utf-8"))


@pytest.fixture
def write(tmp_path):
    """``write(entry=..., other=...)``: files of a front end; gives the path of the entry."""

    def written(entry, **others):
        for name, text in {"entry": entry, **others}.items():
            path = tmp_path / f"{name.replace('__', '/')}.js"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path / "entry.js"

    return written


def run(text):
    """What ``export default () => value`` gives, as JSON, in Node."""
    node = shutil.which("node")
    if node is None:
        reason = "no Node.js on this machine (Debian: apt install nodejs)"
        if os.environ.get("TOKENTM_REQUIRE_NODE"):
            pytest.fail(reason)
        pytest.skip(reason)
    call = 'const text = await new Response(process.stdin).text(); const module = await import("data:text/javascript,"'
    call += " + encodeURIComponent(text)); console.log(JSON.stringify(module.default()));"
    done = subprocess.run([node, "--input-type=module", "-e", call], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ---- modules ----


def test_every_widget_has_an_entry():
    made = [base.Widget, *base.Widget.__subclasses__(), *base.TraceWidget.__subclasses__()]
    entries = {kind._esm for kind in made if "_esm" in vars(kind)}
    assert entries == {front_end.front_end(name) for name in ENTRIES if name != "page"}


@pytest.mark.parametrize("name", ENTRIES)
def test_a_linked_widget_is_one_module(name):
    text = front_end.front_end(name)
    assert "import " not in text.replace("is imported", "")
    assert text.count("export ") == 1
    assert text.endswith(f'export default $modules["{name}.js"].default;\n')


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.js")), ids=lambda path: path.name)
def test_modules_say_what_they_are(path):
    assert path.read_text(encoding="utf-8").startswith("// ")


def test_modules_keep_their_own_names(write):
    entry = write(
        'import { shown } from "./first.js";\nimport { shown as other, Kind } from "./folder/second.js";\n'
        "const own = 3;\nexport default () => [shown(), other, new Kind().name, own];\n",
        first="const own = 1;\nexport function shown() {\n  return own;\n}\n",
        folder__second='import { shown as first } from "../first.js";\nconst own = 2;\n'
        'export const shown = [own, first()];\nexport class Kind {\n  name = "kind";\n}\n// the end',
    )
    assert run(linked(entry)) == '[1,[2,1],"kind",3]'


def test_a_module_needed_twice_runs_once(write):
    counted = "globalThis.runs = (globalThis.runs ?? 0) + 1;\nexport const runs = globalThis.runs;\n"
    passes = 'import { runs } from "./counted.js";\nexport const seen = runs;\n'
    text = linked(
        write(
            'import { seen as a } from "./a.js";\nimport { seen as b } from "./b.js";\nexport default () => [a, b];\n',
            a=passes,
            b=passes,
            counted=counted,
        )
    )
    assert text.count("globalThis.runs ??") == 1
    assert run(text) == "[1,1]"


def test_what_only_looks_like_an_import_is_left_alone(write):
    entry = write(
        "// import { a } from './a.js';\n"
        "/*\nimport { b } from './b.js';\nexport const c = 1;\n*/\n"
        "const said = \"import { d } from './d.js'; export const e = 1;\";\n"
        "const text = `\nimport { f } from './f.js';\nexport const g = "
        "${[`export ${1}`, '}'].map((x) => { return x; })} `;\n"
        "const important = { exported: 1 }, $import = 2;\n"
        "const escaped = \"\\\"\" + 'it\\'s // no comment /* ' + `\\`$\\{`;\n"
        "export default () => [said, text, important.exported / 1, $import, escaped];\n"
    )
    assert run(linked(entry)) == (
        "[\"import { d } from './d.js'; export const e = 1;\","
        "\"\\nimport { f } from './f.js';\\nexport const g = export 1,} \",1,2,"
        '"\\"it\'s // no comment /* `${"]'
    )


def test_comments_stay_at_home(write):
    text = linked(
        write(
            '// what it is\n\n/** Long,\n * longer. */\nexport default /* why */ () => "// text"; // because\n',
        )
    )
    assert "what it is" not in text
    assert "longer" not in text
    assert "why" not in text
    assert "because" not in text
    assert '"// text"' in text


@pytest.mark.parametrize(
    ("files", "error"),
    [
        (
            {"entry": 'import { b } from "./b.js";\n', "b": 'import { c } from "./c.js";\nexport const b = c;\n'}
            | {"c": 'import { b } from "./b.js";\nexport const c = b;\n'},
            r"expected no module to need itself; found b\.js > c\.js > b\.js\. Move",
        ),
        ({"entry": 'import { b } from "./entry.js";\nexport const a = 1;\n'}, r"found entry\.js > entry\.js"),
        (
            {"entry": 'import { a, b } from "./a.js";\nexport default a;\n', "a": "export const a = 1;\n"},
            r"expected a\.js to export b, which entry\.js imports; it exports a\.",
        ),
        ({"entry": 'import { a } from "./gone.js";\n'}, r"expected a module at .*gone\.js; found no such file"),
        ({"entry": "export const a = 1;\n"}, r"expected entry\.js to have an export default"),
        (
            {
                "entry": 'import { a } from "./a.js";\nimport { b as a } from "./a.js";\nexport default a;\n',
                "a": "export const a = 1;\nexport const b = 2;\n",
            },
            r"expected each name to be imported or declared once; entry\.js has a twice",
        ),
        (
            {
                "entry": 'import { a } from "./a.js";\nasync function a() {}\nexport default a;\n',
                "a": "export const a = 1;\n",
            },
            r"expected each name to be imported or declared once; entry\.js has a twice",
        ),
        ({"entry": "export const a = 1;\nexport const a = 2;\n"}, r"exported once; entry\.js has a twice"),
    ],
    ids=[
        "circle",
        "itself",
        "no such export",
        "no such file",
        "no default",
        "imported twice",
        "own name imported",
        "exported twice",
    ],
)
def test_modules_that_do_not_fit_are_refused(write, files, error):
    with pytest.raises(FrontEndError, match=error):
        linked(write(**files))


@pytest.mark.parametrize(
    "line",
    [
        'import a from "./a.js";',
        'import * as a from "./a.js";',
        'import "./a.js";',
        'import { a } from "library";',
        'import { a } from "https://example.org/a.js";',
        "import { a } from './a.js';",
        "import { a, a b } from './a.js';",
        'const a = import("./a.js");',
        'import("./a.js");',
        "const here = import.meta.url;",
        "export let a = 1;",
        "export { a };",
        'export * from "./a.js";',
        "export const { a } = b;",
        "  export const a = 1;",
        'const b = `${import("./a.js")}`;',
    ],
)
def test_other_forms_are_refused_with_their_place(line):
    with pytest.raises(FrontEndError) as raised:
        parsed(f"// one\nconst b = 1;\n{line}\nconst c = 1;\n", "some.js")
    text = str(raised.value)
    assert text.startswith('expected import { name, other as alias } from "./module.js"; export function')
    assert "line 3 of some.js has: " in text
    assert line[line.find("import") :].startswith(text.partition("has: ")[2]) or line.strip() in text


@pytest.mark.parametrize("text", ["const a = `${1;\n", "if (a) {\n", "const quotes = /`/;\n"])
def test_what_is_not_closed_is_refused(text):
    with pytest.raises(FrontEndError, match=r"expected every brace and template of a\.js to be closed"):
        parsed(text, "a.js")


# ---- what is sent ----


def test_the_front_ends_types_are_those_of_the_schema():
    assert schema_types.FILE.read_text(encoding="utf-8") == schema_types.written(), "run tests/front/schema_types.py"


def test_tensors_are_packed_as_the_schema_says():
    rows = torch.linspace(0, 1, 24).reshape(2, 3, 4)[..., :3]
    found = schema.packed(MapsData, {"attention": rows, "update": rows})
    assert found.sizes == {"L": 2, "P": 3}
    assert {name: len(part) for name, part in found.data["update"].items()} == {"codes": 18, "low": 24, "high": 24}


class MapsData(TypedDict):
    """Rows of two kinds."""

    attention: Annotated[schema.Coded, schema.Dims("coded", "L P P")]
    update: Annotated[schema.Coded, schema.Dims("coded", "L P P")]


def grid(**more):
    return {"rows": 2, "columns": 3, "aspect": 1.0, "offset": [0.0, 0.0], **more}


def test_dimensions_have_one_length():
    schema.packed(schema.Grid, grid())
    with pytest.raises(schema.SchemaError, match=r"expected offset with 2 = 2 of 2; got \(3,\)"):
        schema.packed(schema.Grid, grid(offset=[0.0, 0.0, 0.0]))
    with pytest.raises(schema.SchemaError, match=r"expected update with L = 2 of L P P; got \(3, 4, 4\)"):
        schema.packed(MapsData, {"attention": torch.ones(2, 4, 4), "update": torch.ones(3, 4, 4)})
    with pytest.raises(schema.SchemaError, match=r"expected attention with the dimensions L P P; got shape \(4, 4\)"):
        schema.packed(MapsData, {"attention": torch.ones(4, 4), "update": torch.ones(3, 4, 4)})
    points = {"tokens": [[1.0, 2.0]], "transformed": [[1.0, 2.0], [0.0, 1.0]]}
    with pytest.raises(schema.SchemaError, match="expected transformed with N = 1"):
        schema.packed(TokenPlaygroundData, {"limit": 3.0, "shortest": 0.1, "initial": points})


def test_names_are_those_of_the_schema():
    with pytest.raises(schema.SchemaError, match=r"expected the names of Grid; missing aspect, unknown aspekt"):
        schema.packed(schema.Grid, {**{name: v for name, v in grid().items() if name != "aspect"}, "aspekt": 1})


@pytest.mark.parametrize(
    ("wrong", "error"),
    [({"rows": 2.5}, "expected rows as int; got 2.5"), ({"aspect": "1"}, "expected aspect as float; got '1'")],
)
def test_plain_values_have_their_type(wrong, error):
    schema.packed(schema.Grid, grid(aspect=1))
    with pytest.raises(schema.SchemaError, match=error):
        schema.packed(schema.Grid, grid(**wrong))


def test_bytes_have_the_length_of_their_dimensions():
    shown = {"picture": None, "note": "", "method": "", "explained": "", "named": ""}
    shown |= {"target": 1, "score": 1.0, "unit": "none", "specific": True, "layers": 3, "heads": 2, "growth": None}
    shown |= grid(values=torch.ones(5), scores=torch.ones(6))
    assert schema.packed(ExplorerShown, shown).sizes == {"P": 6, "C": 5, "L": 3, "H": 2}
    with pytest.raises(schema.SchemaError, match=r"expected 24 bytes of scores \(P, float32\); got 6"):
        schema.packed(ExplorerShown, {**shown, "scores": bytes(6)})
    with pytest.raises(schema.SchemaError, match=r"expected scores with P = 6 of P; got \(5,\)"):
        schema.packed(ExplorerShown, {**shown, "scores": torch.ones(5)})


# ---- a widget from its three places ----


class Small(base.Widget):
    """As small as a widget can be."""

    _esm, _schema = front_end.front_end("token_playground"), PointsData
    chosen = base.Position("N")
    other = base.Position("N", optional=True)


def test_a_position_lies_within_its_dimension():
    made = Small({"tokens": [[1.0, 0.0]] * 3, "transformed": [[1.0, 0.0]] * 3}, chosen=2)
    assert (made.chosen, made.other, made._sizes) == (2, None, {"N": 3})
    made.other = 0
    made.other = None
    for name, value, none in (("chosen", 3, ""), ("chosen", -1, ""), ("chosen", True, ""), ("other", 3, " or None")):
        with pytest.raises(traitlets.TraitError, match=f"expected {name} from 0 to 2{none}; got {value}"):
            setattr(made, name, value)
    with pytest.raises(traitlets.TraitError):
        made.chosen = None
    with pytest.raises(traitlets.TraitError, match="expected chosen from 0 to 0; got 1"):
        Small({"tokens": [[1.0, 0.0]], "transformed": [[1.0, 0.0]]}, chosen=1)
    assert made.get_state()["chosen"] == 2
