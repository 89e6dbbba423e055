#!/usr/bin/env python3
"""Row 11 leaves out every flush, comparison and ordering wait: none is written past it.

Goal: what fs/README.md says of row 11 is complete. Method: of each statement of fs/core, fs/agent and
fs/server that flushes, compares a checksum, generation, sequence, group, session or address, or waits,
it is asked whether mutated() is in it; if not, it must be named below with a reason, and what is named
must be there. Each mutant of fs/core/mutant.h is used, and in the table; no header uses one.
usage: mutant_sites.py [ROOT]
"""
import pathlib
import re
import sys

# What is not left out, and why: (reason, [(file, text that the statement contains)]).
EXCEPTIONS = [
    ("it makes a checksum and compares none", [
        ("core/array.cpp", "s.crc = crc32c_block(buffer)"),
        ("core/empty_store.h", "c.crc = crc32c(&c, block_bytes)"),
        ("core/files.cpp", "f->crc = copy_block(f->data, in,"),
        ("core/log.cpp", "s.crc = crc32c_block("),
        ("core/log.cpp", "c.crc = crc32c_block("),
        ("core/record.cpp", "u32 const crc = crc32c_block("),
        ("core/record.cpp", "sum.crc = crc32c_block("),
        ("core/tertiary.cpp", "sum.crc = crc32c_block(unit_)"),
        ("agent/message.cpp", "u32 const crc = crc32c(out, bytes)"),
    ]),
    ("a declaration, a definition, or the name of an operation", [
        ("core/array.cpp", "Task Store::flush_disks(Urgency urgency)"),
        ("core/crc32c.cpp", "u32 crc32c(void const* data"),
        ("core/crc32c.cpp", "u32 crc32c_block(u8 const* block)"),
        ("core/crc32c.cpp", "u32 copy_block(u8* to"),
        ("core/crc32c.cpp", "bool is_zero_block(u8 const* block)"),
        ("core/crc32c.h", "u32 crc32c(void const* data"),
        ("core/crc32c.h", "u32 crc32c_block(u8 const* block)"),
        ("core/crc32c.h", "u32 copy_block(u8* to"),
        ("core/crc32c.h", "bool is_zero_block(u8 const* block)"),
        ("core/store.h", "Task flush_disks(Urgency urgency"),
        ("core/files.cpp", "case Op::Fsync: done = op_fsync(r)"),
        ("agent/agent.h", "Op op = Op::Fsync"),
        ("agent/agent.cpp", "if (r.op == Op::Fsync) {"),
        ("agent/agent.cpp", "return r.op == Op::Fsync ||"),
    ]),
    ("what settle compares, where ArrivedSum is", [
        ("core/files.cpp", "u32 const crc = whole ? crc32c_block_before_copy("),
        ("core/tree.cpp", "settle(*f, crc32c_block(f->data))"),
        ("core/tree.cpp", "if (f && f->state == FrameState::Arrived && !overwrite) settle("),
    ]),
    ("a comparison of names, not of checksums", [
        ("core/directory.cpp", "std::memcmp(entry->name.text, name.text"),
        ("core/files.cpp", "std::memcmp(x.data + i + 4, name.text"),
        ("agent/cache.cpp", "std::memcmp(a.text, b.text"),
    ]),
    ("left out beside it, as JoinFlush, DepositFlush, FlushUnasked and UnitDurable", [
        ("server/server.cpp", "r.op = Op::Fsync"),
        ("server/server.cpp", "flush_.op = Op::Fsync"),
        ("server/alternate.cpp", "if (step_ == Step::Sync) submit(Op::Fsync, s)"),
        ("core/tertiary.cpp", "while (waits && !tertiary_answered_) co_await"),
    ]),
    ("the wait's parts are left out one by one in end_group and in flush", [
        ("core/log.cpp", "co_await end_group(group)"),
        ("core/log.cpp", "co_await flush();"),
    ]),
    ("an action, not a wait: what waits before and behind it is left out as CleanFreed and CleanBuried",
     [("core/cleaner.cpp", "if (entries > 0) co_await bury_garbage()")]),
    ("when a checkpoint is made, which the disks do not depend on", [
        ("core/array.cpp", "group_ > own_group_"),
    ]),
    ("which claim a superblock is counted for", [
        ("core/recovery.cpp", "while (n < claims && std::memcmp("),
    ]),
    ("the highest generation of a store, which SuperblockOther's choice is between", [
        ("core/recovery.cpp", "if (in->generation > claim[n].generation)"),
        ("core/recovery.cpp", "bool const newer = claim[n].generation >"),
    ]),
    ("which segment is cleaned first", [
        ("core/cleaner.cpp", "u64 const age = group_ > e.birth()"),
    ]),
    ("0 stands for: not begun, or free", [
        ("agent/cache.cpp", "bool const any = f.ref.generation == 0"),
        ("core/files.cpp", "if (r.target_group == 0)"),
        ("core/record.cpp", "if (r.target_group == 0)"),
        ("core/tertiary.cpp", "if (r.target_group != 0)"),
        ("server/server.cpp", "if (t.group == 0 || t.agent == s.agent) continue"),
        ("server/server.cpp", "if (t.group == 0 || t.agent == sessions_[session].agent"),
        ("server/server.cpp", "free += touched_[i].group == 0 ? 1 : 0"),
        ("server/server.cpp", "while (touched_[at].group != 0) ++at"),
        ("server/server.cpp", "touched_[touched_end_ - 1].group == 0"),
    ]),
    ("an application that was told something may have closed its set meanwhile: about memory, not about "
     "what a message says", [
        ("agent/media.cpp", "return s.state != State::Free && s.number == number"),
        ("agent/media.cpp", "if (s.number == number) go_on(s)"),
        ("agent/media.cpp", "while (s.state == State::Open && s.number == number && deliver_one"),
        ("agent/media.cpp", "if (s.number != number || !s.closing) return"),
    ]),
    ("when time is looked at next", [
        ("server/media.cpp", "any = any || (s.state != State::Free && !s.orphan && s.session == session)"),
    ]),
    ("which operations of the table are on their way: BuildsOnUndurable and GrantChanging use it", [
        ("server/server.cpp", "if (t.group != in_progress) want_flush()"),
        ("server/server.cpp", "if (t.group != in_progress || t.lane != &lane) continue"),
        ("server/server.cpp", "bool const changes = t.group == in_progress"),
    ]),
    ("the bounds of a number, not whose it is", [
        ("core/files.cpp", "number < first_pnode || number >= pnode_count_"),
        ("server/server.cpp", "m.incarnation >= u64{1} << 24"),
        ("core/record.cpp", "if (session == 0 || session > options_.media_streams)"),
        ("server/media.cpp", "m.number < media_sets_max"),
    ]),
    ("which error it is", [
        ("core/files.cpp", "fault_ = p.number == number ?"),
    ]),
    ("open files and groups of users: none of the log's", [
        ("core/files.cpp", "if (held_[at].pnode == number)"),
        ("core/files.cpp", "who.groups[i] == p.gid"),
        ("core/files.cpp", "who.groups[i] == r.attributes.gid"),
    ]),
    ("whether the unit in memory is got again; UnitThere is whether it is believed", [
        ("core/tertiary.cpp", "unit_there_ == name.value"),
    ]),
    ("waits for something to do, for room, or for a block that is not in memory: without it the task "
     "goes round for ever or uses what is not there; no write waits for it", [
        ("core/array.cpp", "while (!take_spare(&slot)) co_await"),
        ("core/cleaner.cpp", "if (!clean_wanted_ && !low) { co_await"),
        ("core/cleaner.cpp", "while (sort_used_) co_await"),
        ("core/cleaner.cpp", "if (!p) { co_await"),
        ("core/cleaner.cpp", "if (!f && fault_ == Error::None) { co_await"),
        ("core/log.cpp", "while (!gather_checkpoint()) { co_await"),
        ("core/lost.cpp", "if (!f && !lost) { co_await"),
        ("core/lost.cpp", "if (waits) co_await"),
        ("core/lost.cpp", "if (waits) { co_await"),
        ("core/lost.cpp", "while (!stopping() && !take_sort()) co_await"),
        ("core/record.cpp", "while (!round_due(s)) co_await"),
        ("core/record.cpp", "if (m.tail_bytes > 0 && s.error == Error::None) co_await"),
        ("core/recovery.cpp", "while (!grow(pnode_file, 2)"),
        ("core/recovery.cpp", "if (!all) co_await"),
        ("core/tertiary.cpp", "if (!next) { co_await"),
        ("core/tertiary.cpp", "if (waits) co_await"),
        ("core/tertiary.cpp", "while (!s->ended) co_await"),
        ("core/tertiary.cpp", "if (fault_ == Error::None) co_await"),
    ]),
    ("the same, in the midst of a loop that ends when there is something; what the loop waits for, "
     "where writes depend on it, is left out where it is asked for", [
        ("core/cleaner.cpp", "Task Store::until_may_change() { for (;;) { co_await"),
        ("core/cleaner.cpp", "Task Store::rotate_garbage() { for (;;) { co_await"),
        ("core/cleaner.cpp", "Task Store::until_checkpoint()"),
        ("core/cleaner.cpp", "Task Store::expand_tree(u64 number) { for (;;) { co_await"),
        ("core/cleaner.cpp", "Task Store::finish_victims() { while (pending_free_count_ > 0"),
        ("core/cleaner.cpp", "Task Store::relocate(bool* all_gone)"),
        ("core/files.cpp", "Task Store::reclaim_orphans()"),
        ("core/log.cpp", "Task Store::writer() { for (;;) { co_await"),
        ("core/log.cpp", "Task Store::writer() { for (;;) { if (health_ == Health::ReadOnly) {"),
        ("core/log.cpp", "Task Store::open_partial(u32 head) { for (;;) { co_await"),
        ("core/play.cpp", "Task Store::play_task() { for (;;) { co_await"),
        ("core/record.cpp", "while (!committed) { else { co_await"),
        ("core/recovery.cpp", "Task Store::apply_group(Summary* group, u32 count)"),
        ("core/tertiary.cpp", "Task Store::migrate(Move& move) { for ("),
        ("core/tertiary.cpp", "Task Store::recall(Move& move) { for ("),
    ]),
]

