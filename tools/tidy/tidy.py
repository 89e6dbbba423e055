#!/usr/bin/env python3
"""Checks the rules of the repository: layers, READMEs, docstrings, words, names, format.

tidy.py          all checks; a line for each problem; exit code 1 if there is any
tidy.py --fix    put C++ files into the format first
tidy.py --tests  for peg test: "ok NAME" or "not-ok NAME: ..." after each check's problems
"""

import argparse
import pathlib
import re
import shutil
import subprocess
import sys

import rules

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CODE = (".h", ".cpp", ".c", ".S")
TEXT = CODE + (".py", ".md", ".txt", ".ld", ".cmake", ".json", ".if", ".sh", "")


class Tree:
    """The files of the repository, as git sees them (new ones too), and their text."""

    def __init__(self, root=ROOT, names=None):
        self.root = root
        if names is None:
            listing = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=root,
                                     capture_output=True, text=True, check=True).stdout
            names = [name for name in listing.splitlines() if (root / name).is_file()]
        self.names = sorted(names)
        self.texts = {}

    def text(self, name):
        """The contents of a file; bytes that are no UTF-8 are replaced."""
        if name not in self.texts:
            self.texts[name] = (self.root / name).read_text(errors="replace")
        return self.texts[name]

    def with_suffix(self, *suffixes):
        """Names of files with one of the suffixes."""
        return [name for name in self.names if pathlib.PurePath(name).suffix in suffixes]


def layer_of(name):
    """The longest folder in the rules that holds a file, or None."""
    folders = [folder for folder in rules.LAYERS if name.startswith(folder + "/")]
    return max(folders, key=len, default=None)


def check_layers(tree):
    """Includes go only downward, and never into another folder's detail."""
    for name in tree.with_suffix(".h", ".cpp", ".c", ".S"):
        for number, line in enumerate(tree.text(name).splitlines(), 1):
            match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if not match:
                continue
            included = match.group(1)
            here = str(pathlib.PurePosixPath(name).parent)
            owner = included.split("/detail/")[0]
            if "/detail/" in included and not f"{here}/".startswith(f"{owner}/"):
                yield f"{name}:{number}: includes {included}, another folder's detail"
            layer = layer_of(name)
            if layer is None:
                continue
            if "/" not in included:
                yield f"{name}:{number}: include \"{included}\" by its path from the top"
                continue
            if not (tree.root / included.split("/")[0]).is_dir():
                continue  # Made by the build.
            allowed = rules.LAYERS[layer]
            if re.search(r"(_test|_test_\w+)\.(cpp|h)$", name):
                allowed += rules.TEST_SUPPORT
            if not any(included.startswith(folder + "/") for folder in allowed):
                yield f"{name}:{number}: {layer} may not include {included}"


def check_readmes(tree):
    """Every folder with sources has a README.md that says something."""
    folders = {str(pathlib.PurePosixPath(name).parent)
               for name in tree.with_suffix(".h", ".cpp", ".c", ".S", ".py", ".if")}
    for folder in sorted(folders - set(rules.NO_README) - {"."}):
        readme = f"{folder}/README.md"
        if readme not in tree.names:
            yield f"{folder}: has no README.md"
        elif len([line for line in tree.text(readme).splitlines() if line.strip()]) < 3:
            yield f"{readme}: says nothing"


TYPE = re.compile(r"(class|struct|union|enum(?: class)?)\s+(?:\[\[.*?\]\]\s*)?(\w+)[^;]*\{?$")
FUNCTION = re.compile(r"(?!using|namespace|static_assert|extern|return|typedef|#|//|ASSERT|friend)"
                      r"[A-Za-z_\[][^={;(]*?\b(~?\w+)\(")


def undocumented(text):
    """Pairs (line number, name) of types and functions at namespace scope without a comment above
    them or above the group of lines they are in, and not named in the header's first comment."""
    # Inside detail namespaces nothing is public.
    depth_skipped = 0
    first = re.match(r"(?:#pragma once\n)?\s*((?://.*\n)*)", text).group(1)
    described = set(re.findall(r"\w+", first))
    paragraph_has_comment = False
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped:
            paragraph_has_comment = False
            continue
        if re.match(r"namespace (\w+::)*detail\b", line):
            depth_skipped = 1
        if depth_skipped and re.match(r"}\s*// namespace (\w+::)*detail", line):
            depth_skipped = 0
        if stripped.startswith(("//", "/*", "*")):
            paragraph_has_comment = True
            continue
        if depth_skipped or line[0] in " \t}#":
            continue
        match = TYPE.match(line)
        name = match.group(2) if match else None
        if not match:
            match = FUNCTION.match(line)
            name = match.group(1) if match else None
            if name and (name.startswith("operator") or "operator" in line):
                continue
        if not name:
            continue
        if paragraph_has_comment or "///<" in line:
            described.add(name)
        elif name not in described:
            yield number, name


