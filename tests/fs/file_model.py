"""What a few clients do to a tree of files, and what may be left of it when the power went.

Each client works in a folder of its own and does its operations one after the other, so its part of
the tree has one state after each number of them. `judge` finds the number that a recovered tree
shows and holds it against what the clients were told.
"""

import copy
import dataclasses
import struct

PIECE = 65536  # a write within such a piece is atomic in the store
# The kernel's front cuts a write that begins within a page that it has not cached at that page's end.
PAGE = 4096
FILE_MAX = 3 * PIECE


def content(tag, count):
    """The bytes of a write: words that hold its tag and their place in it (script_load.cpp)."""
    words = (count + 7) // 8
    return struct.pack(f"<{words}Q", *range(tag << 32, (tag << 32) + words))[:count]


def steps(operation):
    """The parts of an operation that may survive one without the next."""
    if operation[0] == "write" and operation[2] % PAGE:
        first = min(PAGE - operation[2] % PAGE, operation[3])
        return [("piece", *operation[1:], 0, first), ("piece", *operation[1:], first, operation[3])]
    return [operation]


class Tree:
    """One client's files: paths to a "dir", ("link", target) or a list with a file's bytes in it,
    which several paths may share."""

    def __init__(self, names=None):
        self.names = names or {}

    def copy(self):
        return Tree(copy.deepcopy(self.names))

    def files(self):
        return [path for path, node in self.names.items() if isinstance(node, list)]

    def below(self, path):
        return [name for name in self.names if name.startswith(path + "/")]

    def folders(self):
        return [path for path, node in self.names.items() if node == "dir"]

    def size(self):
        return sum(len(one[0]) for one in {id(n): n for n in self.names.values()
                                           if isinstance(n, list)}.values())

    def apply(self, operation):
        """One operation that succeeds."""
        verb, *rest = operation
        names = self.names
        if verb == "mkdir":
            names[rest[0]] = "dir"
        elif verb == "create":
            names[rest[0]] = [bytearray()]
        elif verb in ("unlink", "rmdir"):
            del names[rest[0]]
        elif verb == "symlink":
            names[rest[1]] = ("link", rest[0])
        elif verb == "link":
            names[rest[1]] = names[rest[0]]
        elif verb == "rename":
            old, new = rest
            if names.get(new) is names[old]:
                return  # two names of one file: nothing happens
            moved = {new + name[len(old):]: names.pop(name) for name in [old, *self.below(old)]}
            names.update(moved)
        elif verb == "truncate":
            file = names[rest[0]]
            file[0] = file[0][:rest[1]] + bytes(max(0, rest[1] - len(file[0])))
        elif verb == "punch":
            data, at = names[rest[0]][0], rest[1]
            end = min(len(data), at + rest[2])
            data[at:end] = bytes(max(0, end - at))
        elif verb in ("write", "piece"):
            path, at, count, tag, *part = rest
            first, end = part or (0, count)
            names[path][0][at + first:at + end] = content(tag, count)[first:end]
        else:
            assert verb in ("fsync", "run"), verb

    def seen(self):
        """What somebody sees who reads it all, as read_archive tells it."""
        groups = {}
        for path, node in self.names.items():
            if isinstance(node, list):
                groups.setdefault(id(node), []).append(path)
        return {path: (bytes(node[0]), frozenset(groups[id(node)])) if isinstance(node, list)
                else node for path, node in self.names.items()}


def tree_of(seen):
    """A tree that shows what was seen."""
    nodes = {}
    return Tree({path: nodes.setdefault(node[1], [bytearray(node[0])])
                 if isinstance(node[0], bytes) else node for path, node in seen.items()})


class Client:
    """Makes operations that a tree allows, by chance."""

    def __init__(self, name, dice, tree, live_max, tag, fsyncs):
        self.name, self.dice, self.live_max, self.tag = name, dice, live_max, tag
        self.fsyncs = fsyncs  # how often, beside 96 other operations
        self.tree = tree
        self.made = 0

    def fresh(self, folder):
        self.made += 1
        return f"{folder}/{self.tag:x}_{self.made}"

    def next(self):
        operation = self.choose()
        self.tree.apply(operation)
        return operation

    def choose(self):
        dice, tree, top = self.dice, self.tree, self.name
        if top not in tree.names:
            return ("mkdir", top)
        files, folders = tree.files(), tree.folders()
        if tree.size() > self.live_max and dice.random() < 0.7:
            return ("unlink", dice.choice(files))
        verb = dice.choices(
            ("create", "write", "append", "fsync", "truncate", "punch", "unlink", "rename", "link",
             "symlink", "mkdir", "rmdir", "renamedir"),
            (12, 20, 30, self.fsyncs, 3, 3, 5, 6, 3, 2, 2, 1, 1))[0]
        folder = dice.choice(folders)
        if verb == "mkdir" and len(folders) < 6:
            return ("mkdir", self.fresh(top))
        if verb == "rmdir":
            empty = [one for one in folders if one != top and not tree.below(one)]
            if empty:
                return ("rmdir", dice.choice(empty))
        if verb == "renamedir" and len(folders) > 1:
            return ("rename", dice.choice([one for one in folders if one != top]), self.fresh(top))
        if verb == "create" or not files:
            return ("create", self.fresh(folder))
        path = dice.choice(files)
        data = tree.names[path][0]
        if verb == "truncate":
            return ("truncate", path, dice.randint(0, len(data) + 5000))
        if verb == "punch" and data:
            at = dice.randint(0, len(data) - 1)
            return ("punch", path, at, dice.randint(1, len(data) - at))
        if verb == "fsync":
            return ("fsync", path)
        if verb == "unlink":
            return ("unlink", path)
        if verb == "link":
            return ("link", path, self.fresh(folder))
        if verb == "symlink":
            return ("symlink", path, self.fresh(folder))
        if verb == "rename":
            onto = dice.choice(files) if dice.random() < 0.4 else self.fresh(folder)
            return ("rename", path, onto)
        self.tag += 1
        if verb == "write" and data:
            at = dice.randint(0, len(data) - 1)
        else:
            at = len(data)
        if at >= FILE_MAX:
            at = dice.randint(0, FILE_MAX - 1)
        count = dice.choice((100, 4096, 20000, PIECE, PIECE))
        return ("write", path, at, min(count, PIECE - at % PIECE), self.tag)


