"""The reference: what each public name of the package is, read from the source of its module without importing it."""

import ast
import html
import io
import tokenize
from dataclasses import dataclass, field
from pathlib import Path

WIDEST = 80  # characters of a signature on one line


@dataclass(frozen=True)
class Argument:
    "An argument of a function, or a field of a dataclass."

    name: str  # With its stars
    kind: str  # The type, as written
    default: str
    text: str  # The comment beside it


@dataclass(frozen=True)
class Entry:
    "A public function, class, method or constant."

    name: str  # With its class, as in `Index.load`
    module: str
    signature: str  # Python, with types and defaults
    text: str  # The docstring, or the comment beside a constant
    line: int
    arguments: list[Argument] = field(default_factory=list)
    returns: str = ""  # What is said beside the type that is returned
    is_constant: bool = False

    @property
    def short(self) -> str:
        "The name, and the names of the arguments if it can be called."
        if not self.signature.startswith(f"{self.name}("):
            return self.name
        return f"{self.name}({', '.join(each.name for each in self.arguments)})"


def comments_of(source: str) -> dict[int, str]:
    "The comment of each line that ends with one."
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {each.start[0]: each.string.lstrip("# ") for each in tokens if each.type == tokenize.COMMENT}


def arguments_of(node: ast.FunctionDef, comments: dict[int, str]) -> list[Argument]:
    "The arguments of a function in order, but `self` and `cls`."
    given = node.args
    plain = given.posonlyargs + given.args
    defaults = [None] * (len(plain) - len(given.defaults)) + given.defaults
    rows = [("", *pair) for pair in zip(plain, defaults)]
    rows += [("*", given.vararg, None)] if given.vararg else []
    rows += [("", *pair) for pair in zip(given.kwonlyargs, given.kw_defaults)]
    rows += [("**", given.kwarg, None)] if given.kwarg else []
    return [
        Argument(
            stars + each.arg,
            ast.unparse(each.annotation) if each.annotation else "",
            ast.unparse(default) if default else "",
            comments.get((default or each).end_lineno, ""),
        )
        for stars, each, default in rows
        if each.arg not in ("self", "cls")
    ]


def fields_of(node: ast.ClassDef, comments: dict[int, str]) -> list[Argument]:
    "The public fields of a dataclass."
    return [
        Argument(
            each.target.id,
            ast.unparse(each.annotation),
            ast.unparse(each.value) if each.value else "",
            comments.get(each.end_lineno, ""),
        )
        for each in node.body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name) and each.target.id[0] != "_"
    ]


def signature_of(name: str, arguments: list[Argument], keyword_only: int | None, returns: str) -> str:
    "A call as Python writes it, on one line if it is short, otherwise with a line for each argument."
    parts = [
        each.name + (f": {each.kind}" if each.kind else "") + (f" = {each.default}" if each.default else "")
        for each in arguments
    ]
    if keyword_only is not None:
        parts.insert(keyword_only, "*")
    line = f"{name}({', '.join(parts)}){returns}"
    return line if len(line) <= WIDEST else f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){returns}"


def function_entry(node: ast.FunctionDef, name: str, module: str, comments: dict[int, str]) -> Entry:
    "What a function or method is."
    arguments = arguments_of(node, comments)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    bare = sum(1 for each in arguments if each.name in {one.arg for one in node.args.posonlyargs + node.args.args})
    keyword_only = bare if node.args.kwonlyargs and not node.args.vararg else None
    decorators = [ast.unparse(each) for each in node.decorator_list]
    if any(each.endswith("property") for each in decorators):
        signature = name + returns.replace(" -> ", ": ")
    else:
        signature = signature_of(name, arguments, keyword_only, returns)
    said = comments.get(node.returns.end_lineno, "") if node.returns else ""
    return Entry(name, module, signature, ast.get_docstring(node) or "", node.lineno, arguments, said)


def class_entries(node: ast.ClassDef, module: str, comments: dict[int, str]) -> list[Entry]:
    "What a class is, and each of its public methods."
    functions = [each for each in node.body if isinstance(each, ast.FunctionDef)]
    made = next((each for each in functions if each.name == "__init__"), None)
    is_data = any("dataclass" in ast.unparse(each) for each in node.decorator_list)
    arguments = arguments_of(made, comments) if made else fields_of(node, comments) if is_data else []
    bases = f"({', '.join(map(ast.unparse, node.bases))})" if node.bases else ""
    signature = signature_of(node.name, arguments, None, "") if arguments else f"class {node.name}{bases}"
    methods = [
        function_entry(each, f"{node.name}.{each.name}", module, comments)
        for each in functions
        if each.name[0] != "_" and not any(ast.unparse(one).endswith(".setter") for one in each.decorator_list)
    ]
    own = Entry(node.name, module, signature, ast.get_docstring(node) or "", node.lineno, arguments)
    return [own, *methods]


def constant_entries(node: ast.Assign | ast.AnnAssign, module: str, comments: dict[int, str]) -> list[Entry]:
    "What a constant is; a long value is left out."
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    value = ast.unparse(node.value) if node.value else ""
    value = value if len(value) <= WIDEST - 30 else "…"
    named = [each for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]
    said = comments.get(node.end_lineno, "")
    signature = f"{ast.unparse(targets[0])} = {value}"
    return [Entry(each.id, module, signature, said, node.lineno, is_constant=True) for each in named]


def entries(source: str, module: str = "") -> list[Entry]:
    "The public names of a module, or of a cell of a notebook, in the order of the source."
    found, comments = [], comments_of(source)
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            found.append(function_entry(node, node.name, module, comments))
        elif isinstance(node, ast.ClassDef):
            found += class_entries(node, module, comments)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            found += constant_entries(node, module, comments)
    return [each for each in found if each.name[0] != "_"]


def code(python: str) -> str:
    "Python in a cell of a table. Pandoc and CommonMark disagree about how to write a bar in a code span there."
    return f"<code>{html.escape(python, quote=False).replace('|', '&#124;')}</code>" if python else ""


def table(arguments: list[Argument]) -> str:
    "Markdown of what is said about the arguments; empty if nothing is."
    if not any(each.text for each in arguments):
        return ""
    rows = [f"| {code(each.name)} | {code(each.kind)} | {each.text.replace('|', '&#124;')} |" for each in arguments]
    return "\n".join(["| argument | type | |", "| --- | --- | --- |", *rows])


def entry_markdown(entry: Entry) -> str:
    "A heading, the signature, the docstring, and a table of the arguments."
    level = "###" if "." in entry.name else "##"
    parts = [
        f"{level} {entry.name} {{#{entry.name}}}",
        f"```python\n{entry.signature}\n```",
        entry.text,
        table(entry.arguments),
        f"Returns: {entry.returns}" if entry.returns else "",
    ]
    return "\n\n".join(part for part in parts if part)


def module_markdown(path: Path) -> tuple[str, str]:
    "What a module is for, and Markdown of its functions and classes, then its constants."
    source = path.read_text(encoding="utf-8")
    found = entries(source, path.stem)
    called = [entry_markdown(each) for each in found if not each.is_constant]
    constants = [each for each in found if each.is_constant]
    rows = [f"| [{code(each.signature)}]{{#{each.name}}} | {each.text.replace('|', '&#124;')} |" for each in constants]
    if rows:
        called.append("\n".join(["## Constants", "", "| constant | |", "| --- | --- |", *rows]))
    return ast.get_docstring(ast.parse(source)) or "", "\n\n".join(called)
