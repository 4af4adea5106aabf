"""The front end of a widget as one ES module, put together from the modules of ``front/`` when it is loaded.

Jupyter takes a widget's front end as one text, without a server that could answer imports. So every module becomes the
body of a function that returns what it exports, in the order in which modules need each other. Modules keep their own
names, and code stays as it is in the files, without the comments. The forms of import and export are few, so that no
parser of JavaScript is needed; any other is refused, see :func:`linked`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).with_name("front")

_IMPORT = re.compile(r'import \{([\w$,\s]+)\} from "(\.{1,2}/[\w./-]+\.js)";')
_IMPORTED = re.compile(r"([\w$]+)(?: as ([\w$]+))?")
_EXPORT = re.compile(r"export (?=(?:async function|function|class|const) ([\w$]+))")
_DEFAULT = re.compile(r"export default ")
_DECLARED = re.compile(r"^(?:export )?(?:async )?(?:function\*?|const|let|var|class) ([\w$]+)", re.MULTILINE)
_KEYWORD = re.compile(r"(?<![\w$.])(?:import|export)(?![\w$])")
_FORMS = (
    'import { name, other as alias } from "./module.js"; export function, async function, class or const name; and '
    "export default, each at the beginning of a line"
)

# the pieces of code, and of a template literal; each of them takes at least one character
_IN_CODE = re.compile(r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|[`{}]|[^/"'`{}]+|.""", re.DOTALL)
_IN_TEMPLATE = re.compile(r"`|\$\{|\\.|[^`$\\]+|\$", re.DOTALL)


class FrontEndError(Exception):
    """Modules that cannot be put together; seen by those who write them, never by users."""


@dataclass(frozen=True)
class Module:
    """One file: its text as the body of a function, the names it exports, and what it takes from whom."""

    body: str
    exports: tuple[str, ...]
    imports: tuple[tuple[str, tuple[str, ...]], ...]


def front_end(name: str) -> str:
    """The front end of one widget: the module ``front/{name}.js`` and all that it imports, as one ES module."""
    return linked(FOLDER / f"{name}.js")


def styles(name: str) -> str:
    """The styles of one widget: ``front/family.css``, and ``module.css`` of every module in it that has one."""
    files = ["family.css", *(str(Path(key).with_suffix(".css")) for key in _ordered(f"{name}.js", FOLDER, ()))]
    return "".join((FOLDER / one).read_text(encoding="utf-8") for one in files if (FOLDER / one).exists())


def worker(name: str) -> str:
    """The code of a web worker: the module ``front/{name}.js`` and all that it imports, which is given the worker."""
    return f'{_linked(f"{name}.js", FOLDER)}$modules["{name}.js"].default(self);\n'


def linked(entry: Path) -> str:
    """An ES module and all that it imports as one text, whose default export is that of the entry.

    Raises:
        FrontEndError: a form of import or export that is not taken, a file or an export that does not exist, a name
            given twice, or modules that import each other in a circle.
    """
    return f'{_linked(entry.name, entry.parent)}export default $modules["{entry.name}"].default;\n'


def _linked(entry: str, root: Path) -> str:
    parts = []
    for key in _ordered(entry, root, ()):
        module = _module(root, key)
        for source, names in module.imports:
            _require_exports(key, source, names, root)
        returned = ", ".join("default: $default" if name == "default" else name for name in module.exports)
        parts.append(f'$modules["{key}"] = (() => {{\n{module.body}\nreturn {{ {returned} }};\n}})();\n')
    if "default" not in _module(root, entry).exports:
        raise FrontEndError(f"expected {entry} to have an export default, which hosts of widgets call; found none.")
    return f"const $modules = {{}};\n{''.join(parts)}"


def _ordered(key: str, root: Path, path: tuple[str, ...]) -> list[str]:
    """The modules that one needs, each after those that it imports itself, and it as the last."""
    if key in path:
        circle = " > ".join((*path[path.index(key) :], key))
        raise FrontEndError(
            f"expected no module to need itself; found {circle}. Move what they share to another module."
        )
    needed = [one for source, _ in _module(root, key).imports for one in _ordered(source, root, (*path, key))]
    return list(dict.fromkeys([*needed, key]))


def _resolved(key: str, source: str) -> str:
    """The key of a module, which is its path in the folder, as ``source`` names it in the module ``key``."""
    parts: list[str] = []
    for part in [*key.split("/")[:-1], *source.split("/")]:
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _require_exports(key: str, source: str, names: tuple[str, ...], root: Path) -> None:
    exports = _module(root, source).exports
    missing = [name for name in names if name not in exports]
    if missing:
        raise FrontEndError(
            f"expected {source} to export {', '.join(missing)}, which {key} imports; it exports "
            f"{', '.join(exports) or 'nothing'}."
        )