IDENTITY = (r"generation\d?\(?\)?|sequence|incarnation(?:_of)?|session_?|serial|birth\(\)|rebuild_birth|"
            r"group_?(?:\(\))?|groups|mount_count|crc_?(?:\(\))?|previous_crc_?|address|uuid|store|"
            r"applied|durable_?|durable_group_?(?:\(\))?|own_group_|number_?(?:\(\))?|life(?:\(\))?|"
            r"read_number_|ping_number_|deposited_|acknowledged_|effective_|recalled_|target_group|"
            r"unit_there_|log_sequence_|seek")
COMPARES = re.compile(
    r"(?:\b(?:" + IDENTITY + r")(?:\[[^\]]*\])?\)?)\s*(?:==|!=|<=|>=|<(?![<a-zA-Z:*]*>)|>(?!>))\s|"
    r"\s(?:==|!=|<=|>=|<|>)\s*!?\*?(?:[\w\]\[]+(?:\(\))?(?:\.|->))*(?:" + IDENTITY + r")\b(?![\w(]*\.)")
FLUSHES = re.compile(r"\bflush_disks\(|DiskOperation::Flush\b|Op::Fsync\b|\bco_await flush\(")
SUMS = re.compile(r"\bcrc32c(?:_block)?\(|\bcopy_block\(|\bmemcmp\(|is_zero_block\(")
WAITS = re.compile(r"\bco_await (?:changed\(\)|\w*batch|mended|end_group|eject|until_checkpoint|"
                   r"write_superblocks|write_checkpoint|bury_garbage)")

