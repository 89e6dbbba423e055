"""The rules of the repository as data: what may include what, which words may not stand."""

# Folder: what its files may include (by prefix; the longest folder that matches a file counts).
# arch calls up only through handlers declared in its own contract headers.
LAYERS = {
    "libnemesis/base": ("libnemesis/base",),
    "kernel/abi": ("libnemesis/base", "kernel/abi"),
    "arch": ("libnemesis/base", "kernel/abi", "arch"),
    "kernel": ("libnemesis/base", "kernel/abi", "arch", "kernel"),
    "libnemesis": ("libnemesis", "kernel/abi"),
    "names": ("libnemesis", "kernel/abi", "names"),
    "drivers": ("libnemesis", "kernel/abi", "names", "drivers"),
    "domains": ("libnemesis", "kernel/abi", "names", "drivers", "domains"),
    "fs/core": ("libnemesis/base", "fs/core"),
    "fs": ("libnemesis", "kernel/abi", "names", "fs"),
}
# What every test may include besides.
TEST_SUPPORT = ("tests/support",)

# Pages that follow the code: what they name has to be there.
STORIES = ("docs/stories/", "docs/architecture.md", "docs/reading_order.md", "docs/hostile_input.md",
           "docs/tutorial.md")

# Folders with sources that need no README of their own.
NO_README = ("tools/cmake/config_site", "tools/sysroot/musl", ".ci")

# (regular expression, where it may not stand, why)
BANNED = (
    (r"/(work|home|root|Users|mnt)/[\w.-]", r".*", "a path of somebody's machine"),
    (r"https?://[\w.-]*(deb\.debian|pypi|npmjs|crates\.io|proxy\.golang|snapshot\.debian)", r".*",
     "the name of a package registry"),
    (r"\b(TODO|FIXME|XXX)\b(?!\s*\(?#\d)", r".*\.(h|cpp|c|S|py|ld|cmake)$",
     "work left open without the number of its issue"),
    (r"(?i)\b(claude|anthropic|openai|copilot|chatgpt|language model)\b", r".*",
     "a word that has no place here"),
    (r"(?i)\bupcalls?\b", r"(kernel|libnemesis|domains|drivers)/",
     "the word is activation (docs/vocabulary.md)"),
    (r"__(x86_64|amd64|aarch64|riscv)__", r"(?!arch/|tools/)",
     "the build picks the architecture's folder; no #ifdef"),
    (r"\basm\b\s*(volatile|goto|\()", r"(kernel|fs|names|drivers)/",
     "only arch/ has assembly"),
    (r"\busing namespace std\b", r".*\.h$", "a header must not open a namespace"),
)
FILE_NAMES_BANNED = r"(^|_)(utils?|misc|common|helpers?)(_|\.|$)"
# Files in which banned text is the subject.
NOT_SEARCHED = ("tools/tidy/rules.py", "tools/tidy/tidy_test.py", "LICENSE")

COLUMNS_MAX = 120
# Headers between the files of one program, which nobody else includes.
PRIVATE_HEADERS = ("domains/bench/", "domains/probes/", "domains/status/", "tests/")
BYTES_MAX = 400_000