@cache
def _module(root: Path, key: str) -> Module:
    try:
        text = (root / key).read_text(encoding="utf-8")
    except OSError:
        raise FrontEndError(f"expected a module at {root / key}; found no such file.") from None
    return parsed(text, key)


def parsed(text: str, key: str) -> Module:
    """The imports and exports of one module's text; ``key`` is its path in the folder."""
    body, at = [], 0
    exports: list[str] = []
    imports: list[tuple[str, tuple[str, ...]]] = []
    local: list[str] = []
    for start in _statements(text, key):
        body.append(text[at:start])
        if found := _IMPORT.match(text, start):
            pairs = [_IMPORTED.fullmatch(one.strip()) for one in found[1].split(",") if one.strip()]
            if not pairs or None in pairs:
                raise _refused(text, start, key)
            names = [(pair[1], pair[2] or pair[1]) for pair in pairs if pair]
            source = _resolved(key, found[2])
            imports.append((source, tuple(one for one, _ in names)))
            local += [alias for _, alias in names]
            taken = ", ".join(one if one == alias else f"{one}: {alias}" for one, alias in names)
            body.append(f'const {{ {taken} }} = $modules["{source}"];')
        elif found := _EXPORT.match(text, start):
            exports.append(found[1])
        elif found := _DEFAULT.match(text, start):
            exports.append("default")
            body.append("const $default = ")
        else:
            raise _refused(text, start, key)
        at = found.end()
    _require_once("exported", exports, key)
    _require_once("imported or declared", [*local, *_DECLARED.findall(_code_alone(text, key))], key)
    return Module(_without_comments("".join([*body, text[at:]]), key), tuple(exports), tuple(imports))


def _require_once(what: str, names: list[str], key: str) -> None:
    twice = {one for one in names if names.count(one) > 1}
    if twice:
        raise FrontEndError(f"expected each name to be {what} once; {key} has {', '.join(sorted(twice))} twice.")


def _statements(text: str, key: str) -> Iterator[int]:
    """Where import and export stand in the code, that is in no comment, string or template."""
    code = _code_alone(text, key)
    for found in _KEYWORD.finditer(code):
        if found.start() and code[found.start() - 1] != "\n":
            raise _refused(text, found.start(), key)
        yield found.start()


def _refused(text: str, start: int, key: str) -> FrontEndError:
    line = text.count("\n", 0, start) + 1
    found = text[start : text.find("\n", start)].strip() if "\n" in text[start:] else text[start:].strip()
    return FrontEndError(f"expected {_FORMS}; line {line} of {key} has: {found}")


def _code_alone(text: str, key: str) -> str:
    """The text with comments, strings and templates as blanks; the code inside of templates stays."""
    blank = re.compile(r"[^\n]")
    return "".join(token if kind == "code" else blank.sub(" ", token) for kind, token in _tokens(text, key))


def _without_comments(text: str, key: str) -> str:
    """The text without its comments, and without the lines that held nothing else."""
    kept: list[str] = []
    for kind, token in _tokens(text, key):
        if kind == "comment":
            before = kept.pop() if kept else "\n"
            line = before.rstrip(" ")
            kept.append(line[:-1] if line.endswith("\n") else before)
        else:
            kept.append(token)
    return "".join(kept)


def _tokens(text: str, key: str) -> Iterator[tuple[str, str]]:
    """The text in pieces: ("code", ...), ("comment", ...), and ("text", ...) for what stands in quotes."""
    inside: list[str] = []  # the templates and braces that are open
    at = 0
    while at < len(text):
        template = inside[-1:] == ["`"]
        found = (_IN_TEMPLATE if template else _IN_CODE).match(text, at)
        assert found
        token, at = found[0], found.end()
        if (token == "`" and template) or (token == "}" and inside):
            inside.pop()
        elif token in ("`", "{", "${"):
            inside.append(token)
        if template:
            yield "text", token
        elif len(token) > 1 and token[0] in "\"'/":
            yield "comment" if token[0] == "/" else "text", token
        else:
            yield "code", token
    if inside:
        raise FrontEndError(
            f"expected every brace and template of {key} to be closed; {len(inside)} are not. A quote or a brace in a "
            "regular expression reads as the beginning of one: write new RegExp(text)."
        )