def check_docstrings(tree):
    """Types and functions that public headers offer are described; a program's own are not public."""
    for name in tree.with_suffix(".h"):
        if not layer_of(name) or name.startswith(rules.PRIVATE_HEADERS):
            continue
        text = tree.text(name)
        for number, what in undocumented(text):
            yield f"{name}:{number}: {what} is not described"
        body = text.removeprefix("#pragma once\n").lstrip()
        if not body.startswith(("//", "/*")):
            yield f"{name}:1: the header does not say what it is for"
        if "#pragma once" not in text:
            yield f"{name}:1: no #pragma once"


def check_words(tree):
    """Banned words, paths and file names."""
    for name in tree.names:
        if re.search(rules.FILE_NAMES_BANNED, pathlib.PurePosixPath(name).name):
            yield f"{name}: name the concept, not a drawer"
        if name in rules.NOT_SEARCHED or pathlib.PurePath(name).suffix not in TEXT:
            continue
        text = tree.text(name)
        for pattern, where, why in rules.BANNED:
            if not re.match(where, name):
                continue
            for match in re.finditer(pattern, text):
                number = text.count("\n", 0, match.start()) + 1
                yield f"{name}:{number}: \"{match.group(0).strip()}\": {why}"


def check_files(tree):
    """Nothing large, no stray white space, Python that compiles, lines of bearable length."""
    for name in tree.names:
        size = (tree.root / name).stat().st_size
        if size > rules.BYTES_MAX:
            yield f"{name}: {size} bytes; large files do not belong into the repository"
        suffix = pathlib.PurePath(name).suffix
        if suffix not in TEXT:
            continue
        text = tree.text(name)
        if text and not text.endswith("\n"):
            yield f"{name}: the last line has no end"
        for number, line in enumerate(text.splitlines(), 1):
            if line != line.rstrip() and suffix != ".md":
                yield f"{name}:{number}: white space at the end"
            if suffix == ".py" and len(line) > rules.COLUMNS_MAX:
                yield f"{name}:{number}: {len(line)} columns"
        if suffix == ".py":
            try:
                compile(text, name, "exec")
            except SyntaxError as error:
                yield f"{name}:{error.lineno}: {error.msg}"


def check_stories(tree):
    """What a story, or a page that tells of the code, names is there: files by path, functions by
    their last name."""
    told = [name for name in tree.with_suffix(".md")
            if name.startswith(rules.STORIES) and not name.endswith("README.md")]
    if not told:
        return
    known = set()
    for name in tree.with_suffix(*CODE, ".if"):
        known |= set(re.findall(r"[A-Za-z_]\w*", tree.text(name)))
    for name in told:
        for number, line in enumerate(tree.text(name).splitlines(), 1):
            for word in re.findall(r"`([^`]+)`", line):
                if re.match(r"[xX][._]", word):
                    continue  # any file
                if re.fullmatch(r"[\w./-]+\.(h|cpp|S|py|if|md)", word):
                    if not any(n == word or n.endswith("/" + word) for n in tree.names):
                        yield f"{name}:{number}: there is no file {word}"
                    continue
                match = re.fullmatch(r"(?:\w+::)*(\w+)(?:\(.*\))?", word)
                if match and match[1] not in known:
                    yield f"{name}:{number}: no source knows {word}"


def format_files(tree):
    """The files that clang-format looks after."""
    return [name for name in tree.with_suffix(".h", ".cpp", ".c")]


def check_format(tree):
    """C++ files look as clang-format makes them."""
    tool = shutil.which("clang-format-19")
    if not tool:
        yield "clang-format-19 is not installed"
        return
    names = format_files(tree)
    for start in range(0, len(names), 50):
        result = subprocess.run([tool, "--dry-run", "--ferror-limit=1", *names[start:start + 50]],
                                cwd=tree.root, capture_output=True, text=True, check=False)
        seen = set()
        for line in result.stderr.splitlines():
            match = re.match(r"(.*?):(\d+):\d+: (warning|error): code should be clang-formatted",
                             line)
            if match and match.group(1) not in seen:
                seen.add(match.group(1))
                yield f"{match.group(1)}:{match.group(2)}: not formatted (tools/tidy/tidy.py --fix)"


CHECKS = {"layers": check_layers, "readmes": check_readmes, "docstrings": check_docstrings,
          "words": check_words, "stories": check_stories, "files": check_files,
          "format": check_format}


def fix(tree):
    """Format all C++ files."""
    names = format_files(tree)
    if names:
        subprocess.run(["clang-format-19", "-i", *names], cwd=tree.root, check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fix", action="store_true", help="put C++ files into the format first")
    parser.add_argument("--tests", action="store_true", help="one line of verdict for each check")
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=", ".join(CHECKS))
    options = parser.parse_args()
    for name in options.checks:
        if name not in CHECKS:
            parser.error(f"no check is called {name}")
    tree = Tree()
    if options.fix:
        fix(tree)
        tree = Tree()
    bad = 0
    for name in options.checks or CHECKS:
        problems = list(CHECKS[name](tree))
        bad += len(problems)
        for problem in problems:
            print(f"  {problem}" if options.tests else problem)
        if options.tests:
            print(f"not-ok {name}: {len(problems)} problems" if problems else f"ok {name}")
    if not options.tests:
        print(f"tidy: {bad} problems" if bad else "tidy: all in order")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