@dataclasses.dataclass
class Told:
    """What the machine said of one client's operations before it ended."""

    begun: int = 0          # operations begun
    ended: int = 0          # and ended
    durable: int = 0        # as many are covered by an fsync that came back
    after: dict = dataclasses.field(default_factory=dict)  # operation: what others had ended when it began


class Promises:
    """Reads the machine's lines about the operations that it was given."""

    def __init__(self, scripts):
        self.scripts = scripts  # client: operations
        self.told = {name: Told() for name in scripts}
        self.fsyncs = 0

    def line(self, text):
        """One line; what is wrong with it, or None. fsyncs counts the promises."""
        kind, name, number, *rest = text.split()
        told, number = self.told[name], int(number)
        if kind == "b":
            told.begun = number + 1
            told.after[number] = {other: one.ended for other, one in self.told.items()}
            return None
        told.ended = number + 1
        operation = self.scripts[name][number]
        if rest[0] != "0":
            return f"{name}: {' '.join(map(str, operation))}: error {rest[0]}"
        if operation[0] == "fsync":
            told.durable = number + 1
            # An fsync covers what others had ended before it began, too: there is one order.
            for other, ended in told.after[number].items():
                self.told[other].durable = max(self.told[other].durable, ended)
            self.fsyncs += 1
        return None


def differences(wanted, seen, count=5):
    """The first few paths that are not the same."""
    lines = []
    for path in sorted(set(wanted) | set(seen)):
        a, b = wanted.get(path), seen.get(path)
        if a == b:
            continue
        if a is None or b is None:
            lines.append(f"{path} should {'not be' if a is None else 'be'} there")
        elif isinstance(a[0], bytes) and isinstance(b[0], bytes) and a[0] != b[0]:
            at = next((i for i, (x, y) in enumerate(zip(a[0], b[0])) if x != y),
                      min(len(a[0]), len(b[0])))
            lines.append(f"{path}: {len(b[0])} bytes, not {len(a[0])}; differs from byte {at} on")
        else:
            lines.append(f"{path} is not what it should be")
    return "; ".join(lines[:count]) + (f"; {len(lines)} in all" if len(lines) > count else "")


def shown(base, script, mine):
    """How much of what was promised is there."""
    tree, last = base.copy(), 0 if base.seen() == mine else None
    for number, operation in enumerate(script, 1):
        tree.apply(operation)
        last = number if tree.seen() == mine else last
    return "shows no state between its operations" if last is None else f"shows {last} of them"


def judge(bases, promises, seen):
    """(what is wrong or None, {client: Tree} that was found, {client: operations survived}).

    Each client's part must be the state after some number of its operations: no more than it began,
    no fewer than it was promised; and what survives of one client must not have begun after
    something of another had ended that does not."""
    last, trees = {}, {}
    for name, base in bases.items():
        mine = {path: node for path, node in seen.items() if path.split("/")[0] == name}
        told, script = promises.told[name], promises.scripts[name]
        tree = base.copy()
        for operation in script[:told.durable]:
            tree.apply(operation)
        wanted, good = tree.seen(), []
        near = differences(wanted, mine)
        if not near:
            good.append(told.durable)
        for number in range(told.durable, told.begun):
            for step in steps(script[number]):
                tree.apply(step)
                near = differences(tree.seen(), mine)
                if not near:
                    good.append(number + 1)  # of an operation that is cut: begun at least
        if not good:
            after = "".join(f"\n  {number}: {' '.join(map(str, script[number]))}"
                            for number in range(max(0, told.durable - 2),
                                           min(told.begun, told.durable + 8)))
            return (f"{name} was promised {told.durable} operations of {told.begun} begun and "
                    f"{shown(base, script[:told.durable], mine)}: {differences(wanted, mine)}\n  "
                    f"after all that was begun: {near}{after}", None, None)
        last[name] = (min(good), max(good))
        trees[name] = tree_of(mine)
    for name, (first, _) in last.items():
        if first == 0:
            continue
        for other, ended in promises.told[name].after[first - 1].items():
            if other != name and other in last and ended > last[other][1]:
                return (f"{name} shows operation {first - 1}, which began after {ended} of {other} "
                        f"had ended, and {other} shows {last[other][1]}"), None, None
    strangers = {path.split("/")[0] for path in seen} - set(bases)
    if strangers:
        return f"nobody made {sorted(strangers)}", None, None
    return None, trees, {name: both[1] for name, both in last.items()}
