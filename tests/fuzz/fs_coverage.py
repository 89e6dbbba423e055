#!/usr/bin/env python3
"""How many branches of the file server's parsers the corpora of fuzz_fs_disk and fuzz_fs_agent reach.

Usage: tests/fuzz/fs_coverage.py CORPUS     with CORPUS/disk and CORPUS/agent; ends with 1 under 90 %

A parser is what looks at bytes that somebody else wrote before anything relies on them: the functions
below. Both ways of each condition count, as llvm-cov sees them; those of an ASSERT do not, for the
second is a fault of the program. Builds the two targets with counters in build/host-coverage.
"""

import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build" / "host-coverage"
LEAST = 90.0
PARSERS = {
    "disk": {
        "fs/core/recovery.cpp": "read_superblocks read_checkpoints load_segments summary_valid "
                                "read_summary verify_partial roll_forward look_for_damage apply_group",
        "fs/core/tree.cpp": "lookup_pointer",
        "fs/core/directory.cpp": "directory_at_least directory_find directory_descend",
        "fs/core/loads.cpp": "read_names",
        "fs/core/play.cpp": "index_record find_time next_frame",
    },
    "agent": {
        "fs/agent/message.cpp": "read_message may_be_new may_be_read sound_media sound_batch",
        "fs/agent/agent.cpp": "receive welcome answer content durable_up_to resolved",
        "fs/agent/media.cpp": "receive opened taken batch closed",
        "fs/server/media.cpp": "receive open batch fetch seek",
        "fs/server/server.cpp": "receive hello take_change take_read fill keys_of",
    },
}


def run(*command, **options):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True,
                            errors="replace", check=False, **options)
    if result.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{(result.stdout + result.stderr)[-3000:]}")
    return result.stdout


def build():
    flags = "-fprofile-instr-generate -fcoverage-mapping"
    if not (BUILD / "build.ninja").exists():
        run("cmake", "--preset", "host-asan", "-S", ROOT, "-B", BUILD, f"-DCMAKE_CXX_FLAGS={flags}")
    run("ninja", "-C", BUILD, "fuzz_fs_disk", "fuzz_fs_agent")


def export(target, corpus):
    program = BUILD / "bin" / f"fuzz_fs_{target}"
    raw, merged = BUILD / f"{target}.profraw", BUILD / f"{target}.profdata"
    run(program, "-runs=0", "-rss_limit_mb=4096", corpus / target, env=os.environ | {
        "LLVM_PROFILE_FILE": str(raw)})
    run("llvm-profdata-19", "merge", "-sparse", raw, "-o", merged)
    sources = [ROOT / name for name in PARSERS[target]]
    return json.loads(run("llvm-cov-19", "export", program, f"-instr-profile={merged}", *sources))


def name_of(mangled):
    """The function's own name: the last of the nested ones."""
    parts = re.findall(r"(\d+)([A-Za-z_]\w*)", mangled.split(":")[-1].split("ENK")[0])
    names, rest = [], mangled.split(":")[-1]
    match = re.match(r"_ZNK?|_Z", rest)
    rest = rest[match.end():] if match else rest
    while match := re.match(r"(\d+)", rest):
        length = int(match.group(1))
        names.append(rest[match.end():match.end() + length])
        rest = rest[match.end() + length:]
    return names[-1] if names else (parts[-1][1] if parts else mangled)


def measure(target, corpus):
    reached = total = 0
    for file, wanted in PARSERS[target].items():
        text = (ROOT / file).read_text().splitlines()
        counts, missing = {}, {}
        for function in export_of[target]["data"][0]["functions"]:
            name = name_of(function["name"])
            if name not in wanted.split() or not function["filenames"][0].endswith(file):
                continue
            counts.setdefault(name, {})
            for branch in function["branches"]:
                line, column, end, end_column, true, false, file_id = branch[:7]
                if file_id != 0 or "ASSERT" in text[line - 1]:
                    continue
                here = counts[name].setdefault((line, column, end, end_column), [0, 0])
                here[0] += true
                here[1] += false
        absent = set(wanted.split()) - set(counts)
        if absent:
            sys.exit(f"{file} has no {', '.join(sorted(absent))}: the list of parsers is not right")
        for name, branches in counts.items():
            for where, ways in sorted(branches.items()):
                for way, count in zip(("true", "false"), ways):
                    total += 1
                    reached += count > 0
                    if count == 0:
                        missing.setdefault(where[0], []).append(way)
        for line, ways in sorted(missing.items()):
            print(f"  {file}:{line}: never {' '.join(ways)}: {text[line - 1].strip()}")
    share = 100 * reached / total
    print(f"fuzz_fs_{target}: {reached} of {total} branches of the parsers, {share:.1f} %")
    return share


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    build()
    export_of = {target: export(target, pathlib.Path(sys.argv[1])) for target in PARSERS}
    shares = [measure(target, pathlib.Path(sys.argv[1])) for target in PARSERS]
    sys.exit(1 if min(shares) < LEAST else 0)