# A command has to be free before it can be begun; a batch's commands write into memory of the task
# until they have completed (that a flush waits for writes is left out where the two follow each
# other); and what is asserted is no comparison that decides anything.
GENERAL = re.compile(r"begin_io\(|^(?:\w+\) )?co_await (?:\w*batch|mended)\b|^ASSERT\(")


def statements(text):
    """(line, the openers of the blocks around it, text) of each statement.

    A statement ends at ; { or } outside parentheses and initializers; one that ends at { opens a
    block and is an opener.
    """
    text = re.sub(r"//[^\n]*", lambda m: " " * len(m.group()), text)
    text = re.sub(r'"(?:[^"\\\n]|\\.)*"', lambda m: '"' + " " * (len(m.group()) - 2) + '"', text)
    stack, openers, start = [], [], 0
    for at, c in enumerate(text):
        if c == "(":
            stack.append(c)
        elif c == ")" and stack and stack[-1] == "(":
            stack.pop()
        elif c == "{" and re.match(r"[\w>]", text[at - 1]):
            stack.append("i")
        elif c == "}" and stack and stack[-1] == "i":
            stack.pop()
        elif c in ";{}" and (c != ";" or not stack or stack[-1] == "b"):
            piece = text[start:at + 1]
            statement = " ".join(piece.split())
            if statement.strip(" ;{}"):
                begin = start + len(piece) - len(piece.lstrip())
                yield text.count("\n", 0, begin) + 1, tuple(openers), statement
            if c == "{":
                stack.append("b")
                openers.append(statement)
            elif c == "}" and stack and stack[-1] == "b":
                stack.pop()
                openers.pop()
            start = at + 1


