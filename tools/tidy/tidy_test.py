"""Goal: each check of tidy finds what it is for, and leaves good files alone.

Method: small trees in a temporary folder, one with a fault for each check.
"""

import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import tidy  # noqa: E402  (the folder is not a package)

GOOD = """#pragma once
// A thing, and how it is used.

namespace nemesis {

/// What is counted.
struct Thing {
    int count;
};

/// The thing of `count`.
Thing thing_of(int count);

}  // namespace nemesis
"""


class Checks(unittest.TestCase):
    def problems(self, check, **files):
        """What a check says about a tree of these files (`__` in names stands for a slash)."""
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            names = []
            for key, text in files.items():
                name = key.replace("__", "/").replace("_DOT_", ".")
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
                names.append(name)
            return list(tidy.CHECKS[check](tidy.Tree(root, names)))

    def test_an_include_upward_is_found(self):
        bad = self.problems("layers", kernel__a_DOT_h="", libnemesis__base__b_DOT_h=""
                            '#include "kernel/a.h"\n')
        self.assertEqual(len(bad), 1)
        self.assertIn("libnemesis/base may not include kernel/a.h", bad[0])

    def test_a_story_of_what_is_not_there_is_found(self):
        story = "`wake(now)` of `kernel/a.h` calls `Scheduler::step`; `gone` and `kernel/b.h` do not.\n"
        bad = self.problems("stories", kernel__a_DOT_h="void wake(int now);\nint step;\n",
                            docs__stories__s_DOT_md=story)
        self.assertEqual(bad, ["docs/stories/s.md:1: no source knows gone",
                               "docs/stories/s.md:1: there is no file kernel/b.h"])

    def test_an_include_downward_is_fine(self):
        self.assertEqual(self.problems("layers", libnemesis__base__a_DOT_h="", kernel__b_DOT_h=""
                                       '#include "libnemesis/base/a.h"\n'), [])

    def test_another_folders_detail_is_found(self):
        include = '#include "kernel/memory/detail/a.h"\n'
        bad = self.problems("layers", kernel__memory__detail__a_DOT_h="", kernel__b_DOT_h=include,
                            kernel__memory__c_DOT_h=include)
        self.assertEqual(len(bad), 1)
        self.assertIn("kernel/b.h", bad[0])

    def test_a_folder_without_readme_is_found(self):
        self.assertEqual(len(self.problems("readmes", kernel__a_DOT_h="")), 1)
        self.assertEqual(self.problems("readmes", kernel__a_DOT_h="",
                                       kernel__README_DOT_md="# kernel\n\nIs.\n\nSo.\n"), [])

    def test_an_undescribed_type_or_function_is_found(self):
        self.assertEqual(self.problems("docstrings", kernel__a_DOT_h=GOOD), [])
        for line in ("/// What is counted.\n", "/// The thing of `count`.\n"):
            self.assertEqual(len(self.problems("docstrings",
                                               kernel__a_DOT_h=GOOD.replace(line, ""))), 1, line)

    def test_a_header_without_purpose_is_found(self):
        bad = GOOD.replace("// A thing, and how it is used.\n", "")
        self.assertEqual(len(self.problems("docstrings", kernel__a_DOT_h=bad)), 1)

    def test_banned_words_and_names_are_found(self):
        self.assertEqual(len(self.problems("words", kernel__a_DOT_cpp="// an upcall\n")), 1)
        self.assertEqual(len(self.problems("words", a_DOT_md="see /home/me/x\n")), 1)
        self.assertEqual(len(self.problems("words", kernel__b_DOT_cpp="// TODO later\n")), 1)
        self.assertEqual(self.problems("words", kernel__b_DOT_cpp="// TODO(#12) later\n"), [])
        self.assertEqual(len(self.problems("words", kernel__list_utils_DOT_h="")), 1)
        self.assertEqual(len(self.problems("words", kernel__c_DOT_cpp='asm volatile("hlt");\n')), 1)
        self.assertEqual(self.problems("words", arch__c_DOT_cpp='asm volatile("hlt");\n'), [])

    def test_stray_white_space_and_broken_python_are_found(self):
        self.assertEqual(len(self.problems("files", a_DOT_cpp="int a; \n")), 1)
        self.assertEqual(len(self.problems("files", a_DOT_cpp="int a;")), 1)
        self.assertEqual(len(self.problems("files", a_DOT_py="def f(:\n")), 1)


if __name__ == "__main__":
    unittest.main()