def kind_of(statement):
    """What the statement does that row 11 leaves out, or None."""
    for name, pattern in (("flush", FLUSHES), ("checksum", SUMS), ("wait", WAITS),
                          ("identity", COMPARES)):
        if pattern.search(statement):
            return name
    return None


def excepted(name, statement, used):
    """Whether the statement is named above; notes which entry it was."""
    found = False
    for reason, entries in EXCEPTIONS:
        for entry in entries:
            if entry[0] == name and entry[1] in statement:
                used.add((reason, entry))
                found = True
    return found


def main():
    """Prints each statement that is neither a site nor excepted; exit code 1 if there is any."""
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else __file__).resolve()
    root = root if len(sys.argv) > 1 else root.parent.parent.parent
    problems, used, sites, uses = [], set(), 0, {}
    for folder in ("core", "agent", "server"):
        for path in sorted((root / "fs" / folder).glob("*.*")):
            if path.suffix not in (".cpp", ".h") or path.name == "mutant.h":
                continue
            text = path.read_text()
            name = f"{folder}/{path.name}"
            if path.suffix == ".h" and "mutated(" in text:
                problems.append(f"fs/{name}: a header uses mutated()")
            for mutant in re.findall(r"mutated\(\s*Mutant::(\w+)\)", text):
                uses[mutant] = uses.get(mutant, 0) + 1
            for line, openers, statement in statements(text):
                kind = kind_of(statement)
                if kind is None or GENERAL.search(statement):
                    continue
                if openers and "begin_io(" in openers[-1]:
                    continue
                # A wait is one thing with the loop or the condition that it stands in.
                whole = " ".join((*openers, statement)) if kind == "wait" else statement
                if "mutated(" in whole:
                    sites += 1
                elif not excepted(name, whole, used):
                    problems.append(f"fs/{name}:{line}: {kind} without mutated(): {whole[-200:]}")
    listed = re.findall(r"^    (\w+),", (root / "fs/core/mutant.h").read_text(), re.M)[1:-1]
    table = re.findall(r"\{Mutant::(\w+),\s*\"(\w+)\"",
                       (root / "fs/simulator/mutant_table.cpp").read_text())
    for mutant in listed:
        if mutant not in uses:
            problems.append(f"fs/core/mutant.h: {mutant} is used nowhere")
    if [name for name, _ in table] != listed or any(a != b for a, b in table):
        problems.append("fs/simulator/mutant_table.cpp: not the mutants of mutant.h, in its order")
    for reason, entries in EXCEPTIONS:
        for entry in entries:
            if (reason, entry) not in used:
                problems.append(f"mutant_sites.py: no longer there: {entry}")
    for problem in problems:
        print(problem)
    excepted_count = sum(len(entries) for _, entries in EXCEPTIONS)
    print(f"{sites} statements with mutated(), {len(listed)} mutants, {excepted_count} exceptions, "
          f"{len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
